"""The story to be found: someone's password is guessed, and a new API key is used against the tenancy.

Owns: when it happens, who is in it, and its events in their order.
Must not: touch ordinary events.

Invariants:
- it happens every sixth day, so any seven days hold it whole at least once;
- it depends on the seed and the day alone, and its attacker's address is used by nobody else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from ociaudit_emulator.event_shape import Call, Fill, JsonObject, Outcome, shape_call, write_compact
from ociaudit_emulator.event_types import INTERACTIVE_LOGIN, find_event_type
from ociaudit_emulator.instants import MINUTES_PER_DAY, format_minute
from ociaudit_emulator.randomness import draw_number, make_hex
from ociaudit_emulator.sign_ins import SignIn, shape_sign_in
from ociaudit_emulator.tenancy import HOME_REGION, Principal, PrincipalKind, Tenancy

SCENARIO_PERIOD_DAYS = 6
FAILED_SIGN_INS = 9
BURST_MINUTES, BURST_CALLS_PER_MINUTE = 24, 5
POLICY_STATEMENT = "Allow any-user to manage all-resources in tenancy"
_START, _SIGNED_IN, _NEW_KEY, _NEW_POLICY, _BURST, _DISCOVERED = 842, 856, 859, 864, 870, 920
_BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:115.0) Gecko/20100101 Firefox/115.0"
_TOOL = "Oracle-PythonSDK/2.104.1 (python 3.9.2; x86_64-Linux) python-requests/2.25.1"
_VICTIMS = (
    "anna.berg@example.com",
    "jörg.müller@example.com",
    "mei.tanaka@example.com",
    "tom.okafor@example.com",
)
_RESCUER = "ci-deployer"
# What the burst asks, and where.
_BURST_CALLS = (
    ("ListUsers", "root"),
    ("ListCompartments", "root"),
    ("ListPolicies", "root"),
    ("ListInstances", "payments"),
    ("ListBuckets", "data-lake"),
    ("GetBucket", "data-lake"),
    ("CreatePreauthenticatedRequest", "data-lake"),
    ("GetSecretBundle", "security"),
    ("GenerateAutonomousDatabaseWallet", "payments"),
    ("ListApiKeys", "root"),
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """Who is in one telling of the story, and on which day."""

    tenancy: Tenancy
    day: int
    victim: Principal
    address: str
    new_fingerprint: str


@dataclass(frozen=True, slots=True)
class Step:
    """One event of the story."""

    compartment_id: str
    minute_of_day: int
    name: str
    write: Callable[[Fill], bytes]


def find_scenario(seed: int, tenancy: Tenancy, day: int) -> Scenario | None:
    """Find the story that happens on a day since 1970, if one does."""
    turn, rest = divmod(day - draw_number("story", seed), SCENARIO_PERIOD_DAYS)
    if rest:
        return None
    digits = make_hex(32, seed, "stolen", day)
    return Scenario(
        tenancy=tenancy,
        day=day,
        victim=tenancy.find_principal(_VICTIMS[turn % len(_VICTIMS)]),
        address=f"192.0.2.{1 + draw_number('attacker', seed, day) % 250}",
        new_fingerprint=":".join(digits[at : at + 2] for at in range(0, 32, 2)),
    )


def list_steps(scenario: Scenario) -> Sequence[Step]:
    """List the story's events in their order."""
    root = scenario.tenancy.id
    steps = [
        Step(root, _START + number, f"failed sign-in {number}", partial(_write_failed_sign_in, scenario))
        for number in range(FAILED_SIGN_INS)
    ]
    steps += [
        Step(root, _SIGNED_IN, "sign-in", partial(_write_sign_in, scenario)),
        Step(root, _NEW_KEY, "new key", partial(_write_new_key, scenario)),
        Step(root, _NEW_POLICY, "new policy", partial(_write_new_policy, scenario)),
        *_list_burst(scenario),
        Step(root, _DISCOVERED, "key deleted", partial(_write_rescue, scenario)),
    ]
    return steps


