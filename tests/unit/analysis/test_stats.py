import json
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.analysis import activity as activity_module
from ociaudit.analysis import stats as stats_module
from ociaudit.analysis.activity import HOUR
from ociaudit.analysis.stats import BoundedCounter, EventStats
from ociaudit.events.fields import read_facts
from support.sample_events import collect_stats, encode_change, encode_event, encode_sign_in, make_records

# What an event may hold where something else is expected.
ODD = st.none() | st.integers(-5, 5) | st.text(max_size=4) | st.lists(st.none(), max_size=1)
EVENTS = st.builds(
    lambda name, who, where, hours, status: encode_event(name, who, where, hours=hours, status=status),
    st.sampled_from(["ListUsers", "UploadApiKey", "Größe", ""]),
    st.sampled_from(["anna", "bob", None]),
    st.sampled_from(["10.0.0.1", "10.0.0.2,10.0.0.3", "", None]),
    st.floats(0, 100, allow_nan=False),
    st.sampled_from(["200", "404", "503", None, "x", "99999"]),
)
SIGN_INS = st.builds(
    encode_sign_in, st.sampled_from(["success", "failure"]), st.sampled_from(["anna", "bob"]), hours=st.floats(0, 100)
)


def count(*events: bytes) -> EventStats:
    """Count events as one batch."""
    return collect_stats(events)


def describe(stats: EventStats) -> dict:
    """Return everything in the statistics that does not depend on the order of events."""
    return {
        "events": stats.events,
        "range": (stats.first, stats.last, stats.untimed),
        "counters": [Counter(counter.counts) for counter in (stats.types, stats.names, stats.failures)],
        "outcomes": stats.outcomes,
        "statuses": stats.statuses,
        "sign-ins": stats.sign_ins,
        "principals": sorted(one._replace(partners=tuple(sorted(one.partners))) for one in stats.list_actors()[0]),
        "addresses": sorted(one._replace(partners=tuple(sorted(one.partners))) for one in stats.list_actors()[1]),
    }


@given(st.lists(EVENTS | SIGN_INS, max_size=30), st.randoms())
def test_neither_batches_nor_order_change_the_counts(events: list[bytes], rng: random.Random) -> None:
    """However events are split into batches and shuffled, the counts and the first and last times are the same."""
    shuffled = rng.sample(events, len(events))
    splits = sorted(rng.sample(range(len(events) + 1), min(len(events), 3)))
    batches = [shuffled[start:end] for start, end in zip([0, *splits], [*splits, len(events)], strict=True)]
    assert describe(collect_stats(*batches)) == describe(collect_stats(events))


@given(st.lists(EVENTS | SIGN_INS, max_size=30))
def test_counts_match_the_events(events: list[bytes]) -> None:
    """Each event is counted once by outcome, status, hour, name and principal, and once for each address."""
    stats = collect_stats(events)
    facts = [read_facts(event) for event in events]
    assert stats.events == len(events) == sum(stats.outcomes.values()) == sum(stats.statuses.values())
    assert stats.names.counts == Counter(one.details.event_name for one in facts if one.details.event_name)
    addresses = {one.name: one.events for one in stats.list_actors()[1]}
    assert addresses == Counter(address for one in facts for address in one.addresses if address)
    for actor in stats.list_actors()[0]:
        times = [one.instant for one in facts if one.identity.principal_name == actor.name]
        assert (actor.first, actor.last) == (min(times), max(times))


@given(st.dictionaries(st.sampled_from(["eventType", "eventTime", "data", "eventId"]), ODD), ODD, ODD)
def test_fields_of_any_type_are_accepted(event: dict, identity: object, response: object) -> None:
    """A JSON object with any values in its fields counts as one event."""
    odd = json.dumps(event).encode()
    nested = json.dumps({"data": {"identity": identity, "response": response, "additionalDetails": identity}}).encode()
    assert count(odd, nested, b"{}").events == 3


def test_a_value_that_is_not_an_object_is_rejected() -> None:
    """A value that is not a JSON object is an error, not an event."""
    with pytest.raises(ValueError, match="not a JSON object"):
        count(b"[]")


