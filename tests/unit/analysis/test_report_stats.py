from __future__ import annotations

import json
import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.analysis.detections import find_detections
from ociaudit.analysis.report_data import make_report_data
from ociaudit.analysis.report_stats import (
    EPOCH,
    FAILURE,
    LONGEST_EVENT_BYTES,
    MOST_BYTES,
    MOST_EVENTS,
    MOST_RESERVED_BYTES,
    NOTABLE,
    OTHER,
    SERIES,
    STEPS_SECONDS,
    WATCHED,
    EventSample,
    ReportStats,
    SampledEvent,
    TimeBins,
)
from ociaudit.events.fields import NANOSECONDS, Facts, read_facts, read_instant
from support.sample_events import encode_change, encode_event, encode_sign_in


def make_event(number: int, event_type: str = "Get", size: int = 10) -> bytes:
    """Return an event of a type."""
    return json.dumps({"eventType": event_type, "eventId": f"id{number}", "x": "y" * size}).encode()


def choose(events) -> list[bytes]:
    """Return the sample of (event, group) pairs; the events of type `Detected` are those of one finding."""
    sample = EventSample()
    counts: Counter[str] = Counter()
    detected = []
    for start in range(0, len(events), 100):
        raws, groups = zip(*events[start : start + 100], strict=True)
        facts = list(map(read_facts, raws))
        counts.update(one.event_type for one in facts)
        orders = sample.add(raws, facts, groups)
        detected += [
            SampledEvent(orders[index], start + index, raws[index], one)
            for index, one in enumerate(facts)
            if one.event_type == "Detected"
        ]
    return [kept.raw for kept in sample.choose(counts, [detected])]


def test_a_file_that_fits_is_kept_whole_and_in_order() -> None:
    """Up to the limit, every event is in the table, in the order of the file."""
    events = [(make_event(number), number % 4) for number in range(MOST_EVENTS)]
    assert choose(events) == [raw for raw, _ in events]


def test_the_sample_does_not_depend_on_the_order() -> None:
    """The same events in another order give the same sample."""
    events = [
        (make_event(number, f"T{number % 700}"), random.Random(number).choice((0, 1, 2, 3, 3, 3)))
        for number in range(6_000)
    ]
    shuffled = random.Random(1).sample(events, len(events))
    first, second = choose(events), choose(shuffled)
    assert len(first) == MOST_EVENTS
    assert sorted(first) == sorted(second)


def test_preferred_events_are_kept() -> None:
    """Among many ordinary events, all notable ones, many failures, each rare type and some others are kept."""
    ordinary = [(make_event(number), OTHER) for number in range(10_000)]
    failures = [(make_event(number, "Fail"), FAILURE) for number in range(10_000, 13_000)]
    notable = [(make_event(number, "Key"), NOTABLE) for number in range(20_000, 20_500)]
    detected = [(make_event(number, "Detected"), WATCHED) for number in range(40_000, 40_120)]
    rare = [(make_event(30_000 + number, f"Rare{number}"), OTHER) for number in range(100)]
    kept = set(choose([*ordinary, *failures, *notable, *rare, *detected]))
    assert len(kept) == MOST_EVENTS
    assert {raw for raw, _ in notable + rare + detected} <= kept
    assert len(kept & {raw for raw, _ in failures}) >= 400
    assert len(kept & {raw for raw, _ in ordinary}) >= 200


def test_bytes_are_limited_and_long_events_lose_their_json() -> None:
    """Many long events do not make a huge page, and an event beyond the limit is listed without its JSON."""
    kept = choose([(make_event(number, size=20_000), OTHER) for number in range(1_000)])
    assert 100 <= len(kept) < 1_000
    assert sum(map(len, kept)) <= MOST_BYTES
    assert choose([(make_event(1, size=LONGEST_EVENT_BYTES), NOTABLE)]) == [b""]


DAY = 86_400
INSTANTS = st.integers(min_value=1, max_value=9_999 * 366 * DAY * NANOSECONDS)


def count(series) -> int:
    """Return the number of all events of a series."""
    return sum(series.success) + sum(series.failure) + sum(series.unknown) + series.outside


