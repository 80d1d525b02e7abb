import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from ociaudit.errors import CorruptRun, DiskError
from ociaudit.planning.window import Coverage
from ociaudit.storage.journal import PageLine, RunLine, decode_line, encode_line
from ociaudit.storage.recovery import Recovered
from ociaudit.storage.run_dir import RunDirectory
from ociaudit.storage.spool import Spool
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
def left_over(tmp_path: Path) -> Path:
    """A run directory in which everything was answered, in pages of one event, and nothing was published."""
    path = tmp_path / "run"
    path.mkdir()
    with (recovered := open_run(path)).spool:
        list(ask_missing(recovered, SERVICE, page_size=1))
    return path


def check_progress_is_true(recovered: Recovered) -> None:
    """Check that whatever counts as covered is in the spool with every event."""
    held = set(read_output(recovered.spool)[0])
    for shard, events in SERVICE.items():
        if not recovered.progress.covered.get(shard.target, Coverage()).find_missing(shard.window):
            assert {event.raw for event in events} <= held


def reopen_and_finish(path: Path) -> Recovered:
    """Reopen the run, check what it claims, ask for the rest in larger pages, and check the output."""
    recovered = open_run(path)
    with recovered.spool:
        check_progress_is_true(recovered)
        list(ask_missing(recovered, SERVICE, page_size=2))
        assert read_output(recovered.spool)[0] == TRUTH
    with open_run(path).spool as again:  # and what was mended stays mended
        assert read_output(again)[0] == TRUTH
    return recovered


def copy_for_each(
    path: Path, name: str, damage: Callable[[bytes, int], bytes], targets: Iterable[int] | None = None
) -> Iterator[tuple[int, Path]]:
    """Yield a copy of the run for every byte of one of its files, or for some, damaged there."""
    whole = (path / name).read_bytes()
    copy = path.with_name("copy")
    for target in targets or range(len(whole)):
        if target > len(whole):
            continue
        shutil.copytree(path, copy)
        (copy / name).write_bytes(damage(whole, target))
        yield target, copy
        shutil.rmtree(copy)


def cut(data: bytes, target: int) -> bytes:
    """Leave only what stands before a place."""
    return data[:target]


def flip(data: bytes, target: int) -> bytes:
    """Change one bit at a place."""
    return data[:target] + bytes([data[target] ^ (1 << target % 8)]) + data[target + 1 :]


def test_an_undisturbed_run_covers_everything(left_over: Path) -> None:
    """Reopened without damage it has nothing left to ask, and says nothing."""
    recovered = open_run(left_over)
    with recovered.spool:
        assert not list(ask_missing(recovered, SERVICE, page_size=1))
        events, counts = read_output(recovered.spool)
    assert events == TRUTH
    assert (counts.written, counts.identical) == (4, 1)
    assert recovered.notices == ()


def test_a_log_cut_anywhere_is_asked_again_from_there(left_over: Path) -> None:
    """At every byte: what is gone counts no more, and asking for it gives the same bytes."""
    for _, copy in copy_for_each(left_over, "events.log", cut):
        assert reopen_and_finish(copy).notices


def test_a_bit_flipped_anywhere_in_the_log_is_noticed(left_over: Path) -> None:
    """At every byte: the page is void, and asking for it gives the same bytes."""
    for _, copy in copy_for_each(left_over, "events.log", flip):
        assert "pages of the log are damaged" in "".join(reopen_and_finish(copy).notices)


def test_a_journal_cut_anywhere_is_gone_on_from_there(left_over: Path) -> None:
    """Around every line's end and inside: whole lines count, a torn one does not, and the rest is asked again."""
    whole = (left_over / "journal.ndjson").read_bytes()
    ends = [target for target, byte in enumerate(whole) if byte == ord("\n")]
    targets = {target + near for target in ends for near in (0, 1, 2)} | set(range(0, len(whole), 29))
    for _, copy in copy_for_each(left_over, "journal.ndjson", cut, targets=sorted(targets)):
        reopen_and_finish(copy)


def test_a_bit_flipped_anywhere_in_the_journal_is_noticed(left_over: Path) -> None:
    """At every byte: the run is corrupt, exit 6; only in the last line it is like a torn one."""
    begin_of_last_line = (left_over / "journal.ndjson").read_bytes()[:-1].rindex(b"\n") + 1
    whole = (left_over / "journal.ndjson").read_bytes()
    for target in range(begin_of_last_line - 1):
        (left_over / "journal.ndjson").write_bytes(flip(whole, target))
        with pytest.raises(CorruptRun, match=r"damaged in line|does not belong") as caught:
            open_run(left_over)
        assert caught.value.exit_code == 6
    assert (left_over / "journal.ndjson").read_bytes() == flip(whole, begin_of_last_line - 2)  # nothing was cut
    (left_over / "journal.ndjson").write_bytes(whole)
    for _, copy in copy_for_each(
        left_over, "journal.ndjson", flip, targets=range(begin_of_last_line - 1, len(whole), 5)
    ):
        with contextlib.suppress(CorruptRun):  # the flip may have made a line break, so that two lines are bad
            reopen_and_finish(copy)


