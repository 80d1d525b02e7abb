"""The segments of an archive: written, merged, compacted, read, and checked against tampering."""

from __future__ import annotations

import hashlib
import json
import os
import random
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import duckdb
import msgspec
import pytest

from ociaudit.archive import segments as segments_module
from ociaudit.archive.commit import EventCounts, SegmentEntry
from ociaudit.archive.segments import (
    SEGMENT_PATH,
    MergeResult,
    check_segment,
    compact_date,
    merge_events,
    open_segment,
    read_date,
)
from ociaudit.errors import CorruptRun, DiskError
from ociaudit.events.event import read_event
from ociaudit.formats.base import Record
from ociaudit.formats.parquet import SEGMENT_COLUMNS
from ociaudit.planning.shard import Target
from support.hostile_events import RAWS

A, B = Target("eu-frankfurt-1", "ocid1.compartment.oc1..a"), Target("us-ashburn-1", "ocid1.compartment.oc1..a")
DATE = "2025-12-01"


def make(number: int, *, time: str | None = None, event_id: str | None = None, **more: object) -> bytes:
    """Return an event; its number makes its time and id."""
    time = time or f"2025-12-01T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}.000Z"
    return json.dumps({"eventTime": time, "eventId": event_id or f"{number:06}", "data": more}).encode()


def reserialise(raw: bytes, *, is_smaller: bool) -> bytes:
    """Return the same JSON value in bytes that sort before or after."""
    return raw.replace(b'{"', b'{ "', 1) if is_smaller else raw.replace(b": ", b":", 1)


class Archive:
    """The segments of an archive, without commits."""

    def __init__(self, folder: Path) -> None:
        self.path, self.scratch = folder / "archive", folder / "scratch"
        self.path.mkdir(mode=0o700)
        self.scratch.mkdir(mode=0o700)
        self.live: dict[str, list[SegmentEntry]] = {}
        self.added: list[bytes] = []

    def merge(self, raws: Sequence[bytes], target: Target | None = A) -> MergeResult:
        """Merge events from a target, and change what is live as a commit would."""
        events = [(raw, target) for raw in sorted(raws, key=lambda raw: (read_event(raw).order, raw))]
        result = merge_events(
            self.path,
            self.live,
            events,
            scratch=self.scratch,
            on_added=lambda raw, origin, order: self.added.append(raw),
        )
        for entries in self.live.values():
            entries[:] = [entry for entry in entries if entry.path not in result.replaced]
        for entry in result.added:
            self.live.setdefault(entry.date, []).append(entry)
        return result

    def read(self, date: str = DATE) -> list[Record]:
        """Return the records of a date."""
        return list(read_date(self.path, self.live[date], scratch=self.scratch))

    def list_files(self) -> set[str]:
        """Return the relative paths of all files."""
        return {str(path.relative_to(self.path)) for path in self.path.rglob("*") if not path.is_dir()}


@pytest.fixture
def archive(tmp_path) -> Archive:
    """Return an archive without segments."""
    return Archive(tmp_path)


@pytest.fixture
def filled(archive) -> Archive:
    """Return an archive with ten events of one date in one segment."""
    archive.merge([make(number) for number in range(10)])
    archive.added.clear()
    return archive


def count(**counts: int) -> EventCounts:
    """Return counts whose `received` is the sum."""
    received = sum(counts.get(name, 0) for name in ("added", "known", "identical", "reserialised"))
    return EventCounts(received=received, **counts)


def test_each_date_gets_a_segment_that_every_reader_understands(archive) -> None:
    """DuckDB reads the documented columns, the events as served and their SHA-256; entries state what is on disk."""
    raws = [*RAWS, make(1, time="2025-12-02T00:00:00Z")]
    result = archive.merge(raws)
    assert [entry.date for entry in result.added] == ["2025-12-01", "2025-12-02", "unknown"]
    found: list[str] = []
    for entry in result.added:
        path = archive.path / entry.path
        match = SEGMENT_PATH.fullmatch(entry.path)
        assert match
        assert (match[1], match[2]) == (entry.date, entry.rows_sha256[:32])
        assert entry.size_bytes == path.stat().st_size
        assert entry.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        relation = duckdb.connect().read_parquet(str(path), hive_partitioning=False)
        assert relation.columns == [column.name for column in SEGMENT_COLUMNS]
        rows = relation.select("event, event_sha256, origin_region").fetchall()
        assert len(rows) == entry.rows
        assert {region for *_, region in rows} == {A.region}
        for event, sha256, _ in rows:
            assert hashlib.sha256(event.encode()).hexdigest() == sha256
            found.append(event)
        check_segment(archive.path, entry)
    assert sorted(found) == sorted(raw.decode() for raw in raws)


