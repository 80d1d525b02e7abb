"""The only module that syncs, renames, locks and removes; and the only one that knows Linux from macOS.

Owns: how bytes become durable and a name becomes final. Must not: know what the bytes mean.

Invariants
- A file or folder is private (0600, 0700) from its first moment, whatever the umask.
- A file under its final name is complete and synced: temp name, write, sync, rename, sync the folder.
- Every refusal of the operating system is a `DiskError` that names the path.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from ociaudit.errors import DiskError, UsageError

FILE_MODE = 0o600
FOLDER_MODE = 0o700
_IS_MACOS = hasattr(fcntl, "F_FULLFSYNC")
_LOCK_NAME = "lock"
_TAKEN_OVER = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT})
_READER_SECONDS = 0.2
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextlib.contextmanager
def explain_disk(action: str, path: Path) -> Iterator[None]:
    """Turn an OSError inside into a DiskError that says what could not be done, where, and what helps."""
    try:
        yield
    except OSError as error:
        hint = None
        if error.errno in _NO_ROOM:
            hint = f"the disk of {path.parent} is full; make room, then run the same command again"
        elif isinstance(error, PermissionError):
            hint = f"allow yourself to write to {path.parent}, or choose another place with -o"
        raise DiskError(f"cannot {action} {path}: {error.strerror or error}", hint=hint) from error


def make_private_folder(path: Path) -> None:
    """Create a folder for the owner alone; it may exist already.

    Raises:
        DiskError: it cannot be created.
    """
    with explain_disk("create the folder", path):
        path.mkdir(mode=FOLDER_MODE, exist_ok=True)
        path.chmod(FOLDER_MODE)
        sync_folder(path.parent)


def open_private(path: Path, flags: int) -> int:
    """Open a file with 0600 and return its descriptor; `flags` as for `os.open`.

    Raises:
        DiskError: it cannot be opened.
    """
    with explain_disk("open", path):
        descriptor = os.open(path, flags | os.O_CLOEXEC, FILE_MODE)
        os.fchmod(descriptor, FILE_MODE)
        return descriptor


def write_all(descriptor: int, data: bytes, path: Path) -> None:
    """Write every byte; a short write is continued.

    Raises:
        DiskError: the disk refused.
    """
    with explain_disk("write to", path):
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]


def write_to_reader(descriptor: int, data: bytes, path: Path, *, check: Callable[[], None]) -> None:
    """Write every byte to a pipe or terminal whose reader may pause; `check` is called while it does.

    Raises:
        DiskError: nobody reads any more.
    """
    with explain_disk("write to", path):
        view = memoryview(data)
        while view:
            check()
            if select.select([], [descriptor], [], _READER_SECONDS)[1]:
                view = view[os.write(descriptor, view[: select.PIPE_BUF]) :]  # so much never blocks


def sync_data(descriptor: int, path: Path) -> None:
    """Return when the file's data and size are on stable storage.

    Raises:
        DiskError: the disk refused; the file must not be trusted.
    """
    with explain_disk("sync", path):
        if _IS_MACOS:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # type: ignore[attr-defined,unused-ignore]
        else:
            os.fdatasync(descriptor)


def sync_folder(path: Path) -> None:
    """Return when the names in a folder are on stable storage.

    Raises:
        DiskError: the disk refused.
    """
    with explain_disk("sync the folder", path):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_file(path: Path, data: bytes) -> None:
    """Put a small file under its final name: whole and synced, or not at all.

    Raises:
        DiskError: the disk refused; what stood there before still stands.
    """
    with new_file(path) as descriptor:
        write_all(descriptor, data, path)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[int]:
    """Give a descriptor to write to; on a clean exit the file stands under `path`, synced.

    On an exception nothing stands there that did not before.

    Raises:
        DiskError: the disk refused.
    """
    temporary = path.with_name(f".{path.name}.partial")
    with explain_disk("remove", temporary):
        temporary.unlink(missing_ok=True)  # what a killed run, or somebody else, left there is not written into
    descriptor = open_private(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    is_published = False
    try:
        try:
            yield descriptor
            sync_data(descriptor, temporary)
        finally:
            os.close(descriptor)
        with explain_disk("publish", path):
            os.replace(temporary, path)
        is_published = True
    finally:
        if not is_published:
            with contextlib.suppress(OSError):
                temporary.unlink()
    sync_folder(path.parent)


def remove_file(path: Path) -> None:
    """Remove a file, if it is there.

    Raises:
        DiskError: it cannot be removed.
    """
    with explain_disk("remove", path):
        path.unlink(missing_ok=True)
    sync_folder(path.parent)


def remove_locked_folder(path: Path, *, first: Path) -> None:
    """Remove a folder whose lock this process holds: `first` before everything else in it, the lock last.

    Whoever takes the folder over in the moment in which the lock is gone keeps it.

    Raises:
        DiskError: it cannot be removed.
    """
    if not path.exists():
        return
    remove_file(first)
    with explain_disk("remove", path):
        for each in sorted(path.iterdir()):
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each)
            elif each.name != _LOCK_NAME:
                each.unlink()
        (path / _LOCK_NAME).unlink(missing_ok=True)
        try:
            path.rmdir()
        except OSError as error:
            if error.errno not in _TAKEN_OVER:
                raise
    sync_folder(path.parent)


def check_replaceable(path: Path) -> None:
    """Refuse early a path that cannot be given to a new file, or that must not be replaced: a folder, a device.

    Raises:
        UsageError: something else than a file stands there, or its folder does not exist.
        DiskError: its folder cannot be written to.
    """
    folder = path.parent
    with explain_disk("look into", folder):
        is_folder = folder.is_dir()
        is_other = path.exists() and not path.is_file()
    if is_other:
        raise UsageError(f"{path} is not a file, and cannot be replaced by one", hint="name a file; -o - is stdout")
    if not is_folder:
        raise UsageError(f"the folder {folder} does not exist", hint=f"create it with: mkdir -p {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DiskError(f"the folder {folder} cannot be written to", hint="choose another place with -o")


@contextlib.contextmanager
def lock_folder(path: Path) -> Iterator[Callable[[], bool]]:
    """Hold a folder's lock, which dies with the process; give a function that tells whether it is still held.

    It is not, once the folder has been removed: then another process may have made it anew.

    Raises:
        UsageError: another process holds it.
        DiskError: the lock file cannot be opened.
    """
    lock = path / _LOCK_NAME
    descriptor = open_private(lock, os.O_RDWR | os.O_CREAT)
    try:
        try:
            with explain_disk("lock", lock):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not _is_same_file(descriptor, lock):
                    raise BlockingIOError  # its holder has just finished, and a third has begun anew
        except DiskError as error:
            if not isinstance(error.__cause__, BlockingIOError):
                raise
            raise UsageError(
                f"another oci-audit is working in {path}",
                hint="wait for it to end, or choose another output with -o",
            ) from error
        yield lambda: _is_same_file(descriptor, lock)
    finally:
        os.close(descriptor)


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
