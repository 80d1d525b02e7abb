"""Promises of an archive's chain for every history: it reads back as a prefix, and what was acknowledged is in it."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from ociaudit.archive.commit import Head, SegmentEntry, check_segment_path
from ociaudit.archive.commit_log import CommitLog, create_archive, verify_chain
from ociaudit.errors import CorruptRun, DiskError, UsageError
from support.archives import NOW, TENANCY, make_commit, make_segment

CALLS = ("write", "fsync", "fdatasync", "link", "replace", "unlink")


class Killed(BaseException):
    """The process is gone: nothing after this call happens, not even a clean-up."""


@pytest.fixture(scope="module", autouse=True)
def quick_disk() -> Iterator[None]:
    """Make syncing return immediately."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr(os, "fdatasync", lambda _: None, raising=False)
        yield


@contextlib.contextmanager
def disturb(how: str, at: int) -> Iterator[None]:
    """Stop at a call from 0 on: `kill` before it and make every later one fail, `fail` or `lose` its answer."""
    seen = 0

    def wrap(function: Callable[..., object]) -> Callable[..., object]:
        def wrapper(*arguments: object, **options: object) -> object:
            nonlocal seen
            number, seen = seen, seen + 1
            if how == "kill" and number >= at:
                raise Killed
            if how == "fail" and number == at:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            result = function(*arguments, **options)
            if how == "lose" and number == at:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return result

        return wrapper

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, wrap(getattr(os, name)))
        yield
    if seen > at:
        event(f"{how} happened")


disturbances = st.tuples(st.sampled_from(["none", "kill", "fail", "lose"]), st.integers(0, 12))
steps = st.lists(
    st.tuples(st.sampled_from(["append", "recover", "checkpoint", "reopen", "stale append"]), disturbances),
    min_size=1,
    max_size=14,
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(steps)
def test_any_history_is_a_whole_chain_with_all_that_was_acknowledged(
    history: list[tuple[str, tuple[str, int]]],
) -> None:
    """Whatever is appended, killed, failed and repeated: readers see a chain that only grows, and nothing is lost."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "archive"
        create_archive(path, tenancy=TENANCY, now=NOW)
        log = stale = CommitLog.open(path)
        acknowledged: list[Head] = []
        seen: list[str] = []
        for number, (step, (how, at)) in enumerate(history):
            with contextlib.suppress(Killed, DiskError), disturb(how, at):
                if step == "append":
                    acknowledged.append(log.append(make_commit(log, reason=f"step {number}")))
                elif step == "recover":
                    log.recover(known=[])
                elif step == "checkpoint" and log.head:
                    log.write_checkpoint(b"state %d" % number)
                elif step == "stale append":
                    with contextlib.suppress(UsageError):
                        acknowledged.append(stale.append(make_commit(stale, reason=f"step {number}")))
                elif step == "reopen":
                    stale = CommitLog.open(path)
            log = CommitLog.open(path)
            commits = list(log.read_commits())
            reasons = [commit.reason for commit in commits]
            assert reasons[: len(seen)] == seen
            seen = reasons
            assert len(set(reasons)) == len(reasons)
            chain = {commit.sequence - 1: commit.previous for commit in commits}
            assert log.head is None or chain.setdefault(log.head.sequence, log.head.digest)
            assert all(chain[head.sequence] == head.digest for head in acknowledged)
            assert verify_chain(path).faults == ()
            found = log.read_checkpoint()
            assert found is None or chain[found.sequence] == found.digest
        log.recover(known=[])
        assert not [each for each in path.rglob("*") if each.name.endswith(".partial")]


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 6), st.integers(0, 5), st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_any_changed_byte_of_a_commit_is_found(count: int, which: int, part: float, flip: int) -> None:
    """Whichever byte of whichever commit is changed, verify names that commit, and no reader gets to the end."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        create_archive(path, tenancy=TENANCY, now=NOW)
        log = CommitLog.open(path)
        for number in range(count):
            log.append(make_commit(log, added=[make_segment(number)]))
        sequence = which % count + 1
        file = log.folder.commit_path(sequence)
        data = bytearray(file.read_bytes())
        data[int(part * len(data))] ^= flip
        file.write_bytes(data)
        try:
            faults = {fault.path for fault in verify_chain(path).faults}
        except CorruptRun as error:
            faults = {f"commits/{sequence:012}.json"} if "newer" in str(error) and str(file) in str(error) else set()
        assert f"commits/{sequence:012}.json" in faults
        with pytest.raises(CorruptRun):
            list(CommitLog.open(path).read_commits())


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(2, 7), st.sets(st.integers(1, 7), min_size=1))
def test_any_missing_commits_are_found(count: int, gone: set[int]) -> None:
    """Whichever commits are missing, verify names each one below the newest left, and HEAD if the end is missing."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        create_archive(path, tenancy=TENANCY, now=NOW)
        log = CommitLog.open(path)
        for _ in range(count):
            log.append(make_commit(log))
        gone = {sequence for sequence in gone if sequence <= count} or {1}
        for sequence in gone:
            log.folder.commit_path(sequence).unlink()
        newest = max(set(range(1, count + 1)) - gone, default=0)
        expected = {f"commits/{each:012}.json" for each in gone if each < newest} | (
            {"HEAD"} if newest < count else set()
        )
        assert {fault.path for fault in verify_chain(path).faults} == expected


@settings(max_examples=300)
@given(st.text() | st.from_regex(r"\A(events|\.\.|/)?/?event_date=[0-9.]{0,10}/[0-9a-f]{30,34}\.parquet\Z"))
def test_a_path_that_is_accepted_stays_below_events(path: str) -> None:
    """A path is either refused, or leads to a file two levels below `events`."""
    try:
        check_segment_path(path, where="commit 1")
    except CorruptRun:
        return
    root = Path("/archive")
    assert Path(os.path.normpath(root / path)) == root / path
    assert (root / path).parent.parent == root / "events"


@settings(max_examples=30)
@given(st.lists(st.binary(max_size=40), max_size=3))
def test_any_bytes_as_head_are_refused_or_right(blobs: list[bytes]) -> None:
    """HEAD with any other bytes is exit 6; it never makes a reader see another chain."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        create_archive(path, tenancy=TENANCY, now=NOW)
        log = CommitLog.open(path)
        for _ in range(3):
            log.append(make_commit(log))
        good = log.folder.head_path.read_bytes()
        for blob in [*blobs, *(good[:length] for length in range(0, len(good) - 2, 7))]:
            log.folder.head_path.write_bytes(blob)
            with pytest.raises(CorruptRun, match="HEAD"):
                CommitLog.open(path)
            assert "HEAD" in {fault.path for fault in verify_chain(path).faults}


def test_the_encoding_of_a_commit_is_the_same_again() -> None:
    """A commit that was read encodes to the same bytes, so that a repeated create can be recognised."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        create_archive(path, tenancy=TENANCY, now=NOW)
        log = CommitLog.open(path)
        segments: list[SegmentEntry] = [make_segment(number) for number in range(3)]
        commit = make_commit(log, added=segments, reason="an odd \u2028 \x00 reason")
        log.append(commit)
        (read,) = log.read_commits()
        assert read == commit
        assert msgspec.json.encode(read) + b"\n" == log.folder.commit_path(1).read_bytes()