def test_segments_are_private(archive) -> None:
    """Files are 0600 and folders 0700, whatever the umask, and nothing is left in the scratch folder."""
    previous = os.umask(0)
    try:
        archive.merge([make(1)])
        archive.merge([make(1), make(2)])
    finally:
        os.umask(previous)
    for path in (archive.path / "events").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert stat.S_IMODE((archive.path / "events").stat().st_mode) == 0o700
    assert not [path for path in archive.scratch.rglob("*") if not path.is_dir()]


def test_known_events_change_nothing(filled) -> None:
    """Events that the archive has, from the same or a greater target, write nothing."""
    files = filled.list_files()
    for target in (A, B, None):
        result = filled.merge([make(number) for number in range(10)], target)
        assert result == MergeResult((), (), count(known=10))
    assert filled.list_files() == files
    assert filled.added == []


def test_new_events_of_a_date_get_a_segment_of_their_own(filled) -> None:
    """A date that gains events keeps its segments and gets one with the new events, in canonical order."""
    before = filled.live[DATE][0]
    late = [make(3_000), make(100), make(50, time="2025-12-01T00:00:03.5Z")]
    result = filled.merge([*map(make, range(10)), *late])
    assert result.counts == count(known=10, added=3)
    assert result.replaced == ()
    assert filled.live[DATE] == [before, *result.added]
    assert [record.raw for record in filled.read()] == [
        *map(make, range(4)),
        late[2],
        *map(make, range(4, 10)),
        *late[1::-1],
    ]
    assert filled.added == [late[2], late[1], late[0]]


def test_a_smaller_target_rewrites_the_date(archive) -> None:
    """The smallest target that served a record is its origin; an unknown one is greater than all others."""
    archive.merge([make(1), make(2)], None)
    archive.merge([make(3)], B)
    old = [entry.path for entry in archive.live[DATE]]
    for target in (B, A):
        archive.added.clear()
        result = archive.merge([make(1)], target)
        assert result.counts == count(known=1)
        assert len(result.added) == 1
        assert sorted(result.replaced) == sorted(old)
        old = [result.added[0].path]
        assert [tuple(record) for record in archive.read()] == [(make(1), target), (make(2), None), (make(3), B)]
        assert archive.added == []


def test_the_smallest_serialisation_is_kept(filled) -> None:
    """Another serialisation of a stored record is dropped if it is greater; if it is smaller, the date is rewritten."""
    greater, smaller = reserialise(make(3), is_smaller=False), reserialise(make(3), is_smaller=True)
    assert filled.merge([greater], A) == MergeResult((), (), count(reserialised=1))
    old = filled.live[DATE][0].path
    result = filled.merge([smaller, greater, make(20)], B)
    assert result.counts == count(reserialised=2, added=1)
    assert result.replaced == (old,)
    assert [tuple(record) for record in filled.read()][3:] == [
        (smaller, B),
        *((make(number), A) for number in range(4, 10)),
        (make(20), B),
    ]
    assert filled.added == [make(20)]


def test_records_that_conflict_are_all_kept(filled) -> None:
    """Records of one time and id with other values are added, and the pair is counted with each merge that adds one."""
    others = [make(3, more=number) for number in range(3)]
    assert filled.merge(others[:1]).counts == count(added=1, conflicting=1)
    assert filled.merge(others).counts == count(known=1, added=2, conflicting=1)
    assert filled.merge(others).counts == count(known=3)
    assert {record.raw for record in filled.read()} == {*map(make, range(10)), *others}
    assert filled.merge([make(50), make(50, more=1)]).counts == count(added=2, conflicting=1)
    anonymous = [b'{"eventTime":"2025-12-01T05:00:00Z"}', b'{"eventTime":"2025-12-01T05:00:00Z","data":{}}']
    assert filled.merge(anonymous).counts == count(added=2)


