import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ociaudit.errors import DiskError, UsageError
from ociaudit.storage.atomic_io import (
    check_replaceable,
    explain_disk,
    lock_folder,
    make_private_folder,
    new_file,
    open_private,
    remove_file,
    remove_locked_folder,
    write_all,
    write_file,
)

LONG_NAME = "x" * 300
IS_ROOT = os.geteuid() == 0


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o777])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """Every test with this runs under several umasks."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def read_mode(path: Path) -> int:
    """Return the permission bits."""
    return path.stat().st_mode & 0o7777


def list_names(folder: Path) -> list[str]:
    """Return what stands in a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_files_and_folders_are_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """0600 and 0700, under the strictest and the loosest umask, while written and afterwards."""
    make_private_folder(tmp_path / "folder")
    assert read_mode(tmp_path / "folder") == 0o700
    with new_file(tmp_path / "folder" / "file") as descriptor:
        assert os.fstat(descriptor).st_mode & 0o777 == 0o600
    assert read_mode(tmp_path / "folder" / "file") == 0o600
    os.close(open_private(tmp_path / "folder" / "log", os.O_WRONLY | os.O_CREAT))
    assert read_mode(tmp_path / "folder" / "log") == 0o600
    with lock_folder(tmp_path / "folder"):
        assert read_mode(tmp_path / "folder" / "lock") == 0o600


def test_a_file_replaces_what_stood_there(tmp_path: Path) -> None:
    """The new bytes stand under the name, private even where the old file was not, and nothing else is left."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o644)
    write_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert read_mode(path) == 0o600
    assert list_names(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, DiskError])
@pytest.mark.parametrize("is_there", [False, True])
def test_an_exception_leaves_what_was_there(tmp_path: Path, error: type[BaseException], *, is_there: bool) -> None:
    """When writing is broken off nothing stands there that did not before."""
    path = tmp_path / "file"
    if is_there:
        path.write_bytes(b"old")
    with pytest.raises(error), new_file(path) as descriptor:  # noqa: PT012 - it is broken off inside
        write_all(descriptor, b"new", path)
        raise error("stop")
    assert list_names(tmp_path) == (["file"] if is_there else [])
    assert not is_there or path.read_bytes() == b"old"


def test_a_name_that_cannot_be_taken_leaves_nothing(tmp_path: Path) -> None:
    """When the file cannot get its name, the temporary one goes too."""
    (tmp_path / "folder").mkdir()
    with pytest.raises(DiskError, match="cannot publish"):
        write_file(tmp_path / "folder", b"x")
    assert list_names(tmp_path) == ["folder"]


def test_a_leftover_is_not_written_into(tmp_path: Path) -> None:
    """What somebody put in the place of the temporary file neither gets our bytes nor lends us its mode."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"theirs")
    (tmp_path / ".a.partial").symlink_to(elsewhere)
    os.link(elsewhere, tmp_path / ".b.partial")
    for name in ("a", "b"):
        write_file(tmp_path / name, b"ours")
        assert (tmp_path / name).read_bytes() == b"ours"
        assert not (tmp_path / name).is_symlink()
        assert read_mode(tmp_path / name) == 0o600
    assert elsewhere.read_bytes() == b"theirs"


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_every_byte_is_written(tmp_path: Path, size: int) -> None:
    """A write that the system takes only in part is continued."""
    data = bytes(range(251)) * (size // 251 + 1)
    reading, writing = os.pipe()
    with subprocess.Popen([sys.executable, "-c", COUNT_STDIN], stdin=reading, stdout=subprocess.PIPE) as process:
        os.close(reading)
        write_all(writing, data[:size], tmp_path)
        os.close(writing)
        assert process.communicate()[0].strip() == str(size).encode()


COUNT_STDIN = "import sys; print(len(sys.stdin.buffer.read()))"
FILL_DISK = """
import resource, signal, sys
from pathlib import Path
from ociaudit.errors import DiskError
from ociaudit.storage.atomic_io import write_file
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_file(Path(sys.argv[1]), b"x" * 2000)
except DiskError as error:
    print(error)
    print(error.hint)
    print(error.exit_code)
"""


def test_a_full_disk_is_explained_and_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the file's size ends as exit 5, with the path, what to do, and what stood there before."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", FILL_DISK, path], capture_output=True, text=True, check=True)
    message, hint, exit_code = done.stdout.splitlines()
    assert message.startswith(f"cannot write to {path}")
    assert hint == f"the disk of {tmp_path} is full; make room, then run the same command again"
    assert exit_code == "5"
    assert path.read_bytes() == b"old"
    assert list_names(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (28, "is full"),
        (27, "is full"),
        (122, "is full"),
        (13, "allow yourself"),
        (1, "allow yourself"),
        (5, "make room"),
    ],
)
def test_a_refusal_of_the_system_says_what_helps(tmp_path: Path, number: int, words: str) -> None:
    """No room, no permission and all else each have their hint."""
    with pytest.raises(DiskError, match=r"cannot write .*file") as caught, explain_disk("write", tmp_path / "file"):
        raise OSError(number, os.strerror(number))
    assert words in caught.value.hint


