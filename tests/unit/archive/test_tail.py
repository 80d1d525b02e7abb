"""The tail of an archive: every event once from commit to commit, and never lost across compaction and restarts."""

from __future__ import annotations

import contextlib
import hashlib
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from ociaudit.archive import tail as tail_module
from ociaudit.archive.commit_log import CommitLog
from ociaudit.archive.reader import open_archive
from ociaudit.archive.tail import (
    Batch,
    Cursor,
    TailOutput,
    load_cursor,
    make_first_cursor,
    read_tail,
    save_cursor,
    tail_archive,
)
from ociaudit.errors import CorruptRun, UsageError
from ociaudit.operations.archive_changes import prune_archive
from support.clocks import NoWaitClock
from support.event_archives import EventArchive, make_event, sort_raws

pytestmark = pytest.mark.usefixtures("quick_disk")
DATE, NEXT = "2025-12-01", "2025-12-02"


class Stopped(Exception):
    """A reader was stopped."""


@pytest.fixture
def archive(tmp_path) -> EventArchive:
    """An archive of three commits with ten events each: two dates, the second commit adds to both."""
    archive = EventArchive(tmp_path / "archive")
    archive.add([make_event(number) for number in range(0, 30, 3)])
    archive.add([make_event(number, date=date) for number in range(1, 30, 6) for date in (DATE, NEXT)])
    archive.add([make_event(number, date=NEXT) for number in range(2, 32, 3)])
    return archive


@pytest.fixture
def scratch(tmp_path) -> Path:
    """A private folder."""
    path = tmp_path / "scratch"
    path.mkdir(mode=0o700)
    return path


def read(archive: EventArchive, scratch: Path, cursor: Cursor | None = None) -> tuple[list[bytes], Cursor, list[str]]:
    """Return the events behind a cursor, the cursor behind them, and the notices."""
    view = open_archive(archive.path)
    notices: list[str] = []
    cursor = cursor or make_first_cursor(view.log)
    raws: list[bytes] = []
    for batch in read_tail(view, cursor, scratch=scratch, on_notice=notices.append):
        raws += [record.raw for record in batch.records]
        cursor = batch.cursor
    return raws, cursor, notices


def test_each_commit_gives_its_events_by_date_and_in_canonical_order(archive, scratch) -> None:
    """A first reading gives the events of each commit in turn; nothing is left behind its cursor."""
    raws, cursor, notices = read(archive, scratch)
    second = [make_event(number, date=date) for date in (DATE, NEXT) for number in range(1, 30, 6)]
    assert raws[:10] == [make_event(number) for number in range(0, 30, 3)]
    assert raws[10:20] == second
    assert raws[20:] == [make_event(number, date=NEXT) for number in range(2, 32, 3)]
    assert read(archive, scratch, cursor) == ([], cursor, [])
    assert notices == []


def test_later_commits_follow_where_the_cursor_is(archive, scratch) -> None:
    """Behind a cursor are exactly the events of later commits, and none that the archive had already."""
    _, cursor, _ = read(archive, scratch)
    archive.add([make_event(0), make_event(40), make_event(3)])
    assert read(archive, scratch, cursor)[0] == [make_event(40)]


@pytest.mark.parametrize("keeps_replaced", [True, False])
def test_compaction_changes_nothing_for_a_reader_behind_it(archive, scratch, keeps_replaced) -> None:
    """A date that was compacted since gives the same events in the same order as before, from the record of ids."""
    before, _, _ = read(archive, scratch)
    archive.compact(DATE, keeps_replaced=keeps_replaced)
    archive.compact(NEXT, keeps_replaced=keeps_replaced)
    after, _, notices = read(archive, scratch)
    assert after == before
    assert notices == []


def test_a_date_that_a_commit_rewrote_gives_only_what_is_new(archive, scratch) -> None:
    """A commit that rewrites a date, because smaller bytes of a stored event came, gives its added events alone."""
    _, cursor, _ = read(archive, scratch)
    smaller = make_event(0).replace(b'{"', b'{ "', 1)
    commit = archive.add([smaller, make_event(40)])
    assert commit.replaced
    assert read(archive, scratch, cursor)[0] == [make_event(40)]