def test_ids_that_look_alike_in_the_column_are_distinct(archive) -> None:
    """Two ids with the same text in the column event_id, and two times in one microsecond, do not conflict."""
    surrogate = rb'{"eventTime":"2025-12-01T00:00:00.000000001Z","eventId":"\ud800"}'
    escaped = rb'{"eventTime":"2025-12-01T00:00:00.000000001Z","eventId":"\\ud800"}'
    later = rb'{"eventTime":"2025-12-01T00:00:00.000000999Z","eventId":"\ud800"}'
    archive.merge([surrogate])
    assert archive.merge([escaped, later]).counts == count(added=2)
    assert [record.raw for record in archive.read()] == [escaped, surrogate, later]


def test_many_changes_are_merged_through_scratch_files(archive) -> None:
    """A rewrite of thousands of records, half of them in other bytes, gives each once."""
    raws = [make(number) for number in range(3_000)]
    archive.merge(raws[::2])
    smaller = [reserialise(raw, is_smaller=True) for raw in raws]
    assert archive.merge(smaller).counts == count(reserialised=1_500, added=1_500)
    assert [record.raw for record in archive.read()] == smaller
    assert not [path for path in archive.scratch.rglob("*") if not path.is_dir()]


def test_events_out_of_order_are_refused(archive) -> None:
    """A caller that does not sort by time, id, bytes and origin gets an error, and no segment is named."""
    for events in ([(make(2), A), (make(1), A)], [(make(1, a=2), A), (make(1, a=1), A)], [(make(1), B), (make(1), A)]):
        with pytest.raises(ValueError, match="canonical order"):
            merge_events(archive.path, {}, events, scratch=archive.scratch)
    assert archive.list_files() == set()


def test_a_compacted_date_does_not_depend_on_the_schedule(archive, tmp_path, monkeypatch) -> None:
    """Many segments, read a few at a time, become one that is the same as one written at once."""
    monkeypatch.setattr(segments_module, "_FILES_PER_READ", 3)
    raws = [make(number, text="x" * number) for number in range(80)]
    random.Random(1).shuffle(raws)
    for at in range(0, 80, 10):
        archive.merge(raws[at : at + 10])
    assert len(archive.live[DATE]) == 8
    assert archive.merge(raws).counts == count(known=80)
    (tmp_path / "other").mkdir()
    other = Archive(tmp_path / "other")
    (expected,) = other.merge(raws).added
    entry = compact_date(archive.path, DATE, archive.live[DATE], scratch=archive.scratch)
    assert entry == expected
    assert (archive.path / entry.path).read_bytes() == (other.path / entry.path).read_bytes()
    assert compact_date(archive.path, DATE, [entry], scratch=archive.scratch) is None


def test_a_replaced_segment_is_still_read(filled) -> None:
    """A reader finds a segment that has moved to `replaced/`, before or while it reads."""
    filled.merge([make(20)])
    expected = filled.read()
    records = read_date(filled.path, filled.live[DATE], scratch=filled.scratch)
    found = [next(records)]
    for entry in filled.live[DATE]:
        moved = filled.path / entry.path.replace("events", "replaced", 1)
        moved.parent.mkdir(parents=True, exist_ok=True)
        (filled.path / entry.path).rename(moved)
    assert [*found, *records] == expected
    assert filled.read() == expected


def replace_entry(entry: SegmentEntry, **changes: object) -> SegmentEntry:
    """Return an entry with other values."""
    return msgspec.structs.replace(entry, **changes)


@pytest.mark.parametrize(
    "path",
    [
        "events/event_date=2025-12-01/../../../{name}",
        "/etc/passwd",
        "events/event_date=2025-12-01/{name}\n",
        "events/event_date=2025-12-02/{name}",
        "events//event_date=2025-12-01/{name}",
        "replaced/event_date=2025-12-01/{name}",
        "events/event_date=2025-12-01/00000000000000000000000000000000.parquet",
        "events/event_date=２025-12-01/{name}",
        "",
    ],
)
def test_crafted_paths_are_refused_before_any_access(filled, monkeypatch, path) -> None:
    """A commit that names another path than that of the segment's date and rows opens nothing."""
    entry = filled.live[DATE][0]
    crafted = replace_entry(entry, path=path.format(name=Path(entry.path).name))
    monkeypatch.setattr(segments_module, "_open_below", pytest.fail)
    with pytest.raises(CorruptRun, match="not the path of one"):
        open_segment(filled.path, crafted)


def link_file(path: Path, outside: Path) -> None:
    """Replace a file by a link to it."""
    path.rename(outside)
    path.symlink_to(outside)