def describe_scenario(seed: int, tenancy: Tenancy, now_minute: int) -> dict[str, object]:
    """Tell the facts of the last story that is over by now."""
    day = now_minute // MINUTES_PER_DAY
    if now_minute % MINUTES_PER_DAY <= _DISCOVERED:
        day -= 1
    scenario = find_scenario(seed, tenancy, day)
    while scenario is None:
        day -= 1
        scenario = find_scenario(seed, tenancy, day)
    counts: dict[str, int] = {}
    for step in list_steps(scenario):
        counts[step.compartment_id] = counts.get(step.compartment_id, 0) + 1
    return {
        "region": HOME_REGION,
        "startTime": format_minute(day * MINUTES_PER_DAY + _START),
        "endTime": format_minute(day * MINUTES_PER_DAY + _DISCOVERED + 1),
        "periodDays": SCENARIO_PERIOD_DAYS,
        "victimId": scenario.victim.id,
        "victimName": scenario.victim.name,
        "address": scenario.address,
        "newFingerprint": scenario.new_fingerprint,
        "policyStatement": POLICY_STATEMENT,
        "failedSignIns": FAILED_SIGN_INS,
        "burstCalls": BURST_MINUTES * BURST_CALLS_PER_MINUTE,
        "eventsByCompartment": counts,
    }


def _list_burst(scenario: Scenario) -> list[Step]:
    """List the calls that are made with the new key."""
    ids = {one.name: one.id for one in scenario.tenancy.compartments}
    steps = []
    for number in range(BURST_MINUTES * BURST_CALLS_PER_MINUTE):
        name, target = _BURST_CALLS[number % len(_BURST_CALLS)]
        minute = _BURST + number // BURST_CALLS_PER_MINUTE
        steps.append(Step(ids[target], minute, f"burst {number}", partial(_write_burst_call, scenario, name)))
    return steps


def _write_failed_sign_in(scenario: Scenario, fill: Fill) -> bytes:
    """Write a guess at the victim's password that was wrong."""
    name = "sso.authentication.failure"
    sign_in = SignIn(scenario.tenancy.id, INTERACTIVE_LOGIN, scenario.victim.name, _BROWSER, name, is_success=False)
    return write_compact(shape_sign_in(sign_in, replace(fill, ip_address=scenario.address)))


def _write_sign_in(scenario: Scenario, fill: Fill) -> bytes:
    """Write the guess that was right."""
    name = "sso.session.create.success"
    sign_in = SignIn(scenario.tenancy.id, INTERACTIVE_LOGIN, scenario.victim.name, _BROWSER, name, is_success=True)
    return write_compact(shape_sign_in(sign_in, replace(fill, ip_address=scenario.address)))


def _write_new_key(scenario: Scenario, fill: Fill) -> bytes:
    """Write that a key was added to the victim's."""
    own = replace(fill, resource_id=scenario.victim.id)
    event = _shape_call(scenario, "UploadApiKey", _in_browser(scenario), own)
    payload: JsonObject = {
        "fingerprint": scenario.new_fingerprint,
        "userId": scenario.victim.id,
        "lifecycleState": "ACTIVE",
    }
    return write_compact(_with_payload(event, payload))


def _write_new_policy(scenario: Scenario, fill: Fill) -> bytes:
    """Write that a policy was made that allows everything."""
    event = _shape_call(scenario, "CreatePolicy", _in_browser(scenario), fill)
    return write_compact(_with_payload(event, {"name": "tmp", "statements": [POLICY_STATEMENT]}))


def _write_burst_call(scenario: Scenario, name: str, fill: Fill) -> bytes:
    """Write a call with the new key."""
    caller = replace(scenario.victim, kind=PrincipalKind.USER, user_agent=_TOOL, fingerprint=scenario.new_fingerprint)
    return write_compact(_shape_call(scenario, name, caller, fill))


def _write_rescue(scenario: Scenario, fill: Fill) -> bytes:
    """Write that someone else deleted the key."""
    rescuer = scenario.tenancy.find_principal(_RESCUER)
    own = replace(fill, resource_id=scenario.victim.id, ip_address=rescuer.addresses[0])
    call = Call(scenario.tenancy.id, find_event_type("DeleteApiKey"), rescuer, Outcome("204"))
    return write_compact(shape_call(call, own))


def _in_browser(scenario: Scenario) -> Principal:
    """Give the victim as the attacker uses the console."""
    return replace(scenario.victim, kind=PrincipalKind.CONSOLE, user_agent=_BROWSER)


def _shape_call(scenario: Scenario, name: str, caller: Principal, fill: Fill) -> JsonObject:
    """Shape a call from the attacker's address."""
    call = Call(scenario.tenancy.id, find_event_type(name), caller, Outcome("200"))
    return shape_call(call, replace(fill, ip_address=scenario.address))


def _with_payload(event: JsonObject, payload: JsonObject) -> JsonObject:
    """Put what was answered into the event."""
    data = event["data"]
    if isinstance(data, dict):
        data["response"] = {**data["response"], "payload": payload}
    return event
