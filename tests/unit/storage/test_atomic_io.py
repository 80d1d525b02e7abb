import contextlib
import errno
import fcntl
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ociaudit.errors import DiskError, UsageError
from ociaudit.storage.atomic_io import (
    check_replaceable,
    create_exclusively,
    explain_disk,
    lock_folder,
    make_private_folder,
    new_file,
    open_private,
    remove_file,
    remove_locked_folder,
    write_all,
    write_file,
    write_to_reader,
)

LONG_NAME = "x" * 300
IS_ROOT = os.geteuid() == 0


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o777])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """Run a test under several umasks."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def read_mode(path: Path) -> int:
    """Return the permission bits."""
    return path.stat().st_mode & 0o7777


def list_names(folder: Path) -> list[str]:
    """Return the names of a folder's entries, sorted."""
    return sorted(path.name for path in folder.iterdir())


def test_files_and_folders_are_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """Files are 0600 and folders 0700, while they are written and afterwards, under every umask."""
    make_private_folder(tmp_path / "folder")
    assert read_mode(tmp_path / "folder") == 0o700
    with new_file(tmp_path / "folder" / "file") as descriptor:
        assert os.fstat(descriptor).st_mode & 0o777 == 0o600
    assert read_mode(tmp_path / "folder" / "file") == 0o600
    os.close(open_private(tmp_path / "folder" / "log", os.O_WRONLY | os.O_CREAT))
    assert read_mode(tmp_path / "folder" / "log") == 0o600
    with lock_folder(tmp_path / "folder"):
        assert read_mode(tmp_path / "folder" / "lock") == 0o600


def test_a_file_replaces_an_earlier_one(tmp_path: Path) -> None:
    """The new bytes get the name, private even if the old file was not, and nothing else is left."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o644)
    write_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert read_mode(path) == 0o600
    assert list_names(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, DiskError])
@pytest.mark.parametrize("is_there", [False, True])
def test_an_exception_leaves_the_earlier_file(tmp_path: Path, error: type[BaseException], *, is_there: bool) -> None:
    """An exception while writing leaves an earlier file as it was, and no new one."""
    path = tmp_path / "file"
    if is_there:
        path.write_bytes(b"old")
    with pytest.raises(error), new_file(path) as descriptor:  # noqa: PT012 - the exception comes from inside
        write_all(descriptor, b"new", path)
        raise error("no more")
    assert list_names(tmp_path) == (["file"] if is_there else [])
    assert not is_there or path.read_bytes() == b"old"


def test_a_name_that_is_not_available_leaves_nothing(tmp_path: Path) -> None:
    """If the file cannot get its name, its temporary file is removed."""
    (tmp_path / "folder").mkdir()
    with pytest.raises(DiskError, match="cannot publish"):
        write_file(tmp_path / "folder", b"x")
    assert list_names(tmp_path) == ["folder"]


def test_an_existing_temporary_file_is_not_written_into(tmp_path: Path) -> None:
    """A link under the name of the temporary file neither receives the bytes nor sets the mode of the new file."""
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


def test_a_terminal_gets_no_control_characters(tmp_path: Path) -> None:
    """What attackers typed into events does not command a terminal; a pipe gets every byte as it is."""
    text = "a\x1b[2J\u009b31m\x07\x7f\té\n".encode()
    controller, terminal = os.openpty()
    reading, writing = os.pipe()
    for descriptor in (terminal, writing):
        write_to_reader(descriptor, text, tmp_path, check=lambda: None)
        os.close(descriptor)
    assert os.read(controller, 100) == "a?[2J?31m??\té\r\n".encode()
    assert os.read(reading, 100) == text
    os.close(controller)
    os.close(reading)


def test_a_file_has_one_writer(tmp_path: Path) -> None:
    """While a file is being written a second writer is rejected, and the first one publishes its own bytes."""
    with new_file(tmp_path / "a") as descriptor:
        write_all(descriptor, b"first ", tmp_path / "a")
        with pytest.raises(UsageError, match="another process is writing"):
            write_file(tmp_path / "a", b"second")
        write_all(descriptor, b"whole", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"first whole"
    assert list_names(tmp_path) == ["a"]
    write_file(tmp_path / "a", b"third")
    assert (tmp_path / "a").read_bytes() == b"third"


def test_of_many_writers_each_publishes_all_or_nothing(tmp_path: Path) -> None:
    """However writers of one file overlap, what has its name is one writer's, and each either did it or was told."""
    path, published = tmp_path / "a", []

    def write(number: int) -> int:
        data, done = bytes([number]) * 1000, 0
        for _ in range(50):
            with contextlib.suppress(UsageError), new_file(path) as descriptor:
                for start in range(0, len(data), 100):
                    write_all(descriptor, data[start : start + 100], path)
                done += 1
            if path.exists():
                published.append(path.read_bytes())
        return done

    with ThreadPoolExecutor(4) as executor:
        assert sum(executor.map(write, range(4))) > 0
    assert {(len(data), len(set(data))) for data in published} == {(1000, 1)}
    assert list_names(tmp_path) == ["a"]