def test_a_folder_is_locked_for_one_at_a_time(tmp_path: Path) -> None:
    """A second holder is refused, in words for a person, and the lock is free again afterwards."""
    for _ in range(2):
        with (
            lock_folder(tmp_path),
            pytest.raises(UsageError, match="another oci-audit is working"),
            lock_folder(tmp_path),
        ):
            pytest.fail("two hold the lock")


HOLD_LOCK = """
import sys
from pathlib import Path
from ociaudit.storage.atomic_io import lock_folder
with lock_folder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    """A killed process holds nothing."""
    command = [sys.executable, "-c", HOLD_LOCK, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(UsageError), lock_folder(tmp_path):
            pytest.fail("two hold the lock")
        process.kill()
        process.wait()
        with lock_folder(tmp_path):
            pass


@pytest.mark.parametrize("is_made_anew", [False, True])
def test_a_lock_on_a_removed_folder_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_made_anew: bool
) -> None:
    """Whoever opened the lock before its holder removed the folder does not hold that of the next."""
    folder = tmp_path / "run"
    folder.mkdir()
    flock = fcntl.flock

    def flock_late(descriptor: int, operation: int) -> None:
        shutil.rmtree(folder)
        if is_made_anew:
            folder.mkdir()
            (folder / "lock").touch()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock_late)
    with pytest.raises(UsageError, match="another oci-audit"), lock_folder(folder):
        pytest.fail("the lock is on a folder that is gone")


def test_a_file_system_without_locks_is_a_disk_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where locks are not supported the run is refused, and not with a trace."""

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    before = len(list(Path("/dev/fd").iterdir()))
    with pytest.raises(DiskError, match="cannot lock"), lock_folder(tmp_path):
        pytest.fail("nothing is held")
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_a_folder_that_cannot_take_a_file_is_refused_early(tmp_path: Path) -> None:
    """A folder that does not exist or is a file is a usage error, a name that cannot be a disk error."""
    check_replaceable(tmp_path / "a.json")
    (tmp_path / "file").touch()
    check_replaceable(tmp_path / "file")
    for name in ("nothing", "file"):
        with pytest.raises(UsageError, match="does not exist"):
            check_replaceable(tmp_path / name / "a.json")
    with pytest.raises(DiskError):
        check_replaceable(tmp_path / LONG_NAME / "a.json")


def test_what_is_no_file_is_never_replaced(tmp_path: Path) -> None:
    """A folder, a device and a pipe are refused as outputs, whatever the user may be allowed to."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, Path("/dev/null"), tmp_path / "pipe"):
        with pytest.raises(UsageError, match="is not a file"):
            check_replaceable(path)


@pytest.mark.skipif(IS_ROOT, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused_early(tmp_path: Path) -> None:
    """A folder that may not be written to is a disk error before anything is asked."""
    tmp_path.chmod(0o500)
    with pytest.raises(DiskError, match="cannot be written to"):
        check_replaceable(tmp_path / "a.json")


def test_every_refusal_names_its_path(tmp_path: Path) -> None:
    """Whatever cannot be done is a disk error with the path it happened at."""
    long = tmp_path / LONG_NAME
    (tmp_path / "file").touch()

    def enter(block: contextlib.AbstractContextManager[object]) -> None:
        with block:
            pytest.fail("it cannot be entered")

    for refused in (
        lambda: make_private_folder(long),
        lambda: make_private_folder(tmp_path / "file"),
        lambda: open_private(long, os.O_RDONLY),
        lambda: write_file(long, b""),
        lambda: remove_file(long),
        lambda: write_all(-1, b"x", tmp_path / "file"),
        lambda: enter(new_file(tmp_path / "none" / "file")),
        lambda: enter(lock_folder(tmp_path / "none")),
    ):
        with pytest.raises(DiskError, match=str(tmp_path)):
            refused()


def test_removing_what_is_not_there_is_no_failure(tmp_path: Path) -> None:
    """A file or folder that has gone already is as wanted."""
    remove_file(tmp_path / "file")
    remove_locked_folder(tmp_path / "folder", first=tmp_path / "folder" / "plan.json")
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    remove_locked_folder(tmp_path / "folder", first=tmp_path / "folder" / "plan.json")
    assert list_names(tmp_path) == []
