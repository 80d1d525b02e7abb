"""A writer of an archive that is really killed, at every call that the store makes to the disk, and started again."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from ociaudit.archive.commit import Head
from ociaudit.archive.commit_log import ArchiveFolder, CommitLog, is_archive, verify_chain
from support.archives import make_key, write_archive
from support.kill_at_call import Ended, KillableCommand

KILLED = -9
# Calls that leave something else on the disk than was there before.
CHANGES = ("mkdir(", "open(", "write(", "replace(", "link(", "unlink(")
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def command() -> Iterator[KillableCommand]:
    """A process that forks writers."""
    with KillableCommand() as started:
        yield started


@pytest.fixture
def quick_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: what counts here is the order of the calls, and syncs take their time."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="oci-audit-test-") as folder:
        yield Path(folder)


def write(command: KillableCommand, folder: Path, *arguments: str, call: int | None = None, when: str = "") -> Ended:
    """Bring the archive in a folder to so many commits, or be killed at a call."""
    variables = {"PATH": os.environ["PATH"], "TMPDIR": str(folder)}
    return command(
        list(arguments),
        cwd=folder,
        variables=variables,
        call=call,
        when=when or "before",  # type: ignore[arg-type]
        program="archive",
    )


def read_acknowledged(ended: Ended) -> list[Head]:
    """Return the heads that a writer printed."""
    return [Head(int(sequence), digest) for sequence, digest in map(str.split, ended.stdout.splitlines())]


def list_names(path: Path) -> list[str]:
    """Return the names of everything in an archive; which checkpoints there are depends on when it was killed."""
    return sorted(each.relative_to(path).as_posix() for each in path.rglob("*") if each.parent.name != "checkpoints")


def check_killed(path: Path, acknowledged: Sequence[Head], before: int, *, is_signed: bool, where: str) -> None:
    """Check that a reader sees a whole chain that holds what was acknowledged, and nothing half done."""
    if not is_archive(path):
        assert not acknowledged, where
        return
    facts = verify_chain(path)
    assert facts.faults == (), where
    log = CommitLog.open(path)
    commits = list(log.read_commits())
    assert [commit.run_id for commit in commits] == [f"run {number}" for number in range(1, len(commits) + 1)], where
    assert len(commits) >= max([before, *(head.sequence for head in acknowledged)]), where
    for head in acknowledged:
        assert verify_chain(path, expect=head).is_anchored, where
    for commit in commits:
        assert all(log.folder.segment_path(entry.path).read_bytes() == b"rows" for entry in commit.added[:1]), where
    if is_signed:
        signed = [path / "commits" / f"{number:012}.json.sig" for number in range(1, len(commits) + 1)]
        assert all(each.exists() for each in signed), where


def prepare_nothing(folder: Path, _key: Path | None) -> int:
    """Start from nothing."""
    del folder
    return 0


def prepare_leftovers(folder: Path, key: Path | None) -> int:
    """Start from a commit that HEAD does not name yet, an orphan and temporary files."""
    path = folder / "archive"
    log = write_archive(path, 1, signing_key=key)
    for commit in log.read_commits():
        segment = log.folder.segment_path(commit.added[0].path)
        segment.parent.mkdir(exist_ok=True)
        segment.write_bytes(b"rows")
        (segment.parent / f"{'0' * 32}.parquet").write_bytes(b"never committed")
    log.folder.tail_path(1).write_bytes(b"ids")
    log.write_checkpoint(b"state")
    log.folder.head_path.unlink()
    (path / "commits" / ".000000000002.json.abcd1234.partial").write_bytes(b"{")
    (path / "commits" / "000000000002.json.sig").write_bytes(b"an earlier attempt's")
    return 1


@pytest.mark.parametrize("is_signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("prepare", [prepare_nothing, prepare_leftovers])
@pytest.mark.parametrize("when", ["before", "torn"])
def test_a_kill_at_every_call(command, quick_folder, prepare, when, *, is_signed):
    """A kill at any call leaves a whole chain with all that was acknowledged; the same command completes it.

    Before a call that changes nothing (a sync, a close, a lock) a kill leaves what one before the next call does; there
    the writer without a key is killed all the same.
    """
    key = make_key(quick_folder / "key") if is_signed else None
    count = 2 if is_signed else 3
    arguments = [str(count), "archive", *([str(key)] if key else [])]
    start, end = quick_folder / "start", quick_folder / "end"
    start.mkdir()
    before = prepare(start, key)
    shutil.copytree(start, end)
    undisturbed = write(command, end, *arguments)
    assert undisturbed.status == 0, undisturbed.stderr
    kinds = {name.partition("(")[0] for name in undisturbed.calls}
    assert kinds >= {"mkdir", "link", "replace", "unlink", "fsync", "write", "flock"} - ({"mkdir"} if before else set())
    wanted = "write(" if when == "torn" else CHANGES if is_signed else ""
    numbers = [number for number, name in enumerate(undisturbed.calls, 1) if name.startswith(wanted)]
    assert len(numbers) > (5 if when == "torn" else 40)
    for number in numbers:
        folder = quick_folder / f"{number}"
        shutil.copytree(start, folder)
        where = f"killed {when} call {number}: {undisturbed.calls[number - 1]}"
        killed = write(command, folder, *arguments, call=number, when=when)
        assert killed.status == KILLED, f"{where}: {killed}"
        acknowledged = read_acknowledged(killed)
        check_killed(folder / "archive", acknowledged, before, is_signed=is_signed, where=where)
        again = write(command, folder, *arguments)
        assert again.status == 0, f"{where}: {again.stderr}"
        assert list_names(folder / "archive") == list_names(end / "archive"), where
        heads = [*acknowledged, *read_acknowledged(again)]
        check_killed(folder / "archive", heads, count, is_signed=is_signed, where=where)
        head = msgspec.json.decode(ArchiveFolder(folder / "archive").head_path.read_bytes(), type=Head)
        assert head == CommitLog.open(folder / "archive").head
        assert head.sequence == count
        shutil.rmtree(folder)