def test_what_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    """A temporary file that no process writes to any more is in nobody's way."""
    code = (
        "import os, sys; from pathlib import Path; from ociaudit.storage.atomic_io import new_file\n"
        "with new_file(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], check=False).returncode == -9
    assert list_names(tmp_path) == [".a.partial"]
    write_file(tmp_path / "a", b"x")
    assert list_names(tmp_path) == ["a"]


def test_a_file_system_without_locks_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where files cannot be locked, a file is written as everywhere."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    (tmp_path / ".a.partial").write_bytes(b"left")
    write_file(tmp_path / "a", b"x")
    assert list_names(tmp_path) == ["a"]


@pytest.mark.parametrize("is_link", [False, True])
def test_a_file_that_has_appeared_is_not_replaced(tmp_path: Path, *, is_link: bool) -> None:
    """Without `may_replace`, what has the name by the end stays, be it a link that leads nowhere."""
    path = tmp_path / "a"
    with pytest.raises(UsageError, match="appeared while it was being written"), new_file(path, may_replace=False):
        path.symlink_to("nowhere") if is_link else path.write_bytes(b"theirs")
    assert path.is_symlink() if is_link else path.read_bytes() == b"theirs"
    assert list_names(tmp_path) == ["a"]


@pytest.mark.parametrize("length", range(235, 256))
def test_a_name_that_is_too_long_is_rejected_before_anything_is_written(tmp_path: Path, length: int) -> None:
    """Either a file can be written under a name, or the check says that it cannot."""
    path = tmp_path / ("x" * length)
    try:
        write_file(path, b"")
    except DiskError:
        with pytest.raises(UsageError, match="too long by"):
            check_replaceable(path)
    else:
        check_replaceable(path)


def test_an_exclusive_file_replaces_nothing(tmp_path: Path, umask: int) -> None:
    """The first file of a name stays, private under every umask; the same bytes again count, others do not."""
    path = tmp_path / "file"
    assert create_exclusively(path, b"first")
    assert not create_exclusively(path, b"second")
    assert create_exclusively(path, b"first")
    assert path.read_bytes() == b"first"
    assert read_mode(path) == 0o600
    assert list_names(tmp_path) == ["file"]


def test_an_exclusive_file_does_not_take_a_link_for_itself(tmp_path: Path) -> None:
    """A link of that name is somebody else's, even if it leads to the same bytes."""
    (tmp_path / "elsewhere").write_bytes(b"bytes")
    (tmp_path / "file").symlink_to(tmp_path / "elsewhere")
    assert not create_exclusively(tmp_path / "file", b"bytes")
    assert list_names(tmp_path) == ["elsewhere", "file"]


def test_an_error_at_close_is_a_disk_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a network file system reports only when a file is closed names the file, and the earlier one stays."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    close = os.close

    def fail(descriptor: int) -> None:
        close(descriptor)
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    with monkeypatch.context() as patch:
        patch.setattr(os, "close", fail)
        with pytest.raises(DiskError, match="cannot close"):
            write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list_names(tmp_path) == ["file"]


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_every_byte_is_written(tmp_path: Path, size: int) -> None:
    """A write that the system accepts only in part is continued."""
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
    """A file size limit is exit 5 with the path and what to do, and the earlier file is unchanged."""
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
        (13, "check the permissions"),
        (1, "check the permissions"),
        (5, "free some space"),
    ],
)
def test_an_error_of_the_system_has_a_hint_that_helps(tmp_path: Path, number: int, words: str) -> None:
    """A full disk, a missing permission and any other error each have their own hint."""
    with pytest.raises(DiskError, match=r"cannot write .*file") as caught, explain_disk("write", tmp_path / "file"):
        raise OSError(number, os.strerror(number))
    assert words in caught.value.hint


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EIO, errno.EACCES, errno.EISDIR, errno.ENOTDIR])
def test_a_file_that_cannot_be_read_gets_no_hint_for_one_that_is_written(tmp_path: Path, number: int) -> None:
    """The hint names the file to look at, and neither space nor `-o`."""
    path = tmp_path / "o'dd name"
    with pytest.raises(DiskError, match=r"cannot read .*name") as caught, explain_disk("read", path):
        raise OSError(number, os.strerror(number))
    assert f"`ls -ld {shlex.quote(str(path))}`" in caught.value.hint
    assert "-o" not in caught.value.hint.replace(shlex.quote(str(path)), "")
    assert "move it" not in caught.value.hint


