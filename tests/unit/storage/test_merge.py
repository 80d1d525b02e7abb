from __future__ import annotations

import json
import random
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ociaudit.events.event import Event, read_event, read_order
from ociaudit.events.fields import UNREADABLE_INSTANT, read_instant
from ociaudit.storage import merge as merge_module
from ociaudit.storage.merge import (
    SUFFIX_BYTES,
    CanonicalReader,
    EventIndex,
    LogReader,
    MergeCounts,
    digest_value,
    split_location,
)
from support.drawn_shards import HERE, THERE, make_event, make_page_line, make_shard
from support.served_runs import open_run

START, END = read_instant("2025-01-01T00:00:00Z"), read_instant("2025-01-02T00:00:00Z")
TIMES = [
    None,
    "yesterday",
    "2024-12-31T23:59:59.999999999Z",
    "2025-01-01T00:00:00Z",
    "2025-01-01T01:00:00+01:00",
    "2025-01-01T12:00:00.5Z",
    "2025-01-02T00:00:00.000Z",
]
IDS = [None, "", "a", "a\0", "b", "\ud800"]
events = st.builds(
    lambda time, event_id, more: read_event(
        json.dumps({"eventTime": time, "eventId": event_id, **({"more": more} if more else {})}).encode()
    ),
    st.sampled_from(TIMES),
    st.sampled_from(IDS),
    st.integers(0, 2),
)
pages = st.lists(st.tuples(st.sampled_from([HERE, THERE]), st.lists(events, max_size=5)), max_size=5)
Pages = list[tuple[object, list[Event]]]


def merge(answered: Pages) -> tuple[list[tuple[bytes, int]], MergeCounts]:
    """Append pages to a spool and read it in canonical order."""
    with tempfile.TemporaryDirectory() as folder, open_run(Path(folder)).spool as spool:
        for number, (target, page) in enumerate(answered, start=1):
            line = make_page_line(make_shard(0, 60, target), number, scanned=len(page), kept=len(page))
            spool.append_page(line, page)
        reader = spool.open_reader()
        merged = CanonicalReader(spool.index, reader, start=START, end=END)
        found = list(merged)
        reader.close()
        return found, merged.counts


def describe(counts: MergeCounts) -> tuple[object, ...]:
    """Return the counts as a value that can be compared."""
    return tuple(getattr(counts, name) for name in MergeCounts.__slots__)


def reserialise(value: object, random_source: random.Random) -> str:
    """Return a value's JSON with keys, white space and escapes as a random writer might choose them."""
    if isinstance(value, dict):
        pairs = list(value.items())
        random_source.shuffle(pairs)
        inside = ", ".join(f"{json.dumps(key)}:{reserialise(item, random_source)}" for key, item in pairs)
        return "{" + " " * random_source.randrange(2) + inside + "}"
    if isinstance(value, list):
        return "[" + ",".join(reserialise(item, random_source) for item in value) + "]"
    return json.dumps(value, ensure_ascii=random_source.random() < 0.5)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from([0.5, 1e30]) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.usefixtures("quick_disk")
@settings(max_examples=40)
@given(json_values, json_values, st.lists(st.tuples(st.booleans(), st.integers()), min_size=1, max_size=8))
def test_equal_values_in_other_bytes_are_not_conflicts(
    first: object, second: object, served: list[tuple[bool, int]]
) -> None:
    """Of records with one JSON value the smallest bytes are kept and the others counted; other values are conflicts."""
    records: dict[bool, set[bytes]] = {}
    page = []
    for is_first, seed in served:
        value = {"eventId": "a", "eventTime": TIMES[3], "data": {"x": first if is_first else [second]}}
        raw = reserialise(value, random.Random(seed)).encode()
        records.setdefault(is_first, set()).add(raw)
        page.append(read_event(raw))
    if repr(first) == repr([second]):
        records = {True: set().union(*records.values())}
    found, counts = merge([(HERE, page)])
    assert [raw for raw, _ in found] == sorted(min(raws) for raws in records.values())
    assert counts.identical == len(page) - sum(map(len, records.values()))
    assert counts.reserialised == sum(map(len, records.values())) - len(records)
    assert counts.conflicting_count == (len(records) > 1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"n":1}', '{"n":1.0}'),
        ('{"n":1e2}', '{"n":100}'),
        ('{"n":"1"}', '{"n":1}'),
        ('{"n":["number","1"]}', '{"n":1}'),
        ('{"n":["object",[]]}', '{"n":{}}'),
        ('{"n":1,"n":2}', '{"n":2,"n":1}'),
        ('{"n":2}', '{"n":1,"n":2}'),
        ('{"n":null}', "{}"),
        ('{"n":[1,2]}', '{"n":[2,1]}'),
        ('{"n":' + "[" * 50_000 + "]" * 50_000 + "}", '{ "n":' + "[" * 50_000 + "]" * 50_000 + "}"),
    ],
)
def test_what_differs_in_value_is_not_reserialised(one: str, other: str) -> None:
    """Number text, types, order in arrays, repeated keys and what is too deep to read keep two records apart."""
    assert digest_value(one.encode()) != digest_value(other.encode())
    assert digest_value(one.encode()) == digest_value(one.encode())


