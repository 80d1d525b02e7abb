import json

import pytest

from ociaudit_emulator.scenario import BURST_CALLS_PER_MINUTE, BURST_MINUTES, FAILED_SIGN_INS, POLICY_STATEMENT
from ociaudit_emulator.time_formats import format_minute, parse_time_ms
from support.emulated_service import NOW_SECONDS, EmulatedService


def collect_scenario_events(service, scenario):
    """Every event from the attacker's address in the last seven days, with its compartment."""
    end = NOW_SECONDS // 60
    window = (format_minute(end - 7 * 1440), format_minute(end))
    found = []
    for one in service.tenancy.compartments:
        if one.is_forbidden:
            continue
        events = service.list_all_events(one.id, *window)
        found += [(one.id, json.loads(event)) for event in events if scenario["address"].encode() in event]
    return sorted(found, key=lambda pair: pair[1]["eventTime"])


@pytest.fixture
def scenario(service):
    """The facts of the attack from the control endpoint."""
    return json.loads(service.assembly.control.respond("GET", "/_emulator/tenancy", b"").body)["story"]


def test_the_attack_can_be_found_by_its_address(service, scenario):
    """Guesses, the sign-in, the new key, the policy and the burst come from one address, in this order."""
    events = [event for _, event in collect_scenario_events(service, scenario)]
    names = [event["data"]["eventName"] for event in events]
    burst = BURST_MINUTES * BURST_CALLS_PER_MINUTE
    opening = ["InteractiveLogin"] * (FAILED_SIGN_INS + 1) + ["UploadApiKey", "CreatePolicy"]
    assert names[: len(opening)] == opening
    assert len(names) == len(opening) + burst
    outcomes = [event["data"]["additionalDetails"]["eventId"] for event in events[: FAILED_SIGN_INS + 1]]
    assert outcomes == ["sso.authentication.failure"] * FAILED_SIGN_INS + ["sso.session.create.success"]
    assert POLICY_STATEMENT in json.dumps(events[FAILED_SIGN_INS + 2]["data"]["response"]["payload"])
    assert all(scenario["newFingerprint"] in event["data"]["identity"]["credentials"] for event in events[-burst:])


def test_the_facts_of_the_attack_match_the_events(service, scenario):
    """The control endpoint returns the attack's compartments, time, counts and victim as in the events."""
    events = collect_scenario_events(service, scenario)
    start, end = (parse_time_ms(scenario[name]) for name in ("startTime", "endTime"))
    assert all(start <= parse_time_ms(event["eventTime"]) < end for _, event in events)
    # The deletion of the key, which ends the attack, has another address.
    assert sum(scenario["eventsByCompartment"].values()) == len(events) + 1
    assert len(scenario["eventsByCompartment"]) > 2
    victims = {event["data"]["identity"]["principalName"] for _, event in events}
    assert victims == {scenario["victimName"]}


@pytest.mark.parametrize("hours", range(0, 24 * 7, 5))
def test_any_seven_days_contain_a_whole_attack(hours):
    """At any time, the last seven days contain an attack from its first event to its last."""
    now_ms = (NOW_SECONDS + hours * 3600) * 1000
    service = EmulatedService(now_ms=now_ms)
    facts = json.loads(service.assembly.control.respond("GET", "/_emulator/tenancy", b"").body)["story"]
    assert now_ms - 7 * 86_400_000 <= parse_time_ms(facts["startTime"])
    assert parse_time_ms(facts["endTime"]) <= now_ms
