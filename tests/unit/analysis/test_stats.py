import json
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.analysis import activity as following
from ociaudit.analysis import stats as census_module
from ociaudit.analysis.activity import HOUR
from ociaudit.analysis.stats import BoundedCounter, EventStats, collect_stats
from ociaudit.events.fields import read_facts
from ociaudit.formats.base import Record
from support.told_events import tell, tell_change, tell_sign_in

# What may stand in an event where something else is expected.
ODD = st.none() | st.integers(-5, 5) | st.text(max_size=4) | st.lists(st.none(), max_size=1)
EVENTS = st.builds(
    lambda name, who, where, hours, status: tell(name, who, where, hours=hours, status=status),
    st.sampled_from(["ListUsers", "UploadApiKey", "Größe", ""]),
    st.sampled_from(["anna", "bob", None]),
    st.sampled_from(["10.0.0.1", "10.0.0.2,10.0.0.3", "", None]),
    st.floats(0, 100, allow_nan=False),
    st.sampled_from(["200", "404", "503", None, "x", "99999"]),
)
SIGN_INS = st.builds(
    tell_sign_in, st.sampled_from(["success", "failure"]), st.sampled_from(["anna", "bob"]), hours=st.floats(0, 100)
)


def make_records(events: list[bytes]) -> list[Record]:
    """Make records without an origin."""
    return [Record(event, None) for event in events]


def count(*events: bytes) -> EventStats:
    """Count events, one batch."""
    return collect_stats([make_records(list(events))])


def describe(stats: EventStats) -> dict:
    """Everything of a census that does not depend on the order of events."""
    return {
        "events": stats.events,
        "range": (stats.first, stats.last, stats.untimed),
        "counters": [
            Counter(tally.counts)
            for tally in (stats.types, stats.names, stats.principals, stats.addresses, stats.failures)
        ],
        "outcomes": stats.outcomes,
        "statuses": stats.statuses,
        "hours": (stats.hours, stats.failures_by_hour, stats.sign_ins),
        "principals": sorted(one._replace(partners=tuple(sorted(one.partners))) for one in stats.list_principals()),
        "addresses": sorted(one._replace(partners=tuple(sorted(one.partners))) for one in stats.list_addresses()),
    }


@given(st.lists(EVENTS | SIGN_INS, max_size=30), st.randoms())
def test_neither_batches_nor_order_change_the_counts(events: list[bytes], chance: random.Random) -> None:
    """However the events are cut into batches and shuffled, counts, first and last are the same."""
    records = make_records(events)
    whole = collect_stats([records])
    shuffled = chance.sample(records, len(records))
    splits = sorted(chance.sample(range(len(records) + 1), min(len(records), 3)))
    pieces = [shuffled[start:end] for start, end in zip([0, *splits], [*splits, len(records)], strict=True)]
    assert describe(collect_stats(pieces)) == describe(whole)


@given(st.lists(EVENTS | SIGN_INS, max_size=30))
def test_counts_are_those_of_an_own_look(events: list[bytes]) -> None:
    """Each event is counted once by outcome, status, hour, name and principal, and once for each address."""
    stats = collect_stats([make_records(events)])
    facts = [read_facts(event) for event in events]
    assert stats.events == len(events) == sum(stats.outcomes.values()) == sum(stats.statuses.values())
    assert sum(stats.hours.values()) + stats.untimed == len(events)
    assert stats.names.counts == Counter(one.details.event_name for one in facts if one.details.event_name)
    assert stats.addresses.counts == Counter(address for one in facts for address in one.addresses if address)
    for person in stats.list_principals():
        times = [one.instant for one in facts if one.identity.principal_name == person.name]
        assert (person.first, person.last) == (min(times), max(times))


@given(st.dictionaries(st.sampled_from(["eventType", "eventTime", "data", "eventId"]), ODD), ODD, ODD)
def test_no_event_is_too_odd(event: dict, identity: object, response: object) -> None:
    """An object with whatever in its fields counts as one event."""
    odd = json.dumps(event).encode()
    nested = json.dumps({"data": {"identity": identity, "response": response, "additionalDetails": identity}}).encode()
    assert count(odd, nested, b"{}").events == 3


def test_what_is_no_object_is_refused() -> None:
    """A value that is no JSON object is an error and not an event."""
    with pytest.raises(ValueError, match="not a JSON object"):
        count(b"[]")


def test_sign_ins_and_changes_are_counted_apart() -> None:
    """Sign-ins count by hour and outcome; changes to IAM count unless they failed; reading is none."""
    stats = count(
        tell_sign_in("failure", hours=1),
        tell_sign_in("success", hours=1.5),
        tell_change("UploadApiKey", hours=2),
        tell_change("UploadApiKey", hours=3, status="404"),
        tell_change("ListUsers", hours=3),
        tell("LaunchInstance", hours=4),
    )
    hour = stats.first // HOUR
    assert stats.sign_ins == {(hour, "failure"): 1, (hour, "success"): 1}
    assert stats.change_names.counts == {"UploadApiKey": 1}
    assert [(one.step.name, one.principal, one.address) for one in stats.changes] == [
        ("UploadApiKey", "anna", "198.51.100.1")
    ]


def test_a_change_from_several_addresses_is_one() -> None:
    """An event with a comma list of addresses is one change, and is followed from each."""
    stats = count(tell_change("CreatePolicy", where="10.0.0.1, 10.0.0.2"))
    assert len(stats.changes) == 1
    assert {pair for pair, activity in stats.activities.items() if activity.special.steps} == {
        ("anna", "10.0.0.1"),
        ("anna", "10.0.0.2"),
    }


def test_the_order_of_time_is_noticed() -> None:
    """Events that are earlier than the one before them are counted, across batches too."""
    early, late = make_records([tell("A", hours=1), tell("B", hours=2)])
    assert collect_stats([[early], [late]]).disordered == 0
    assert collect_stats([[late], [early]]).disordered == 1


def test_a_tally_forgets_the_rare_and_says_so() -> None:
    """With more values than fit the frequent ones stay, and all that was dropped is counted."""
    tally: BoundedCounter[int] = BoundedCounter(10)
    tally.add([1] * 50)
    for start in range(0, 1_000, 10):
        tally.add(range(start + 2, start + 12))
    assert len(tally.counts) <= 20
    assert tally.rank(1) == [(1, 50)]
    assert tally.is_capped
    assert tally.counts.total() + tally.dropped == 1_050


def test_traces_are_bounded_and_what_matters_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of failed sign-ins from made-up addresses does not push out somebody who changed something."""
    monkeypatch.setattr(following, "_TRACES_KEPT", 20)
    stats = count(tell_change("UploadApiKey", "eve", "192.0.2.9"))
    for number in range(30):
        flood = [tell_sign_in("failure", f"user{number}", f"10.{number}.0.{one}", hours=1) for one in range(10)]
        stats.add(make_records(flood))
    assert len(stats.activities) <= 50
    assert stats.following.dropped == 301 - len(stats.activities)
    assert ("eve", "192.0.2.9") in stats.activities


def test_made_up_times_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times all over the centuries do not fill the memory with hours."""
    monkeypatch.setattr(census_module, "_HOURS_KEPT", 20)
    stats = collect_stats([make_records([tell_sign_in("failure", hours=day * 24)]) for day in range(100)])
    assert len(stats.hours) <= 21
    assert len(stats.sign_ins) <= 21