def make_pipe(path: Path, _: Path) -> None:
    """Replace a file by a pipe."""
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("change", [link_file, make_pipe])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_links_and_pipes_are_refused(filled, tmp_path, change, level) -> None:
    """A link in place of the segment, its date or `events`, and a pipe in place of the segment, are not followed."""
    entry = filled.live[DATE][0]
    target = (filled.path / entry.path, *(filled.path / entry.path).parents)[level]
    if change is make_pipe and level:
        target = filled.path / entry.path
    change(target, tmp_path / "outside")
    with pytest.raises(CorruptRun, match=r"symbolic link|not a plain file"):
        open_segment(filled.path, entry)
    if level and change is link_file:
        with pytest.raises(CorruptRun, match="not a folder"):
            merge_events(filled.path, {}, [(make(1), A)], scratch=filled.scratch)
        assert not [path for path in (tmp_path / "outside").rglob("*.parquet") if path.name not in entry.path]


def test_other_devices_are_refused(filled, monkeypatch) -> None:
    """A part of the path on another device than the archive is not read."""
    original = os.fstat
    root = filled.path.stat().st_ino

    def pretend(descriptor: int) -> os.stat_result:
        found = original(descriptor)
        values = list(found)
        values[stat.ST_DEV] += found.st_ino != root
        return os.stat_result(values)

    monkeypatch.setattr(os, "fstat", pretend)
    with pytest.raises(CorruptRun, match="not on the device"):
        open_segment(filled.path, filled.live[DATE][0])


def test_a_missing_or_cut_segment_is_named(filled) -> None:
    """A segment that is gone, or has another size than its commit states, is named in the error."""
    entry = filled.live[DATE][0]
    path = filled.path / entry.path
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptRun, match="its commit states"):
        filled.read()
    path.unlink()
    with pytest.raises(CorruptRun, match=f"{entry.path} is missing"):
        filled.merge([make(3)])


def forge(archive: Archive, sql: str) -> SegmentEntry:
    """Replace a segment by one that SQL makes of its table `t`; return an entry with its size and SHA-256."""
    entry = archive.live[DATE][0]
    path = archive.path / entry.path
    with duckdb.connect() as engine:
        engine.execute(f"CREATE TABLE t AS FROM read_parquet('{path}', hive_partitioning = false)")
        engine.execute(f"COPY ({sql}) TO '{path}' (FORMAT parquet)")
    data = path.read_bytes()
    return replace_entry(entry, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT * REPLACE ('x' AS source) FROM t", "the column source of row 1 is not that of its event"),
        ("SELECT * REPLACE (event_time + INTERVAL 1 MINUTE AS event_time) FROM t", "the column event_time of row 1"),
        ("SELECT * REPLACE (md5(event) AS event_sha256) FROM t", "the column event_sha256 of row 1"),
        ("SELECT * REPLACE ('[]' AS event) FROM t", "row 1 does not hold an event"),
        ("SELECT * REPLACE (NULL AS event) FROM t", "row 1 does not hold an event"),
        ("SELECT * REPLACE ('zz' AS origin_region) FROM t", "its rows are not those"),
        ("SELECT * FROM t ORDER BY event_time DESC", "row 2 is not after the row before it"),
        ("SELECT * FROM t UNION ALL FROM t ORDER BY event_time", "row 2 is not after"),
        ("SELECT * FROM t WHERE event_id <> '000004'", "it has 9 rows, its commit states 10"),
        ("SELECT * EXCLUDE (event_sha256) FROM t", "its columns are not those of a segment"),
        ("SELECT *, 1 AS more FROM t", "its columns are not those of a segment"),
    ],
)
def test_check_finds_rows_that_differ(filled, sql, message) -> None:
    """A segment whose size and SHA-256 are as stated, but whose rows are not, is found with what differs and where."""
    check_segment(filled.path, filled.live[DATE][0])
    entry = forge(filled, sql)
    with pytest.raises(CorruptRun, match=message):
        check_segment(filled.path, entry)


def test_check_finds_an_event_of_another_date(archive) -> None:
    """A segment that holds an event of another date than its own is altered."""
    (entry,) = archive.merge([make(1)]).added
    moved = archive.path / entry.path.replace(DATE, "2025-12-02")
    moved.parent.mkdir()
    (archive.path / entry.path).rename(moved)
    other = replace_entry(entry, path=entry.path.replace(DATE, "2025-12-02"), date="2025-12-02")
    with pytest.raises(CorruptRun, match="the event in row 1 is of 2025-12-01"):
        check_segment(archive.path, other)