@given(
    st.lists(st.tuples(INSTANTS, st.sampled_from(SERIES)), max_size=300),
    st.integers(-DAY, 40 * 365 * DAY),
    st.integers(1, 400),
)
def test_every_event_is_in_one_bin_or_outside(events, start, days) -> None:
    """Whatever the times and the range shown, the counts add up."""
    bins = TimeBins()
    for number in range(0, len(events), 7):
        instants, outcomes = zip(*events[number : number + 7], strict=True)
        bins.add(instants, outcomes)
    shown = bins.make_series(start, start + days * DAY)
    assert count(shown) == len(events)
    assert len(shown.success) == len(shown.failure) == len(shown.unknown) <= 402


def test_many_times_are_held_in_few_bins() -> None:
    """Events in each of 200,000 days take at most 4,096 bins, and none is lost."""
    bins = TimeBins()
    for day in range(200_000):
        bins.add([EPOCH + day * DAY * NANOSECONDS], [SERIES[day % 3]])
    assert len(bins._bins) <= 4_096
    assert count(bins.make_series(0, 200_000 * DAY)) == 200_000


def test_steps_divide_each_other() -> None:
    """A wider bin consists of whole narrower ones, so that merging moves no event across a border."""
    assert all(wide % narrow == 0 for narrow, wide in pairwise(STEPS_SECONDS))


def test_bins_are_as_wide_as_the_range_needs() -> None:
    """A day is shown in bins of 5 minutes, a week in hours, a year in days."""
    bins = TimeBins()
    bins.add([EPOCH], ["success"])
    assert [bins.make_series(0, days * DAY).step for days in (1, 7, 365)] == [300, 3_600, DAY]


def test_a_few_outliers_do_not_stretch_the_chart() -> None:
    """Without a manifest, an event of 1971 among thousands is counted but not drawn."""
    bins = TimeBins()
    first = read_instant("2025-12-01T00:00:00.000Z")
    for minute in range(3_000):
        bins.add([first + minute * 60 * NANOSECONDS], ["success"])
    far = [read_instant("1971-01-01T00:00:00.000Z"), 0, read_instant("9999-01-01T00:00:00.000Z")]
    bins.add(far, ["failure"] * 3)
    start, end = bins.find_range()
    shown = bins.make_series(start, end)
    assert (end - start) < 40 * DAY
    assert shown.outside == 2
    assert TimeBins().find_range() is None


PEOPLE = st.sampled_from(["ann", "bob", "", "eve"])
PLACES = st.lists(st.sampled_from(["192.0.2.1", "192.0.2.2", "192.0.2.3"]), max_size=3).map(", ".join)
ENCODERS = st.sampled_from(
    [
        lambda who, where, hours: encode_sign_in("failure", who, where, hours=hours),
        lambda who, where, hours: encode_sign_in("success", who, where, hours=hours),
        lambda who, where, hours: encode_change("UploadApiKey", who, where, hours=hours),
        lambda who, where, hours: encode_event("GetObject", who, where, hours=hours, status="404"),
        lambda who, where, hours: encode_event("GetObject", who, where, hours=hours),
    ]
)


@given(st.lists(st.tuples(ENCODERS, PEOPLE, PLACES, st.integers(1, 12)), max_size=40), st.integers(1, 50))
def test_a_finding_has_the_events_of_its_pairs(parts, batch_size) -> None:
    """Number and rows of a finding are its events, each once, also where an event names several addresses."""
    events = []
    for encode, who, where, number in parts:
        events += [encode(who, where, (len(events) + one) / 50) for one in range(number)]
    report_stats = ReportStats()
    for start in range(0, len(events), batch_size):
        report_stats.add_raws(events[start : start + batch_size])
    stats = report_stats.stats
    detections = find_detections(stats, *stats.list_actors())
    data = make_report_data(report_stats, None, (0, 1))
    for finding in data.findings:
        (detection,) = [
            one
            for one in detections
            if (one.principal, one.address) == (finding.principal, finding.address)
            and "; ".join(reason.text for reason in one.reasons) == finding.reasons
        ]
        expected = []
        for event in events:
            identity = json.loads(event)["data"]["identity"]
            principal = identity["principalName"] or identity["principalId"] or ""
            addresses = {part.strip() for part in identity["ipAddress"].split(",")}
            if any((principal, address) in detection.pairs for address in addresses):
                expected.append(event)
        assert finding.events == len(expected)
        assert sorted(data.sample[index].raw for index in finding.in_sample) == sorted(map(bytes.decode, expected))
        reserved = report_stats.reserve.list_events(detection.pairs)
        assert sorted(event.raw for event in reserved) == sorted(expected)