def test_an_event_whose_bytes_were_replaced_is_not_lost(archive, scratch) -> None:
    """Where smaller bytes of an unread event came later, the whole date is given, with a notice."""
    archive.add([make_event(0).replace(b'{"', b'{ "', 1)])
    shutil.rmtree(archive.path / "replaced" / f"event_date={DATE}")
    raws, _, notices = read(archive, scratch)
    ids = [msgspec.json.decode(raw)["eventId"] for raw in raws]
    assert set(ids) == {f"{number:06}" for number in (*range(0, 30, 3), *range(1, 30, 6), *range(2, 32, 3))}
    assert any("came again in other bytes" in one for one in notices)


def test_a_late_event_of_a_pruned_date_is_given_once(archive, scratch) -> None:
    """What was pruned is named as gone, and an event that came later to its date is no repetition of it."""
    prune_archive(archive.path, NEXT, clock=NoWaitClock(), is_confirmed=True)
    archive.add([make_event(77)])
    raws, _, notices = read(archive, scratch)
    on_next = [make_event(number, date=NEXT) for number in (*range(1, 30, 6), *range(2, 32, 3))]
    assert sorted(raws) == sorted([make_event(77), *on_next])
    assert notices == [f"events of {DATE} were pruned before they were read here"]


def test_compacted_dates_are_given_once_where_the_record_of_ids_is_gone(archive, scratch) -> None:
    """An older cursor gets each compacted date as a whole, once for all commits, and one notice says so."""
    archive.compact(DATE)
    shutil.rmtree(archive.path / "tail")
    raws, _, notices = read(archive, scratch)
    on_date = sort_raws([make_event(number) for number in (*range(0, 30, 3), *range(1, 30, 6))])
    assert [raw for raw in raws if DATE.encode() in raw] == on_date
    assert len(raws) == 30
    assert len(notices) == 1
    assert DATE in notices[0]


def test_a_damaged_record_of_ids_costs_repeats_only(archive, scratch) -> None:
    """With a damaged sidecar the dates of its commit are given as a whole; a notice names the file."""
    archive.compact(DATE)
    path = archive.path / "tail/000000000002.ids"
    path.write_bytes(path.read_bytes()[:-1])
    raws, _, notices = read(archive, scratch)
    assert set(raws) == set(read(archive, scratch)[0])
    assert len(set(raws)) == 30
    assert str(path) in notices[0]


def test_a_segment_that_is_missing_is_damage(archive, scratch) -> None:
    """A live segment that is not there ends the reading with exit 6; nothing is passed over in silence."""
    next((archive.path / "events" / f"event_date={NEXT}").iterdir()).unlink()
    with pytest.raises(CorruptRun):
        read(archive, scratch)