def test_check_finds_a_changed_byte(filled) -> None:
    """A changed byte anywhere is found; readers get an error or the rows, never a crash of the process."""
    entry = filled.live[DATE][0]
    path = filled.path / entry.path
    good = path.read_bytes()
    for position in random.Random(2).sample(range(len(good)), 20):
        path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        with pytest.raises(CorruptRun, match="its SHA-256 is not"):
            check_segment(filled.path, entry)
    path.write_bytes(b"x" * len(good))
    with pytest.raises(CorruptRun, match="cannot be read"):
        filled.read()


def test_a_segment_out_of_order_gives_no_record_twice(filled) -> None:
    """Stored rows out of order are still known to a merge, and stop a reader, whose output would not be canonical."""
    filled.live[DATE] = [forge(filled, "SELECT * FROM t ORDER BY event_time DESC")]
    assert filled.merge([make(3), make(7)]).counts == count(known=2)
    with pytest.raises(CorruptRun, match="not in order"):
        filled.read()


def test_a_full_disk_names_no_segment(filled, monkeypatch) -> None:
    """When a write to the archive fails, the merge fails, old segments are unchanged and nothing new is named."""
    files = filled.list_files()
    fired = []

    def fail(descriptor: int, data: bytes, path: Path) -> None:
        fired.append(path)
        raise DiskError(f"cannot write to {path}: No space left on device")

    monkeypatch.setattr(segments_module, "write_all", fail)
    with pytest.raises(DiskError, match="No space left"):
        filled.merge([make(20), make(1, time="2025-12-03T00:00:00Z")])
    assert fired
    assert filled.list_files() == files
    assert not [path for path in filled.scratch.rglob("*") if not path.is_dir()]


_KILLED = """
import os, sys, json, signal
from pathlib import Path
from ociaudit.archive.segments import merge_events
from ociaudit.archive.commit import SegmentEntry
from ociaudit.planning.shard import Target
import msgspec
archive, scratch, last = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
kind = tuple[dict[str, list[SegmentEntry]], list[tuple[str, Target]]]
live, events = msgspec.json.decode(sys.stdin.buffer.read(), type=kind)
calls = 0
def wrap(name):
    original = getattr(os, name)
    def call(*args, **kwargs):
        global calls
        if "ociaudit/storage/" in sys._getframe(1).f_code.co_filename:
            calls += 1
            if calls == last:
                if name == "write":
                    original(args[0], bytes(args[1])[: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)
    setattr(os, name, call)
for name in ("open", "write", "fchmod", "chmod", "mkdir", "fsync", "fdatasync", "replace", "unlink"):
    if hasattr(os, name):
        wrap(name)
merge_events(archive, live, [(raw.encode(), target) for raw, target in events], scratch=scratch)
print(calls)
"""


def test_killed_at_any_call_only_unreferenced_files_are_left(filled) -> None:
    """After SIGKILL before any call that changes the disk, live segments are untouched, named ones are whole, and the
    same merge gives the same segments as an undisturbed one.
    """
    new = [(reserialise(make(3), is_smaller=True).decode(), A), (make(1, time="2025-12-03T00:00:00Z").decode(), A)]
    job = msgspec.json.encode((filled.live, new))
    files = {name: (filled.path / name).read_bytes() for name in filled.list_files()}

    def run(last: int) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-c", _KILLED, str(filled.path), str(filled.scratch), str(last)]
        return subprocess.run(command, input=job, capture_output=True, check=False)

    number = 0
    whole: set[str] = set()
    while (ended := run(number := number + 1)).returncode:
        assert ended.returncode == -9, ended.stderr.decode()
        for name in filled.list_files() - set(files):
            assert name.endswith((".partial", ".parquet"))
            if name.endswith(".parquet"):
                whole.add(name)
                data = (filled.path / name).read_bytes()
                assert data == files.setdefault(f"new {name}", data)
        assert all(
            (filled.path / name).read_bytes() == data for name, data in files.items() if not name.startswith("new")
        )
    assert number - 1 == int(ended.stdout) > 10
    result = filled.merge([raw.encode() for raw, _ in new])
    assert result.counts == count(reserialised=1, added=1)
    assert whole == {entry.path for entry in result.added}
    for entry in result.added:
        check_segment(filled.path, entry)