def fill(pairs: int, per_pair: int, *, size: int = 2_000, status: str = "200") -> ReportStats:
    """Return the statistics of a file with an attack in the middle of the events of many pairs."""
    attack = [encode_sign_in("failure", "eve", "192.0.2.9", hours=one / 100) for one in range(6)]
    attack += [encode_sign_in("success", "eve", "192.0.2.9", hours=0.07)]
    attack += [encode_event("GetSecretBundle", "eve", "192.0.2.9", hours=0.1 + one / 1_000) for one in range(113)]
    report_stats = ReportStats()
    padding = "x" * size
    for number in range(per_pair):
        if number == per_pair // 2:
            report_stats.add_raws(attack)
        for first in range(0, pairs, 500):
            report_stats.add_raws(
                [
                    encode_event("Get", f"p{pair}", "10.0.0.1", hours=number, status=status, message=padding)
                    for pair in range(first, min(pairs, first + 500))
                ]
            )
            assert report_stats.reserve.size_bytes <= MOST_RESERVED_BYTES
    return report_stats


@pytest.mark.parametrize(
    ("pairs", "per_pair", "size", "status"),
    [(20, 1_200, 2_000, "200"), (3_000, 6, 2_000, "200"), (3_000, 6, 2_000, "500"), (40, 30, 60_000, "200")],
    ids=["few large pairs", "many pairs", "many failing pairs", "long events"],
)
def test_the_reserve_is_bounded_and_keeps_the_attack(pairs, per_pair, size, status) -> None:
    """Many pairs, failures or long events fill the reserve to its limit at most, and no event of an attack goes."""
    report_stats = fill(pairs, per_pair, size=size, status=status)
    reserve = report_stats.reserve
    assert report_stats.stats.raw_bytes > MOST_RESERVED_BYTES  # or nothing has to go
    assert reserve.size_bytes > MOST_RESERVED_BYTES // 3
    kept = reserve.list_events([("eve", "192.0.2.9")])
    assert len(kept) == 120
    data = make_report_data(report_stats, None, (0, 1))
    (finding,) = [one for one in data.findings if one.principal == "eve"]
    assert (finding.events, len(finding.in_sample)) == (120, 120)


def test_candidates_for_the_sample_are_bounded_in_bytes() -> None:
    """Thousands of long events of hundreds of types are not held until the end."""
    sample = EventSample()
    total = 0
    for number in range(600):
        raws = [make_event(number * 10 + one, f"T{number}", size=40_000) for one in range(10)]
        total += sum(map(len, raws))
        sample.add(raws, list(map(read_facts, raws)), [number % 4] * 10)
        assert sample.held_bytes <= 7 * MOST_BYTES
    assert total > 10 * 7 * MOST_BYTES
    assert len(sample.choose({}, [])) > 50


@given(st.lists(st.lists(st.integers(0, 400), max_size=900, unique=True), min_size=1, max_size=6))
def test_findings_share_the_room(numbers) -> None:
    """A finding that fits into an equal part is whole, the room is not exceeded, and it is used."""
    findings = [[SampledEvent(one, one, b"x", Facts()) for one in sorted(some, reverse=True)] for some in numbers]
    chosen = EventSample().choose({}, findings)
    kept = {event.number for event in chosen}
    room = MOST_EVENTS // 2
    assert len(kept) == len(chosen) <= room
    for some in numbers:
        if len(some) <= room // len(numbers):
            assert set(some) <= kept
    assert len(kept) == min(room, len({one for some in numbers for one in some}))
