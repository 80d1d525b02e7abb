"""Reconciling: whatever is lost, doubled or added between two files is found exactly."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ociaudit.archive.inputs import open_input
from ociaudit.operations import reconcile
from ociaudit.operations.reconcile import ReconcileRange, Reconciliation, Row, reconcile_inputs
from ociaudit.planning.shard import floor_minute
from support.connector_folders import deliver, make_api_event, make_cloud_event

START = datetime(2025, 6, 1, tzinfo=UTC)
COMPARTMENTS = tuple(f"ocid1.compartment.oc1..{name}" for name in "abc")

_Copies = Sequence[tuple[int, int, int]]
COPIES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1), st.integers(0, 4000)), max_size=40)
"""For each event: copies in A, copies in B, and the minute at which it happened."""


def make_event(number: int, minute: int) -> dict[str, Any]:
    """Return event `number`; no two of them share id, request or time."""
    moment = START + timedelta(minutes=minute, milliseconds=number)
    return make_api_event(number, moment, compartment=COMPARTMENTS[number % len(COMPARTMENTS)])


def write_lines(path: Path, records: Sequence[Mapping[str, Any]]) -> Path:
    """Write a file of lines that has at least one event, which both sides get."""
    path.write_text("".join(json.dumps(record) + "\n" for record in [make_event(99_999, 0), *records]))
    return path


def place(event: Mapping[str, Any]) -> Row:
    """Return the row in which an event counts."""
    return Row("", event["data"]["compartmentId"], event["eventTime"][:10])


def expect(copies: _Copies) -> dict[str, Counter[Row]]:
    """Count by brute force what A lacks, doubles and holds beyond B."""
    expected: dict[str, Counter[Row]] = {name: Counter() for name in ("lost", "doubled", "surplus", "matched")}
    for number, (in_a, in_b, minute) in enumerate(copies):
        row = place(make_event(number, minute))
        expected["lost"][row] += in_b > in_a
        expected["doubled"][row] += max(0, in_a - 1)
        expected["surplus"][row] += in_a > 0 and not in_b
        expected["matched"][row] += in_a > 0 and in_b
    return {name: +counter for name, counter in expected.items()}


def check(found: Reconciliation, expected: Mapping[str, Counter[Row]]) -> None:
    """Compare rows and totals with what is expected; one event more is in both."""
    for name in ("lost", "doubled", "surplus"):
        rows = Counter({row: getattr(counts, name) for row, counts in found.rows.items()})
        assert +rows == expected[name], name
        assert getattr(found.totals, name) == expected[name].total()
        assert sum(getattr(counts, name) for counts in found.days.values()) == expected[name].total()
    assert found.totals.matched == expected["matched"].total() + 1
    assert found.is_same == (not any(expected[name] for name in ("lost", "doubled", "surplus")))
    a_total = found.totals.matched + found.totals.doubled + found.totals.surplus + found.a.not_comparable
    assert found.a.events == a_total
    assert found.b.events == found.totals.matched + found.totals.lost + found.b.doubled + found.b.not_comparable


@pytest.fixture(params=[7, 100_000])
def few_in_memory(request, monkeypatch):
    """Sort in part files of a few entries, and in memory."""
    monkeypatch.setattr(reconcile, "_ENTRIES_IN_MEMORY", request.param)


@pytest.mark.usefixtures("few_in_memory")
@pytest.mark.parametrize("ids", ["same", "other", "each its own"])
@given(copies=COPIES)
@settings(max_examples=40, deadline=None)
def test_every_loss_copy_and_surplus_is_found(copies: _Copies, ids: str) -> None:
    """Copies, losses and additions are counted exactly, by id, and by time, type and request where the ids differ."""
    if ids == "each its own":  # copies of an event that B does not have are then several events
        copies = [(min(in_a, 1) if not in_b else in_a, in_b, minute) for in_a, in_b, minute in copies]
    a: list[dict[str, Any]] = []
    b: list[dict[str, Any]] = []
    for number, (in_a, in_b, minute) in enumerate(copies):
        event = make_event(number, minute)
        for copy in range(in_a):
            name = {"same": event["eventId"], "other": f"other{number}", "each its own": f"{number} {copy}"}[ids]
            a.append(make_cloud_event(event) | {"id": name, "copy": copy})
        b += [event] * in_b
    with TemporaryDirectory() as folder:
        inputs = [open_input(write_lines(Path(folder) / name, lines)) for name, lines in (("a", a[::-1]), ("b", b))]
        found = reconcile_inputs(inputs[0], inputs[1])
    check(found, expect(copies))
    assert found.matched_by_id + found.matched_by_key == found.totals.matched
    assert found.matched_by_key == (0 if ids == "same" else found.totals.matched - 1)
    assert {entry.event_type for entry in found.lost_examples} <= {"com.oraclecloud.objectstorage.getobject"}


VARIANTS = st.lists(st.integers(0, 2), max_size=4)
"""The records of one id that a side has, each by what distinguishes it from the others."""


@given(drawn=st.lists(st.tuples(VARIANTS, VARIANTS), max_size=10))
@settings(max_examples=60, deadline=None)
def test_every_record_counts_once_even_if_ids_conflict(drawn: list[tuple[list[int], list[int]]]) -> None:
    """Of records that share an id and differ, each counts as exactly one thing on its side."""
    a = [{**make_event(number, number), "variant": one} for number, (some, _) in enumerate(drawn) for one in some]
    b = [{**make_event(number, number), "variant": one} for number, (_, some) in enumerate(drawn) for one in some]
    with TemporaryDirectory() as folder:
        inputs = [open_input(write_lines(Path(folder) / name, lines)) for name, lines in (("a", a), ("b", b))]
        found = reconcile_inputs(inputs[0], inputs[1])
    totals = found.totals
    assert found.a.events == len(a) + 1 == totals.matched + totals.doubled + totals.surplus + found.a.not_comparable
    assert found.b.events == len(b) + 1 == totals.matched + totals.lost + found.b.doubled + found.b.not_comparable
    assert totals.lost == sum(1 for some, others in drawn if others and not some)
    assert totals.surplus == sum(1 for some, others in drawn if some and not others)


@given(copies=COPIES, first=st.integers(0, 4000), minutes=st.integers(1, 4000))
@settings(max_examples=40, deadline=None)
def test_what_a_folder_does_not_cover_is_not_lost(copies: _Copies, first: int, minutes: int) -> None:
    """An event of B before the connector's first file or after its last one is not comparable, any other is lost."""
    span = range(first, first + minutes)
    delivered = [make_event(number, minute) for number, (in_a, _, minute) in enumerate(copies) if in_a]
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        edges = (START + timedelta(minutes=first), START + timedelta(minutes=first + minutes - 1))
        records = [make_cloud_event(event) for event in [make_event(99_999, 0), *delivered]]
        deliver(folder / "hub", records, edges[0], minutes=1)
        deliver(folder / "hub", records[:1], edges[1], minutes=1, number=1)
        b = [make_event(number, minute) for number, (_, in_b, minute) in enumerate(copies) if in_b]
        found = reconcile_inputs(open_input(folder / "hub"), open_input(write_lines(folder / "b", b)))
    only_b = [minute for in_a, in_b, minute in copies if in_b and not in_a]
    assert found.totals.lost == sum(minute in span for minute in only_b)
    assert found.b.not_comparable == sum(minute not in span for minute in only_b)
    assert found.totals.surplus == sum(in_a > 0 and not in_b for in_a, in_b, _ in copies)