@pytest.mark.usefixtures("quick_disk")
@settings(max_examples=60)
@given(pages)
def test_the_merge_is_sorting_and_dropping_equal_records(answered: Pages) -> None:
    """Records come by (instant, id, bytes), once, from the first of their origins, and everything is counted."""
    all_events = [event for _, page in answered for event in page]
    found, counts = merge(answered)
    expected = sorted({(event.order, event.raw) for event in all_events})
    assert [raw for raw, _ in found] == [raw for _, raw in expected]
    for raw, origin in found:
        assert origin == min(target == THERE for target, page in answered for event in page if event.raw == raw)
    instants = [read_order(order)[0] for order, _ in expected]
    per_id = Counter(read_order(order)[1] for order, _ in expected)
    conflicting = sorted(event_id for event_id, n in per_id.items() if n > 1 and event_id)
    assert counts.written == len(expected)
    assert counts.identical == len(all_events) - len(expected)
    assert counts.conflicting_count == len(conflicting)
    assert [event_id.replace("\ud800", "\\ud800") for event_id in conflicting] == counts.conflicting_ids
    assert counts.unreadable == instants.count(UNREADABLE_INSTANT)
    assert counts.outside == sum(not START <= at < END for at in instants if at != UNREADABLE_INSTANT)
    readable = [order for order, _ in expected if read_order(order)[0] != UNREADABLE_INSTANT]
    assert counts.first_order == (readable[0] if readable else b"")


@pytest.mark.usefixtures("quick_disk")
@settings(max_examples=40)
@given(pages, st.randoms())
def test_the_order_of_pages_does_not_matter(answered: Pages, order: random.Random) -> None:
    """Events that are shuffled, in other pages or answered twice give the same output; only repeats are counted."""
    found, counts = merge(answered)
    other = [(target, [event]) for target, page in answered for event in page]
    order.shuffle(other)
    found_again, counts_again = merge(other)
    assert found_again == found
    assert describe(counts_again) == describe(counts)
    found_twice, counts_twice = merge([*answered, *other])
    assert found_twice == found
    assert counts_twice.identical == counts.identical + len(other)


@pytest.mark.usefixtures("quick_disk")
def test_a_large_group_of_equal_times_is_merged_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many events without time and id are sorted by their bytes, even if they do not fit in memory together."""
    monkeypatch.setattr(merge_module, "_GROUP_IN_MEMORY", 3)
    several = [read_event(b'{"n":%d}' % (number % 7)) for number in range(20)]
    found, counts = merge([(HERE, several)])
    assert [raw for raw, _ in found] == [b'{"n":%d}' % number for number in range(7)]
    assert (counts.identical, counts.conflicting_count) == (13, 0)


@pytest.mark.usefixtures("quick_disk")
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answered=pages, per_read=st.integers(1, 4), in_batch=st.integers(1, 3))
def test_how_records_are_read_in_batches_does_not_matter(
    answered: Pages, per_read: int, in_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many records a read holds, and whether groups are small or large, result and counts are the same."""
    repeated = [*answered, *answered[:2]]
    found, counts = merge(repeated)
    with monkeypatch.context() as patch:
        patch.setattr(merge_module, "_EVENTS_PER_READ", per_read)
        patch.setattr(merge_module, "_GROUP_IN_BATCH", in_batch)
        found_again, counts_again = merge(repeated)
    assert found_again == found
    assert describe(counts_again) == describe(counts)


