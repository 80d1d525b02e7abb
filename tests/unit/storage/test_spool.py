import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from ociaudit.errors import CorruptRun, DiskError
from ociaudit.planning.shard import Coverage
from ociaudit.storage.journal import PageLine, RunLine, decode_line, encode_line
from ociaudit.storage.run_dir import RunDirectory
from ociaudit.storage.spool import Recovered, Spool
from support.drawn_shards import HERE, THERE, make_event, make_page_line, make_shard
from support.served_runs import (
    Service,
    ask_missing,
    kill,
    open_run,
    read_output,
    sort_events,
)

pytestmark = pytest.mark.usefixtures("quick_disk")

SERVICE: Service = {
    make_shard(0, 60): [make_event(number) for number in (5, 3, 4)],
    make_shard(60, 120): [make_event(61), make_event(4)],
    make_shard(0, 60, THERE): [],
}
TRUTH = sort_events(SERVICE)


@pytest.fixture
def finished_run(tmp_path: Path) -> Path:
    """Make a run directory in which everything was answered, in pages of one event, and nothing was published."""
    path = tmp_path / "run"
    path.mkdir()
    with (recovered := open_run(path)).spool:
        list(ask_missing(recovered, SERVICE, page_size=1))
    return path


def check_progress_is_true(recovered: Recovered) -> None:
    """Check that what counts as covered is in the spool with every event."""
    held = set(read_output(recovered.spool)[0])
    for shard, events in SERVICE.items():
        if not recovered.progress.covered.get(shard.target, Coverage()).find_missing(shard.window):
            assert {event.raw for event in events} <= held


def reopen_and_finish(path: Path) -> Recovered:
    """Reopen the run, check its progress, fetch the rest in larger pages, and check the output."""
    recovered = open_run(path)
    with recovered.spool:
        check_progress_is_true(recovered)
        list(ask_missing(recovered, SERVICE, page_size=2))
        assert read_output(recovered.spool)[0] == TRUTH
    with open_run(path).spool as again:  # the repair is durable
        assert read_output(again)[0] == TRUTH
    return recovered


def copy_for_each(
    path: Path, name: str, damage: Callable[[bytes, int], bytes], positions: Iterable[int] | None = None
) -> Iterator[tuple[int, Path]]:
    """Yield a copy of the run for every position in one of its files, or for some, damaged there."""
    whole = (path / name).read_bytes()
    copy = path.with_name("copy")
    for position in positions or range(len(whole)):
        if position > len(whole):
            continue
        shutil.copytree(path, copy)
        (copy / name).write_bytes(damage(whole, position))
        yield position, copy
        shutil.rmtree(copy)


def truncate(data: bytes, position: int) -> bytes:
    """Return the bytes before a position."""
    return data[:position]


def flip(data: bytes, position: int) -> bytes:
    """Return the bytes with one bit changed at a position."""
    return data[:position] + bytes([data[position] ^ (1 << position % 8)]) + data[position + 1 :]


def test_an_undisturbed_run_covers_everything(finished_run: Path) -> None:
    """Reopened without damage, a finished run has nothing left to fetch and no notices."""
    recovered = open_run(finished_run)
    with recovered.spool:
        assert not list(ask_missing(recovered, SERVICE, page_size=1))
        events, counts = read_output(recovered.spool)
    assert events == TRUTH
    assert (counts.written, counts.identical) == (4, 1)
    assert recovered.notices == ()


def test_a_log_truncated_anywhere_is_fetched_again_from_there(finished_run: Path) -> None:
    """At every byte: what is missing does not count, and fetching it again gives the same bytes."""
    for _, copy in copy_for_each(finished_run, "events.log", truncate):
        assert reopen_and_finish(copy).notices


def test_a_bit_flipped_anywhere_in_the_log_is_noticed(finished_run: Path) -> None:
    """At every byte: the page is void, and fetching it again gives the same bytes."""
    for _, copy in copy_for_each(finished_run, "events.log", flip):
        assert "damaged pages in the event log: " in "".join(reopen_and_finish(copy).notices)