@given(copies=COPIES, first=st.integers(0, 4000), minutes=st.integers(1, 4000))
@settings(max_examples=30, deadline=None)
def test_a_range_limits_what_is_compared(copies: _Copies, first: int, minutes: int) -> None:
    """With a range, the result is that of the events in it."""
    a, b = [], []
    inside: list[tuple[int, int, int]] = []
    for number, (in_a, in_b, minute) in enumerate(copies):
        event = make_event(number, minute)
        a += [make_cloud_event(event)] * in_a
        b += [event] * in_b
        inside.append((in_a, in_b, minute) if minute in range(first, first + minutes) else (0, 0, minute))
    epoch_minute = floor_minute(START)
    within = ReconcileRange(epoch_minute + first, epoch_minute + first + minutes)
    with TemporaryDirectory() as folder:
        inputs = [open_input(write_lines(Path(folder) / name, lines)) for name, lines in (("a", a), ("b", b))]
        found = reconcile_inputs(inputs[0], inputs[1], within=within)
    expected = expect(inside)
    for name in ("lost", "doubled", "surplus"):
        assert getattr(found.totals, name) == expected[name].total(), name


def test_records_of_one_id_that_differ_in_b_are_one_event(tmp_path: Path) -> None:
    """Two different records of one id in B need one in A, allow two, and are mentioned."""
    event = make_event(1, 1)
    other = event | {"contentType": "text/plain"}
    b = open_input(write_lines(tmp_path / "b", [event, other]))
    for copies, doubled in ((1, 0), (2, 0), (3, 1)):
        a = open_input(write_lines(tmp_path / f"a{copies}", [make_cloud_event(event)] * copies))
        found = reconcile_inputs(a, b)
        assert (found.totals.lost, found.totals.doubled, found.totals.surplus) == (0, doubled, 0)
        assert any("several different records" in note for note in found.notes)


def test_records_without_id_and_time_are_matched_by_what_they_have(tmp_path: Path) -> None:
    """Events without id, time or request id are matched in number, and equal copies are doubled."""
    bare = {"eventType": "T", "data": {"eventName": "N"}}
    a = open_input(write_lines(tmp_path / "a", [bare, bare, bare | {"source": "x"}]))
    b = open_input(write_lines(tmp_path / "b", [bare, bare | {"source": "y"}, bare | {"source": "z"}]))
    found = reconcile_inputs(a, b)
    totals = found.totals
    assert (totals.matched, totals.lost, totals.doubled, totals.surplus) == (3, 1, 1, 0)
    assert found.days["unknown"].lost == 1