@pytest.mark.usefixtures("quick_disk")
def test_records_that_arrived_twice_do_not_break_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred records of which every third arrived twice are read from the log in one call."""
    calls: list[int] = []
    read_many = LogReader.read_many

    def count(reader: LogReader, offsets: Sequence[int], lengths: Sequence[int]) -> list[bytes]:
        calls.append(len(offsets))
        return read_many(reader, offsets, lengths)

    monkeypatch.setattr(LogReader, "read_many", count)
    several = [read_event(b'{"eventId":"%03d"}' % number) for number in range(100)]
    found, counts = merge([(HERE, several), (HERE, several[::3])])
    assert [raw for raw, _ in found] == [event.raw for event in several]
    assert (counts.written, counts.identical, counts.conflicting_count) == (100, 34, 0)
    assert calls == [134]


@pytest.mark.usefixtures("quick_disk")
def test_conflicting_ids_are_listed_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """All are counted and the first ones are listed, in a form that can be written as UTF-8."""
    monkeypatch.setattr(merge_module, "_MAX_CONFLICTS_LISTED", 2)
    several = [read_event(b'{"eventId":"%d\\ud800","n":%d}' % (n // 2, n)) for n in range(10)]
    _, counts = merge([(HERE, several)])
    assert (counts.conflicting_count, counts.conflicting_ids) == (5, ["0\\ud800", "1\\ud800"])


def test_an_id_with_two_times_is_a_conflict() -> None:
    """Both records are kept, each at its time, and the id is counted and listed."""
    first = read_event(b'{"eventId":"a","eventTime":"2025-01-01T00:00:00Z"}')
    between = read_event(b'{"eventId":"b","eventTime":"2025-01-01T00:00:00.5Z"}')
    second = read_event(b'{"eventId":"a","eventTime":"2025-01-01T00:00:01Z"}')
    found, counts = merge([(HERE, [second, first, between])])
    assert [raw for raw, _ in found] == [first.raw, between.raw, second.raw]
    assert (counts.written, counts.conflicting_count, counts.conflicting_ids) == (3, 1, ["a"])


batches = st.lists(
    st.tuples(st.lists(st.integers(0, 5), max_size=6), st.integers(0, 3), st.integers(0, 1000)), max_size=12
)


@given(batches, st.integers(1, 40))
def test_the_order_is_that_of_sorting_everything(pages: list[tuple[list[int], int, int]], max_entries: int) -> None:
    """However few entries fit in memory, all are returned once, ascending, with their locations."""
    with tempfile.TemporaryDirectory() as folder:
        index = EventIndex(Path(folder), max_entries=max_entries)
        expected: list[tuple[bytes, tuple[int, int, int]]] = []
        for numbers, origin, offset in pages:
            events = [make_event(number) for number in numbers]
            index.add(events, origin=origin, offset=offset, lengths=[10 + number for number in numbers])
            position = offset
            for event, number in zip(events, numbers, strict=True):
                expected.append((event.order, (origin, position, 10 + number)))
                position += 10 + number
        assert len(index) == len(expected)
        for _ in range(2):  # it may be read again
            found = [(entry[:-SUFFIX_BYTES], split_location(entry)) for entry in index.iterate()]
            assert found == sorted(expected)
        parts = sorted(Path(folder).iterdir())
        assert all(part.stat().st_mode & 0o777 == 0o600 for part in parts)
        if len(expected) > max_entries + 6:
            assert parts


def test_part_files_of_an_earlier_process_are_overwritten(tmp_path: Path) -> None:
    """Part files of a killed process do not affect the order in the next one."""
    for number in (1, 2):
        index = EventIndex(tmp_path, max_entries=1)
        index.add([make_event(number)], origin=0, offset=number, lengths=[1])
        assert [split_location(entry)[1] for entry in index.iterate()] == [number]