def test_a_journal_truncated_anywhere_is_continued_from_there(finished_run: Path) -> None:
    """At the ends of lines and within them: whole lines count, a torn one does not, and the rest is fetched again."""
    whole = (finished_run / "journal.ndjson").read_bytes()
    ends = [position for position, byte in enumerate(whole) if byte == ord("\n")]
    positions = {end + near for end in ends for near in (0, 1, 2)} | set(range(0, len(whole), 29))
    for _, copy in copy_for_each(finished_run, "journal.ndjson", truncate, positions=sorted(positions)):
        reopen_and_finish(copy)


def test_a_bit_flipped_anywhere_in_the_journal_is_noticed(finished_run: Path) -> None:
    """At every byte: the run is corrupt, exit 6, except in the last line, which then counts as torn."""
    last_line_start = (finished_run / "journal.ndjson").read_bytes()[:-1].rindex(b"\n") + 1
    whole = (finished_run / "journal.ndjson").read_bytes()
    for position in range(last_line_start - 1):
        (finished_run / "journal.ndjson").write_bytes(flip(whole, position))
        with pytest.raises(CorruptRun, match=r"damaged in line|does not belong") as caught:
            open_run(finished_run)
        assert caught.value.exit_code == 6
    assert (finished_run / "journal.ndjson").read_bytes() == flip(whole, last_line_start - 2)  # nothing was truncated
    (finished_run / "journal.ndjson").write_bytes(whole)
    for _, copy in copy_for_each(
        finished_run, "journal.ndjson", flip, positions=range(last_line_start - 1, len(whole), 5)
    ):
        with contextlib.suppress(CorruptRun):  # the flip may have made a line break, and two bad lines
            reopen_and_finish(copy)


@pytest.mark.parametrize("tail", [b"\0" * 500, b"{", b"garbage", b'{"kind":"run"}'])
def test_bytes_after_the_last_line_are_removed(finished_run: Path, tail: bytes) -> None:
    """A tail that no line of the journal refers to, in either file, does not count."""
    for name in ("journal.ndjson", "events.log"):
        with (finished_run / name).open("ab") as file:
            file.write(tail)
    assert "torn" in "".join(reopen_and_finish(finished_run).notices)


@pytest.mark.parametrize("name", ["events.log", "journal.ndjson"])
def test_a_deleted_file_is_fetched_again(finished_run: Path, name: str) -> None:
    """Without its log or its journal a run starts again and gives the same bytes."""
    (finished_run / name).unlink()
    reopen_and_finish(finished_run)


def test_a_journal_of_another_run_is_an_error(finished_run: Path) -> None:
    """A journal that belongs to another plan is an error, and the file is unchanged."""
    path = finished_run / "journal.ndjson"
    path.write_bytes(encode_line(RunLine("8" * 64, "2025-12-01T00:00:00Z")))
    before = path.read_bytes()
    with pytest.raises(CorruptRun, match="does not belong"):
        open_run(finished_run)
    assert path.read_bytes() == before


def test_a_page_of_an_unplanned_target_does_not_count(tmp_path: Path) -> None:
    """An event of a target that is not in the plan is not written."""
    stranger = make_shard(0, 60, target=type(HERE)("mars-1", "ocid1.tenancy.oc1..x"))
    origins = {HERE: 0, stranger.target: 1}
    with (recovered := open_run(tmp_path)).spool as spool:
        spool._origins = origins
        spool.append_page(make_page_line(stranger, 1, scanned=1, kept=1), [make_event(1)])
    recovered = open_run(tmp_path)
    with recovered.spool:
        assert read_output(recovered.spool)[0] == []
    assert stranger.target not in recovered.progress.covered


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Service]:
    """Make a run with so many events that its log has a dictionary, and pages from before and after it."""
    service: Service = {
        make_shard(0, 60): [make_event(number, extra=f"{number * number}") for number in range(390)],
        make_shard(60, 120): [make_event(number, extra=f"{number * number}") for number in range(400, 480)],
    }
    path = tmp_path_factory.mktemp("trained")
    with (recovered := open_run(path)).spool:
        list(ask_missing(recovered, service, page_size=50))
    assert b'"kind":"dictionary"' in (path / "journal.ndjson").read_bytes()
    return path, service