def test_sign_ins_and_changes_are_counted_separately() -> None:
    """Sign-ins are counted by hour and outcome, changes to IAM only if they did not fail, and reads as neither."""
    stats = count(
        encode_sign_in("failure", hours=1),
        encode_sign_in("success", hours=1.5),
        encode_change("UploadApiKey", hours=2),
        encode_change("UploadApiKey", hours=3, status="404"),
        encode_change("ListUsers", hours=3),
        encode_event("LaunchInstance", hours=4),
    )
    hour = stats.first // HOUR
    assert stats.sign_ins == {(hour, "failure"): 1, (hour, "success"): 1}
    assert stats.change_names.counts == {"UploadApiKey": 1}
    assert [(one.step.name, one.principal, one.address) for one in stats.changes] == [
        ("UploadApiKey", "anna", "198.51.100.1")
    ]


def test_a_change_from_several_addresses_is_one() -> None:
    """An event with a comma-separated list of addresses is one change, and an activity of each address."""
    stats = count(encode_change("CreatePolicy", where="10.0.0.1, 10.0.0.2"))
    assert len(stats.changes) == 1
    assert {pair for pair, activity in stats.activities.items() if activity.notable.steps} == {
        ("anna", "10.0.0.1"),
        ("anna", "10.0.0.2"),
    }


def test_events_out_of_order_are_counted() -> None:
    """An event that is earlier than the previous one is counted, across batches too."""
    early, late = encode_event("A", hours=1), encode_event("B", hours=2)
    assert collect_stats([early], [late]).disordered == 0
    assert collect_stats([late], [early]).disordered == 1


def test_a_bounded_counter_drops_rare_values_and_counts_them() -> None:
    """With more values than the limit allows, the frequent ones stay and the dropped ones are counted."""
    counter: BoundedCounter[int] = BoundedCounter(10)
    counter.add([1] * 50)
    for start in range(0, 1_000, 10):
        counter.add(range(start + 2, start + 12))
    assert len(counter.counts) <= 20
    assert counter.rank(1) == [(1, 50)]
    assert counter.is_capped
    assert counter.counts.total() + counter.dropped == 1_050


def test_activities_are_bounded_and_the_notable_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of failed sign-ins from many addresses does not displace a principal that made a change."""
    monkeypatch.setattr(activity_module, "_ACTIVITIES_KEPT", 20)
    stats = count(encode_change("UploadApiKey", "eve", "192.0.2.9"))
    for number in range(30):
        flood = [encode_sign_in("failure", f"user{number}", f"10.{number}.0.{one}", hours=1) for one in range(10)]
        stats.add(make_records(flood))
    assert len(stats.activities) <= 50
    assert stats.tracker.dropped == 301 - len(stats.activities)
    assert ("eve", "192.0.2.9") in stats.activities


def test_hours_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forged times spread over centuries do not fill the memory with hours."""
    monkeypatch.setattr(stats_module, "_HOURS_KEPT", 20)
    stats = collect_stats(*([encode_sign_in("failure", hours=day * 24)] for day in range(100)))
    assert len(stats.sign_ins) <= 21


@pytest.mark.parametrize(
    ("principals", "addresses", "expected"),
    [(20, 20, (False, False)), (21, 1, (True, False)), (1, 21, (False, True)), (30, 40, (True, True))],
)
@pytest.mark.parametrize("per_batch", [1, 7])
def test_too_many_actors_are_noted(
    monkeypatch: pytest.MonkeyPatch, principals: int, addresses: int, expected, per_batch: int
) -> None:
    """More than twice as many principals or addresses as are kept count as too many, whatever was dropped before."""
    monkeypatch.setattr(activity_module, "_ACTIVITIES_KEPT", 10)
    monkeypatch.setattr(stats_module, "_ACTORS_KEPT", 10)
    events = [b"{}", *(encode_event("X", f"u{one % principals}", f"a{one % addresses}") for one in range(60))]
    stats = collect_stats(*(events[at : at + per_batch] for at in range(0, len(events), per_batch)))
    assert (stats.are_principals_capped, stats.are_addresses_capped) == expected