@pytest.mark.parametrize("tail", [b"\0" * 500, b"{", b"garbage", b'{"kind":"run"}'])
def test_what_stands_behind_the_last_line_is_cut_off(left_over: Path, tail: bytes) -> None:
    """A tail without a line break in either file is not ours, and does not count."""
    for name in ("journal.ndjson", "events.log"):
        with (left_over / name).open("ab") as file:
            file.write(tail)
    assert "torn" in "".join(reopen_and_finish(left_over).notices)


@pytest.mark.parametrize("name", ["events.log", "journal.ndjson"])
def test_a_deleted_file_is_asked_again(left_over: Path, name: str) -> None:
    """Without its log or its journal a run begins again, and gives the same bytes."""
    (left_over / name).unlink()
    reopen_and_finish(left_over)


def test_a_journal_of_another_run_is_an_error(left_over: Path) -> None:
    """A journal that belongs to another plan is not used, and nothing is cut."""
    path = left_over / "journal.ndjson"
    path.write_bytes(encode_line(RunLine("8" * 64, "2025-12-01T00:00:00Z")))
    before = path.read_bytes()
    with pytest.raises(CorruptRun, match="does not belong"):
        open_run(left_over)
    assert path.read_bytes() == before


def test_a_page_from_a_place_that_is_not_planned_counts_no_more(tmp_path: Path) -> None:
    """An event whose origin cannot be told is not written."""
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
    """A run with so many events that its log has a dictionary, and pages from before and after it."""
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
    """Damage before, in or behind the dictionary is noticed, and asking again gives the same bytes."""
    path, service = trained_run
    size = (path / "events.log").stat().st_size
    for number, damage in enumerate((cut, flip)):
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
    """A process killed before its commit leaves a run that has not begun."""
    recovered = open_run(tmp_path)
    list(ask_missing(recovered, SERVICE, page_size=1))
    kill(recovered.spool)
    recovered = open_run(tmp_path)
    assert not recovered.progress.covered
    assert not recovered.progress.begun
    recovered.spool.commit()
    kill(recovered.spool)


class FullDisk:
    """Takes some bytes of a write and then refuses, until it is emptied."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, room: int) -> None:
        self.room = room
        self.refusals = 0
        self._write = os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, descriptor: int, data: memoryview) -> int:
        """Write what there is room for."""
        if not self.room:
            self.refusals += 1
            raise OSError(28, "No space left on device")
        written = self._write(descriptor, data[: self.room])
        self.room -= written
        return written


@pytest.mark.parametrize("room", [0, 1, 100, 300, 500, 700, 900, 1500])
def test_a_disk_that_is_full_for_a_moment_corrupts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """After a refused write nothing more is appended, so that what counts can be told from what does not."""
    recovered = open_run(tmp_path)
    disk = FullDisk(monkeypatch, room=room)
    with pytest.raises(DiskError) as caught, recovered.spool as spool:  # noqa: PT012 - leaving must not write either
        list(ask_missing(recovered, SERVICE, page_size=1))
        try:
            spool.commit()
        finally:
            disk.room = 10**9
    assert caught.value.exit_code == 5
    assert disk.refusals == 1
    monkeypatch.undo()
    reopen_and_finish(tmp_path)


def test_files_of_a_run_are_private(left_over: Path) -> None:
    """Log and journal are for their owner alone."""
    for name in ("events.log", "journal.ndjson"):
        assert (left_over / name).stat().st_mode & 0o777 == 0o600


def test_a_log_damaged_while_it_is_published_is_corrupt(left_over: Path) -> None:
    """A frame that cannot be read any more ends as exit 6 with the place, and not with a trace."""
    with (recovered := open_run(left_over)).spool:
        (left_over / "events.log").write_bytes(b"")
        with pytest.raises(CorruptRun, match=r"events\.log is damaged at byte \d"):
            read_output(recovered.spool)


def test_a_spool_is_committed_when_it_is_left(tmp_path: Path) -> None:
    """Leaving in good order, or by any error that is not the disk's, keeps what has arrived."""
    with pytest.raises(KeyboardInterrupt), (recovered := open_run(tmp_path)).spool:  # noqa: PT012 - the body fails
        list(ask_missing(recovered, SERVICE, page_size=1))
        raise KeyboardInterrupt
    assert reopen_and_finish(tmp_path).progress.covered


def test_what_is_appended_while_a_batch_is_written_is_the_next_batch(tmp_path: Path) -> None:
    """A batch holds what was taken before it, with the bytes of its events; nothing is lost or written twice."""
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