def test_a_folder_has_one_lock_holder(tmp_path: Path) -> None:
    """A second holder is rejected with a clear message, and the lock is free again afterwards."""
    for _ in range(2):
        with (
            lock_folder(tmp_path),
            pytest.raises(UsageError, match="another oci-audit process is using"),
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
    """The lock of a killed process is free."""
    command = [sys.executable, "-c", HOLD_LOCK, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(UsageError), lock_folder(tmp_path):
            pytest.fail("two hold the lock")
        process.kill()
        process.wait()
        with lock_folder(tmp_path):
            pass


@pytest.mark.parametrize("is_created_again", [False, True])
def test_a_lock_on_a_removed_folder_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_created_again: bool
) -> None:
    """A process that opened the lock before its holder removed the folder does not hold the lock of the next run."""
    folder = tmp_path / "run"
    folder.mkdir()
    flock = fcntl.flock

    def flock_late(descriptor: int, operation: int) -> None:
        shutil.rmtree(folder)
        if is_created_again:
            folder.mkdir()
            (folder / "lock").touch()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock_late)
    with pytest.raises(UsageError, match="another oci-audit"), lock_folder(folder):
        pytest.fail("the lock is on a removed folder")


def test_a_file_system_without_locks_is_a_disk_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where locks are not supported the run ends with a disk error, and no descriptor stays open."""

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    before = len(list(Path("/dev/fd").iterdir()))
    with pytest.raises(DiskError, match="cannot lock"), lock_folder(tmp_path):
        pytest.fail("nothing is held")
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_a_folder_that_cannot_hold_the_file_is_rejected_early(tmp_path: Path) -> None:
    """A folder that does not exist or is a file is a usage error; a name that cannot exist is a disk error."""
    check_replaceable(tmp_path / "a.json")
    (tmp_path / "file").touch()
    check_replaceable(tmp_path / "file")
    for name in ("nothing", "file"):
        with pytest.raises(UsageError, match="does not exist"):
            check_replaceable(tmp_path / name / "a.json")
    with pytest.raises(DiskError):
        check_replaceable(tmp_path / LONG_NAME / "a.json")


def test_only_a_file_is_ever_replaced(tmp_path: Path) -> None:
    """A folder, a device and a pipe are rejected as outputs, whatever the user is permitted to do."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, Path("/dev/null"), tmp_path / "pipe"):
        with pytest.raises(UsageError, match="is not a file"):
            check_replaceable(path)


@pytest.mark.skipif(IS_ROOT, reason="root may write anywhere")
def test_a_folder_without_permission_is_rejected_early(tmp_path: Path) -> None:
    """A folder that is not writable is a disk error before any request is sent."""
    tmp_path.chmod(0o500)
    with pytest.raises(DiskError, match="is not writable"):
        check_replaceable(tmp_path / "a.json")


def test_every_disk_error_names_its_path(tmp_path: Path) -> None:
    """Every operation that fails is a disk error with the path."""
    long = tmp_path / LONG_NAME
    (tmp_path / "file").touch()

    def enter(block: contextlib.AbstractContextManager[object]) -> None:
        with block:
            pytest.fail("the block was entered")

    for fail in (
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
            fail()


def test_removing_what_does_not_exist_succeeds(tmp_path: Path) -> None:
    """A file or folder that does not exist is not an error, and a folder goes with everything in it."""
    remove_file(tmp_path / "file")
    remove_locked_folder(tmp_path / "folder", first=tmp_path / "folder" / "plan.json")
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    remove_locked_folder(tmp_path / "folder", first=tmp_path / "folder" / "plan.json")
    assert list_names(tmp_path) == []


@pytest.mark.usefixtures("umask")
def test_a_file_for_others_has_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    """`write_file` gives a new or replaced file the mode that it is called with, 0600 by default."""
    for mode in (0o644, 0o640):
        write_file(tmp_path / "shared", b"x", mode=mode)
        assert read_mode(tmp_path / "shared") == mode
    write_file(tmp_path / "shared", b"x")
    assert read_mode(tmp_path / "shared") == 0o600
