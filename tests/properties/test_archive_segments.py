"""Promises of an archive's segments, for every set of records and every schedule of merges and compactions."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ociaudit.archive.commit import SegmentEntry
from ociaudit.archive.segments import (
    check_segment,
    compact_date,
    merge_events,
    open_engine,
    read_date,
)
from ociaudit.events.event import read_event, read_order
from ociaudit.events.fields import format_instant
from ociaudit.planning.shard import Target

TIMES = [
    None,
    "yesterday",
    20250101,
    "0001-01-01T00:00:00Z",
    "1969-12-31T23:59:59.999999999Z",
    "2025-01-01T23:59:60Z",
    "2025-01-01T12:00:00.000Z",
    "2025-01-01T13:00:00.000+01:00",
    "2025-01-01T12:00:00.000000001Z",
    "2025-01-01T12:00:00.000000999Z",
    "2025-01-01T12:00:00.000001Z",
    "2025-01-02T00:00:00.000Z",
    "9999-12-31T23:59:59.999999999Z",
]
IDS = [None, "", "a", "a\0", "a\0b", "b", "\ud800", "\\ud800", "é", 123, "123"]
TARGETS = [
    Target("eu-frankfurt-1", "ocid1.compartment.oc1..a"),
    Target("eu-frankfurt-1", "ocid1.compartment.oc1..b"),
    Target("us-ashburn-1", "ocid1.compartment.oc1..a"),
    None,
]
Arrival = tuple[bytes, Target | None]


def serialise(time: object, event_id: object, more: object, style: int) -> bytes:
    """Return an event in one of four serialisations of the same JSON value."""
    members = {"eventTime": time, "eventId": event_id, "data": {"message": more, "eventName": "x"}}
    if style % 2:
        members = dict(reversed(members.items()))
    return json.dumps(members, separators=(", ", ": ") if style > 1 else (",", ":")).encode()


raws = st.builds(
    serialise,
    st.sampled_from(TIMES),
    st.sampled_from(IDS),
    st.sampled_from(["m", "n", 1, "1", "\udfff"]),
    st.integers(0, 3),
)


@st.composite
def draw_schedules(draw: st.DrawFn) -> list[tuple[list[Arrival], bool]]:
    """Draw batches of a multiset of records, and after which of them every date is compacted."""
    pool = draw(st.lists(raws, min_size=1, max_size=8))
    batch = st.lists(st.tuples(st.one_of(st.sampled_from(pool), raws), st.sampled_from(TARGETS)), max_size=12)
    return draw(st.lists(st.tuples(batch, st.booleans()), min_size=1, max_size=4))


@pytest.fixture(scope="module", autouse=True)
def quick_disk() -> Iterator[None]:
    """Make syncing return immediately."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr(os, "fdatasync", lambda _: None, raising=False)
        yield


@pytest.fixture(scope="module")
def engine() -> Iterator[object]:
    """Share one DuckDB."""
    with tempfile.TemporaryDirectory() as folder, open_engine(Path(folder)) as shared:
        yield shared


@dataclass
class Archive:
    """The segments of an archive, without commits."""

    path: Path
    engine: object
    live: dict[str, list[SegmentEntry]] = field(default_factory=dict)
    added: list[tuple[bytes, bytes]] = field(default_factory=list)

    @property
    def scratch(self) -> Path:
        """Return the scratch folder."""
        (self.path / "work").mkdir(exist_ok=True)
        return self.path / "work"

    def merge(self, batch: list[Arrival]) -> None:
        """Merge a batch and check its counts."""
        rows = sum(entry.rows for entries in self.live.values() for entry in entries)
        added = len(self.added)
        raws: list[bytes] = []
        result = merge_events(
            self.path,
            self.live,
            sort(batch),
            scratch=self.scratch,
            on_added=lambda raw, _, order: (self.added.append((order, digest(raw))), raws.append(raw)),
            engine=self.engine,
        )
        counts = result.counts
        assert counts.received == len(batch) == counts.added + counts.known + counts.identical + counts.reserialised
        assert counts.added == len(self.added) - added
        ids = [ids[start : start + 32] for ids in result.record_ids.values() for start in range(0, len(ids), 32)]
        assert sorted(ids) == sorted(hashlib.sha256(raw).digest() for raw in raws)
        for entries in self.live.values():
            entries[:] = [entry for entry in entries if entry.path not in result.replaced]
        for entry in result.added:
            self.live.setdefault(entry.date, []).append(entry)
        assert sum(entry.rows for entries in self.live.values() for entry in entries) == rows + counts.added

    def compact(self) -> None:
        """Compact every date."""
        for date, entries in self.live.items():
            entry = compact_date(self.path, date, entries, scratch=self.scratch, engine=self.engine)
            assert (entry is None) == (len(entries) == 1)
            entries[:] = [entry] if entry else entries

    def read(self) -> dict[str, list[Arrival]]:
        """Return the records of every date."""
        return {
            date: [
                (record.raw, record.origin)
                for record in read_date(self.path, entries, scratch=self.scratch, engine=self.engine)
            ]
            for date, entries in self.live.items()
        }


def sort(batch: list[Arrival]) -> list[Arrival]:
    """Return records in canonical order, those of one order and bytes by origin, unknown ones last."""
    return sorted(batch, key=lambda one: (read_event(one[0]).order, one[0], one[1] is None, one[1] or TARGETS[0]))


def digest(raw: bytes) -> bytes:
    """Return the JSON value of a record as text."""
    return json.dumps(json.loads(raw), sort_keys=True).encode()


def reduce_naively(batch: list[Arrival]) -> dict[str, list[Arrival]]:
    """Return what an archive must hold: per time, id and JSON value the smallest bytes and their smallest origin."""
    kept: dict[tuple[bytes, bytes], Arrival] = {}
    for raw, origin in sort(batch):
        kept.setdefault((read_event(raw).order, digest(raw)), (raw, origin))
    dates: dict[str, list[Arrival]] = {}
    for arrival in sort(list(kept.values())):
        instant = read_order(read_event(arrival[0]).order)[0]
        dates.setdefault(format_instant(instant)[:10] if instant else "unknown", []).append(arrival)
    return dates


@given(draw_schedules())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_schedule_gives_the_same_segments(engine, schedule) -> None:
    """Each distinct record is kept once, whatever the schedule; after compaction rows, digests and files are equal."""
    everything = [arrival for batch, _ in schedule for arrival in batch]
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        archive, other = Archive(Path(first), engine), Archive(Path(second), engine)
        for batch, is_compacted in schedule:
            archive.merge(batch)
            if is_compacted:
                archive.compact()
        expected = reduce_naively(everything)
        assert archive.read() == expected
        assert len(set(archive.added)) == len(archive.added)
        archive.compact()
        other.merge(everything)
        assert {entry for entries in archive.live.values() for entry in entries} == {
            entry for entries in other.live.values() for entry in entries
        }
        assert archive.read() == expected
        for entries in archive.live.values():
            for entry in entries:
                check_segment(archive.path, entry)
                assert (archive.path / entry.path).read_bytes() == (other.path / entry.path).read_bytes()
