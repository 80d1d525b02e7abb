"""The attack scenario hidden in the events: a guessed password, a new API key, and its use against the tenancy.

Invariants:
- it happens every sixth day, so any seven days contain it completely at least once;
- it depends only on the seed and the day, and no other event has the attacker's address.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from ociaudit_emulator.event_shape import AuditedCall, EventValues, JsonObject, Outcome, encode_compact, shape_call
from ociaudit_emulator.event_types import INTERACTIVE_LOGIN, find_event_type
from ociaudit_emulator.randomness import draw_number, make_hex
from ociaudit_emulator.sign_ins import SignInAttempt, shape_sign_in
from ociaudit_emulator.tenancy import HOME_REGION, Principal, PrincipalKind, Tenancy
from ociaudit_emulator.time_formats import MINUTES_PER_DAY, format_minute

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
_RESPONDER = "ci-deployer"
# The operations of the burst, and the compartment of each.
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
class AttackScenario:
    """One occurrence of the attack: its day, its victim, and the attacker's address and key."""

    tenancy: Tenancy
    day: int
    victim: Principal
    address: str
    new_fingerprint: str


@dataclass(frozen=True, slots=True)
class ScenarioStep:
    """One event of the attack; `make` returns its bytes from the values drawn for it."""

    compartment_id: str
    minute_of_day: int
    name: str
    make: Callable[[EventValues], bytes]


def find_scenario(seed: int, tenancy: Tenancy, day: int) -> AttackScenario | None:
    """Return the attack on a day since 1970; None if there is none."""
    turn, rest = divmod(day - draw_number("story", seed), SCENARIO_PERIOD_DAYS)
    if rest:
        return None
    digits = make_hex(32, seed, "stolen", day)
    return AttackScenario(
        tenancy=tenancy,
        day=day,
        victim=tenancy.find_principal(_VICTIMS[turn % len(_VICTIMS)]),
        address=f"192.0.2.{1 + draw_number('attacker', seed, day) % 250}",
        new_fingerprint=":".join(digits[at : at + 2] for at in range(0, 32, 2)),
    )


def list_steps(scenario: AttackScenario) -> Sequence[ScenarioStep]:
    """Return the events of an attack in their order."""
    root = scenario.tenancy.id
    fail_sign_in = partial(_make_sign_in, scenario, "sso.authentication.failure")
    steps = [
        ScenarioStep(root, _START + number, f"failed sign-in {number}", fail_sign_in)
        for number in range(FAILED_SIGN_INS)
    ]
    steps += [
        ScenarioStep(root, _SIGNED_IN, "sign-in", partial(_make_sign_in, scenario, "sso.session.create.success")),
        ScenarioStep(root, _NEW_KEY, "new key", partial(_make_new_key, scenario)),
        ScenarioStep(root, _NEW_POLICY, "new policy", partial(_make_new_policy, scenario)),
        *_list_burst(scenario),
        ScenarioStep(root, _DISCOVERED, "key deleted", partial(_make_key_deletion, scenario)),
    ]
    return steps


def describe_scenario(seed: int, tenancy: Tenancy, now_minute: int) -> dict[str, object]:
    """Return the facts of the latest attack that is over, as a JSON object."""
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


def _list_burst(scenario: AttackScenario) -> list[ScenarioStep]:
    """Return the calls with the new key."""
    ids = {one.name: one.id for one in scenario.tenancy.compartments}
    steps = []
    for number in range(BURST_MINUTES * BURST_CALLS_PER_MINUTE):
        name, compartment = _BURST_CALLS[number % len(_BURST_CALLS)]
        minute = _BURST + number // BURST_CALLS_PER_MINUTE
        steps.append(
            ScenarioStep(ids[compartment], minute, f"burst {number}", partial(_make_burst_call, scenario, name))
        )
    return steps


def _make_sign_in(scenario: AttackScenario, domain_event: str, values: EventValues) -> bytes:
    """Return the event of a guess at the victim's password."""
    sign_in = SignInAttempt(
        scenario.tenancy.id,
        INTERACTIVE_LOGIN,
        scenario.victim.name,
        _BROWSER,
        domain_event,
        is_success=domain_event.endswith("success"),
    )
    return encode_compact(shape_sign_in(sign_in, replace(values, ip_address=scenario.address)))


def _make_new_key(scenario: AttackScenario, values: EventValues) -> bytes:
    """Return the event of an API key added to the victim."""
    own_values = replace(values, resource_id=scenario.victim.id)
    event = _shape_call(scenario, "UploadApiKey", _as_console_user(scenario), own_values)
    payload: JsonObject = {
        "fingerprint": scenario.new_fingerprint,
        "userId": scenario.victim.id,
        "lifecycleState": "ACTIVE",
    }
    return encode_compact(_with_payload(event, payload))


def _make_new_policy(scenario: AttackScenario, values: EventValues) -> bytes:
    """Return the event of a new policy that allows everything."""
    event = _shape_call(scenario, "CreatePolicy", _as_console_user(scenario), values)
    return encode_compact(_with_payload(event, {"name": "tmp", "statements": [POLICY_STATEMENT]}))


def _make_burst_call(scenario: AttackScenario, name: str, values: EventValues) -> bytes:
    """Return the event of a call with the new key."""
    caller = replace(scenario.victim, kind=PrincipalKind.USER, user_agent=_TOOL, fingerprint=scenario.new_fingerprint)
    return encode_compact(_shape_call(scenario, name, caller, values))


def _make_key_deletion(scenario: AttackScenario, values: EventValues) -> bytes:
    """Return the event of the key's deletion by someone else."""
    responder = scenario.tenancy.find_principal(_RESPONDER)
    own_values = replace(values, resource_id=scenario.victim.id, ip_address=responder.addresses[0])
    call = AuditedCall(scenario.tenancy.id, find_event_type("DeleteApiKey"), responder, Outcome("204"))
    return encode_compact(shape_call(call, own_values))


def _as_console_user(scenario: AttackScenario) -> Principal:
    """Return the victim as the caller of the attacker's console session."""
    return replace(scenario.victim, kind=PrincipalKind.CONSOLE, user_agent=_BROWSER)


def _shape_call(scenario: AttackScenario, name: str, caller: Principal, values: EventValues) -> JsonObject:
    """Return the event of a call from the attacker's address."""
    call = AuditedCall(scenario.tenancy.id, find_event_type(name), caller, Outcome("200"))
    return shape_call(call, replace(values, ip_address=scenario.address))


def _with_payload(event: JsonObject, payload: JsonObject) -> JsonObject:
    """Return the event with a payload in its response."""
    data = event["data"]
    if isinstance(data, dict):
        data["response"] = {**data["response"], "payload": payload}
    return event