class Shaky:
    """A reader that is stopped at random: before it encodes, and in the middle of a portion."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self.received: list[bytes] = []
        self.stops = 0

    def encode(self, records) -> Sequence[bytes]:
        """Return the events, or stop."""
        if self._draw.random() < 0.15:
            self.stops += 1
            raise Stopped
        return [record.raw for record in records]

    def write(self, data: bytes) -> None:
        """Keep whole lines, sometimes only the first ones."""
        lines = data.splitlines()
        kept = self._draw.randrange(len(lines) + 1) if self._draw.random() < 0.3 else len(lines)
        self.received.extend(lines[:kept])
        if kept < len(lines):
            raise Stopped

    def read(self, path: Path, cursor_path: Path, scratch: Path) -> None:
        """Read until the end or a stop."""
        output = TailOutput(self.encode, self.write, lambda: None)
        with contextlib.suppress(Stopped):
            tail_archive(path, output, cursor_path=cursor_path, scratch=scratch)


@pytest.mark.parametrize("seed", range(4))
def test_stops_at_any_moment_lose_nothing(tmp_path, scratch, monkeypatch, seed) -> None:
    """However often a reader is stopped while the archive grows and is compacted, it gets every event."""
    monkeypatch.setattr(tail_module, "_BATCH_EVENTS", 20)
    monkeypatch.setattr(tail_module, "_FLUSH_BYTES", 5_000)
    draw = random.Random(seed)
    archive = EventArchive(tmp_path / "grown")
    cursor_path = tmp_path / "cursor"
    expected: set[bytes] = set()
    reader = Shaky(draw)
    for step in range(8):
        events = [make_event(draw.randrange(4000), date=draw.choice((DATE, NEXT))) for _ in range(draw.randrange(200))]
        expected.update(events)
        archive.add(events, with_ids=draw.random() < 0.8)
        if draw.random() < 0.4:
            reader.read(archive.path, cursor_path, scratch)
        for date in (DATE, NEXT) if step % 4 == 3 else ():
            archive.compact(date)
    log = CommitLog.open(archive.path)
    while load_cursor(cursor_path, log.header.id).sequence < log.next_sequence:
        reader.read(archive.path, cursor_path, scratch)
    assert set(reader.received) == expected
    assert reader.stops > 0


def test_what_a_filter_drops_moves_the_cursor_too(archive, tmp_path, scratch) -> None:
    """When no event is wanted, the saved cursor is at the end all the same."""
    path = tmp_path / "cursor"
    output = TailOutput(lambda _: [], lambda _: pytest.fail("nothing is to be written"), lambda: None)
    assert tail_archive(archive.path, output, cursor_path=path, scratch=scratch) == 0
    assert load_cursor(path, open_archive(archive.path).header.id).sequence == 4


def test_a_cursor_from_another_history_is_refused(archive, tmp_path, scratch) -> None:
    """After a restore from an older copy, a cursor ahead of it or of another branch is an error, not a silent hole."""
    copy = tmp_path / "copy"
    shutil.copytree(archive.path, copy)
    archive.add([make_event(41)])
    _, cursor, _ = read(archive, scratch)
    archive.path = copy
    with pytest.raises(UsageError, match="restored from an older copy"):
        read(archive, scratch, cursor)
    archive.add([make_event(42)])
    with pytest.raises(UsageError, match="restored from a copy and has other commits"):
        read(archive, scratch, cursor)
    archive.add([make_event(43)])
    with pytest.raises(UsageError, match="restored from a copy and has other commits"):
        read(archive, scratch, cursor)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"{}", b'{"schema":"oci-audit-cursor/2"}', b"\xff", b"[" * 100_000], ids=range(7)
)
def test_a_file_that_is_not_a_cursor_is_refused(archive, tmp_path, data) -> None:
    """Whatever else is in the file, the message names it and says what to do."""
    path = tmp_path / "cursor"
    path.write_bytes(data)
    with pytest.raises(UsageError, match="cursor") as caught:
        load_cursor(path, "x")
    assert "first commit" in caught.value.hint


def test_the_cursor_of_another_archive_is_refused(archive, tmp_path) -> None:
    """A cursor names its archive."""
    path = tmp_path / "cursor"
    save_cursor(path, make_first_cursor(CommitLog.open(archive.path)))
    with pytest.raises(UsageError, match="another archive"):
        load_cursor(path, hashlib.md5(b"x").hexdigest())


def test_a_new_view_has_the_segments_that_a_paused_reader_misses(archive, tmp_path, scratch) -> None:
    """A segment replaced and removed while the reader paused is read from the view of the newest commit."""
    received: list[bytes] = []
    is_compacted = False

    def write(data: bytes) -> None:
        received.extend(data.splitlines())

    def check() -> None:
        nonlocal is_compacted
        if not is_compacted:
            is_compacted = True
            archive.compact(NEXT)

    output = TailOutput(lambda records: [record.raw for record in records], write, check)
    tail_archive(archive.path, output, cursor_path=tmp_path / "cursor", scratch=scratch)
    assert is_compacted
    assert len(received) == len(set(received)) == 30


def test_an_archive_without_commits_has_no_events(tmp_path, scratch) -> None:
    """Before the first commit there is nothing, and the cursor stays before it."""
    archive = EventArchive(tmp_path / "empty")
    raws, cursor, _ = read(archive, scratch)
    assert raws == []
    archive.add([make_event(1)])
    assert read(archive, scratch, cursor)[0] == [make_event(1)]


def test_a_batch_holds_the_cursor_behind_it(archive, scratch) -> None:
    """Reading on from the cursor of any batch gives exactly what follows that batch."""
    archive.add([make_event(number, date="2025-12-03") for number in range(1200)])
    view = open_archive(archive.path)
    batches: list[Batch] = list(read_tail(view, make_first_cursor(view.log), scratch=scratch))
    for number, batch in enumerate(batches):
        rest = [record.raw for later in batches[number + 1 :] for record in later.records]
        assert read(archive, scratch, batch.cursor)[0] == rest
    assert max(len(batch.records) for batch in batches) == 500