@pytest.mark.parametrize("part", range(12))
def test_a_damaged_log_with_a_dictionary_gives_the_same_bytes(
    trained_run: tuple[Path, Service], tmp_path: Path, part: int
) -> None:
    """Damage before, in or after the dictionary is noticed, and fetching again gives the same bytes."""
    path, service = trained_run
    size = (path / "events.log").stat().st_size
    for number, damage in enumerate((truncate, flip)):
        copy = tmp_path / str(number)
        shutil.copytree(path, copy)
        (copy / "events.log").write_bytes(damage((path / "events.log").read_bytes(), size * part // 12))
        with (recovered := open_run(copy)).spool:
            assert recovered.notices
            assert list(ask_missing(recovered, service, page_size=33))
            assert read_output(recovered.spool)[0] == sort_events(service)
        with (again := open_run(copy)).spool:
            assert not list(ask_missing(again, service, page_size=33))
            assert read_output(again.spool)[0] == sort_events(service)


def test_what_was_not_committed_does_not_count(tmp_path: Path) -> None:
    """A process that is killed before its first commit leaves a run that has not started."""
    recovered = open_run(tmp_path)
    list(ask_missing(recovered, SERVICE, page_size=1))
    kill(recovered.spool)
    recovered = open_run(tmp_path)
    assert not recovered.progress.covered
    assert not recovered.progress.begun
    recovered.spool.commit()
    kill(recovered.spool)


class FullDisk:
    """A disk that accepts some bytes and then rejects writes, until it has room again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, room: int) -> None:
        self.room = room
        self.rejections = 0
        self._write = os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, descriptor: int, data: memoryview) -> int:
        """Write as much as there is room for."""
        if not self.room:
            self.rejections += 1
            raise OSError(28, "No space left on device")
        written = self._write(descriptor, data[: self.room])
        self.room -= written
        return written


@pytest.mark.parametrize("room", [0, 1, 100, 300, 500, 700, 900, 1500])
def test_a_disk_that_is_full_for_a_moment_corrupts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """After a failed write nothing more is appended, so that what counts can be distinguished from the rest."""
    recovered = open_run(tmp_path)
    disk = FullDisk(monkeypatch, room=room)
    with pytest.raises(DiskError) as caught, recovered.spool as spool:  # noqa: PT012 - leaving must not write either
        list(ask_missing(recovered, SERVICE, page_size=1))
        try:
            spool.commit()
        finally:
            disk.room = 10**9
    assert caught.value.exit_code == 5
    assert disk.rejections == 1
    monkeypatch.undo()
    reopen_and_finish(tmp_path)


def test_files_of_a_run_are_private(finished_run: Path) -> None:
    """Only the owner can read the log and the journal."""
    for name in ("events.log", "journal.ndjson"):
        assert (finished_run / name).stat().st_mode & 0o777 == 0o600


def test_a_log_damaged_while_it_is_published_is_corrupt(finished_run: Path) -> None:
    """A frame that cannot be read any more is an error with its offset."""
    with (recovered := open_run(finished_run)).spool:
        (finished_run / "events.log").write_bytes(b"")
        with pytest.raises(CorruptRun, match=r"events\.log is damaged at byte \d"):
            read_output(recovered.spool)


def test_a_spool_is_committed_when_it_is_left(tmp_path: Path) -> None:
    """Leaving the spool by any exception but a disk error keeps what has been appended."""
    with pytest.raises(KeyboardInterrupt), (recovered := open_run(tmp_path)).spool:  # noqa: PT012 - the body fails
        list(ask_missing(recovered, SERVICE, page_size=1))
        raise KeyboardInterrupt
    assert reopen_and_finish(tmp_path).progress.covered


def test_what_is_appended_while_a_batch_is_written_is_the_next_batch(tmp_path: Path) -> None:
    """A batch holds what was appended before it, with the bytes of its events; nothing is lost or written twice."""
    with Spool(RunDirectory(tmp_path), {HERE: 0}) as spool:
        first, second = make_event(1), make_event(2)
        spool.append_page(make_page_line(make_shard(), 1, next_token="t"), [first])
        assert spool.pending_bytes == len(first.raw)
        batch = spool.pop_batch()
        assert spool.pending_bytes == 0
        spool.append_page(make_page_line(make_shard(), 2), [second])
        spool.write_batch(batch)
        assert spool.pending_bytes == len(second.raw)
    lines = (tmp_path / "journal.ndjson").read_bytes().splitlines(keepends=True)
    assert [line.page for line in map(decode_line, lines) if isinstance(line, PageLine)] == [1, 2]
