"""Durable, private files: atomic writes, exclusive creation, folder locks and removal.

This is the only module that syncs, renames, links, locks and removes, and the only one that distinguishes Linux from
macOS.

Invariants
- A file or folder is private (0600, 0700) from the moment it is created, whatever the umask.
- A file under its final name is complete and synced: write under a temporary name, sync, rename, sync the folder.
- A file that is created exclusively never replaces another one, even where locks do not work.
- Every error of the operating system becomes a `DiskError` that names the path.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import select
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from ociaudit.errors import REPEAT, DiskError, UsageError, advise_full_disk, format_count

FILE_MODE = 0o600
FOLDER_MODE = 0o700
_LOCK_NAME = "lock"
_IS_MACOS = hasattr(fcntl, "F_FULLFSYNC")
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_READING = frozenset({"read", "read the ledger folder", "open", "list", "look at", "look into"})
_NO_HARD_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_REUSED_BY_ANOTHER_PROCESS = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT})
_CHECK_INTERVAL_SECONDS = 0.2
_URL = re.compile(r"([a-z][a-z0-9+.-]+):/+\S", re.IGNORECASE)
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]")
_MAX_LINKS = 40
_STREAM = re.compile(r"/dev/(std(in|out|err)|fd/\d+)|/proc/[^/]+/fd/\d+")


@contextlib.contextmanager
def explain_disk(action: str, path: Path) -> Iterator[None]:
    """Turn an OSError raised inside into a DiskError that states the action, the path and what helps.

    `action` completes the sentence "cannot … PATH".
    """
    try:
        yield
    except OSError as error:
        hint = None
        if error.errno in _DISK_FULL:
            hint = advise_full_disk(path)
        elif isinstance(error, PermissionError) and action != "read":
            hint = f"check the permissions of {path.parent}, or choose another location"
        elif action in _READING:
            hint = f"check its mode with `ls -ld {shlex.quote(str(path))}`, and the disk that it is on; then {REPEAT}"
        elif isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError):
            hint = f"look at it with `ls -ld {shlex.quote(str(path))}`; move it away, or choose another location"
        raise DiskError(f"cannot {action} {path}: {error.strerror or error}", hint=hint) from error


def make_private_folder(path: Path) -> None:
    """Create a folder that only its owner can use, mode 0700; it may exist already.

    Raises:
        DiskError: it cannot be created.
    """
    with explain_disk("create the folder", path):
        path.mkdir(mode=FOLDER_MODE, exist_ok=True)
        path.chmod(FOLDER_MODE)
        sync_folder(path.parent)


def open_private(path: Path, flags: int) -> int:
    """Open a file, set its mode to 0600 and return its descriptor; `flags` are those of `os.open`.

    Raises:
        DiskError: it cannot be opened.
    """
    with explain_disk("open", path):
        descriptor = os.open(path, flags | os.O_CLOEXEC, FILE_MODE)
        os.fchmod(descriptor, FILE_MODE)
        return descriptor


def write_all(descriptor: int, data: bytes, path: Path) -> None:
    """Write every byte; continue after a short write.

    Raises:
        DiskError: the write fails.
    """
    with explain_disk("write to", path):
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]


def write_to_reader(descriptor: int, data: bytes, path: Path, *, check: Callable[[], None]) -> None:
    """Write every byte to a pipe or terminal whose reader may pause; to a terminal, control characters as `?`.

    `check` is called before each write and every 0.2 seconds while the reader pauses; it may raise to stop.

    Raises:
        DiskError: the reader has closed its end.
    """
    with explain_disk("write to", path):
        # Events hold what attackers typed, and a terminal obeys some of it.
        view = memoryview(_CONTROL.sub(b"?", data) if os.isatty(descriptor) else data)
        while view:
            check()
            if select.select([], [descriptor], [], _CHECK_INTERVAL_SECONDS)[1]:
                view = view[os.write(descriptor, view[: select.PIPE_BUF]) :]  # PIPE_BUF bytes never block a ready pipe


def sync_data(descriptor: int, path: Path) -> None:
    """Wait until a file's data and size are on stable storage.

    Raises:
        DiskError: the sync fails; the file must not be trusted.
    """
    with explain_disk("sync", path):
        if _IS_MACOS:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # type: ignore[attr-defined,unused-ignore]
        else:
            os.fdatasync(descriptor)


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on stable storage.

    Raises:
        DiskError: the sync fails.
    """
    with explain_disk("sync the folder", path):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _close(descriptor: int, path: Path) -> None:
    """Close a written file; network file systems report here what they could not write."""
    with explain_disk("close", path):
        os.close(descriptor)


def write_file(path: Path, data: bytes, *, mode: int = FILE_MODE, may_replace: bool = True) -> None:
    """Write a small file atomically: complete and synced under its final name, or not at all.

    `mode` is that of the file, for what other users may read; `may_replace` is as in `new_file`.

    Raises:
        UsageError: as `new_file`.
        DiskError: the write fails; a previous file of that name is unchanged.
    """
    with new_file(path, may_replace=may_replace) as descriptor:
        write_all(descriptor, data, path)
        if mode != FILE_MODE:
            with explain_disk("set the mode of", path):
                os.fchmod(descriptor, mode)


@contextlib.contextmanager
def new_file(path: Path, *, may_replace: bool = True) -> Iterator[int]:
    """Yield the descriptor of a new file that gets the name `path`, synced, when the block ends without an exception.

    After an exception a previous file of that name is unchanged, and the new one is gone. Without `may_replace`, a
    file that has the name by the end stays. The lock of the file that is being written keeps other processes away.

    Raises:
        UsageError: another process writes a file of that name, or has written one that may not be replaced.
        DiskError: the file cannot be created, written, synced or renamed.
    """
    temporary = _name_temporary(path)
    with _create_locked(temporary, path) as descriptor:
        is_published = False
        try:
            try:
                yield descriptor
                sync_data(descriptor, temporary)
            finally:
                _close(descriptor, temporary)
            if not may_replace:
                reject_existing(path)
            with explain_disk("publish", path):
                os.replace(temporary, path)
            is_published = True
        finally:
            if not is_published:
                with contextlib.suppress(OSError):
                    temporary.unlink()
    sync_folder(path.parent)


def _name_temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


@contextlib.contextmanager
def _create_locked(temporary: Path, path: Path) -> Iterator[int]:
    """Create the file that will be `path`, in place of one that a killed process left, and hold its lock.

    The block closes the descriptor, and the lock outlives that: another process takes a file without a lock for a
    leftover. It is a new file: what another user has put there is never written to. Where files cannot be locked,
    nothing is.
    """
    in_use = UsageError(f"another process is writing {path}", hint="wait until it ends, or choose another name")
    with explain_disk("create", temporary):
        try:
            leftover = os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            pass
        except OSError:  # a link, or another user's file
            temporary.unlink(missing_ok=True)
        else:
            with _hold_lock(leftover) as is_held:
                if not is_held or not _is_same_file(leftover, temporary):
                    raise in_use
                temporary.unlink()
    try:
        descriptor = open_private(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    except DiskError as error:
        if isinstance(error.__cause__, FileExistsError):
            raise in_use from None
        raise
    with explain_disk("lock", temporary):
        lock = os.dup(descriptor)
    with _hold_lock(lock) as is_held:
        if not is_held or not _is_same_file(descriptor, temporary):  # another process took it for a leftover
            os.close(descriptor)
            raise in_use
        yield descriptor


@contextlib.contextmanager
def _hold_lock(descriptor: int) -> Iterator[bool]:
    """Hold the lock of a file and close the descriptor at the end; False if another process holds it.

    Where the file system has no locks, it counts as held.
    """
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:
            yield True
            return
        try:
            yield True
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # also where another descriptor of the file stays open
    finally:
        with contextlib.suppress(OSError):  # nothing was written through it
            os.close(descriptor)


def reject_existing(*paths: Path) -> None:
    """Check that no file has one of these names, which were free when the work began.

    Raises:
        UsageError: one has appeared, and stays.
    """
    for path in paths:
        if os.path.lexists(path):
            raise UsageError(
                f"{path} appeared while it was being written, and is left alone",
                hint="move it away, choose another -o, or replace it with --overwrite; then run the same command again",
            )


def create_exclusively(path: Path, data: bytes) -> bool:
    """Create a small file, complete and synced, unless the name is taken; return whether it now has these bytes.

    The file appears by a hard link, which replaces nothing and is atomic on network file systems too. An answer may
    get lost although the link was made, so after an error the file is read back: its bytes decide. False means that
    another writer has created the file.

    Raises:
        DiskError: the file cannot be written, linked or synced, or the file system has no hard links.
    """
    temporary = _write_temporary(path, data)
    try:
        try:
            os.link(temporary, path)
        except OSError as error:
            if _read_back(path) != data:
                if isinstance(error, FileExistsError):
                    return False
                raise _explain_link(path, error) from error
        sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return True


def _write_temporary(path: Path, data: bytes) -> Path:
    """Return a synced file beside `path` under a name that no other writer uses."""
    with explain_disk("create", path):
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    temporary = Path(name)
    is_written = False
    try:
        try:
            with explain_disk("create", path):
                os.fchmod(descriptor, FILE_MODE)
            write_all(descriptor, data, path)
            sync_data(descriptor, path)
        finally:
            _close(descriptor, path)
        is_written = True
    finally:
        if not is_written:
            with contextlib.suppress(OSError):
                temporary.unlink()
    return temporary


def _read_back(path: Path) -> bytes | None:
    """Return the bytes of the file that has the name, None if there is none or it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with contextlib.suppress(OSError), os.fdopen(descriptor, "rb") as file:
        return file.read()
    return None


def _explain_link(path: Path, error: OSError) -> DiskError:
    if error.errno in _NO_HARD_LINKS:
        return DiskError(
            f"the file system of {path.parent} has no hard links ({error.strerror}), which {path.name} needs",
            hint="choose a folder on a file system with hard links, such as ext4, XFS, ZFS, APFS or NFS; "
            "FAT, exFAT and many mounts of object storage have none",
        )
    hint = advise_full_disk(path) if error.errno in _DISK_FULL else None
    return DiskError(f"cannot create {path}: {error.strerror or error}", hint=hint)


def remove_file(path: Path) -> None:
    """Remove a file if it exists, durably.

    Raises:
        DiskError: it cannot be removed.
    """
    with explain_disk("remove", path):
        path.unlink(missing_ok=True)
    sync_folder(path.parent)


def move_file(source: Path, goal: Path) -> None:
    """Give a file another name on the same file system, durably; a file of that name is replaced.

    Raises:
        DiskError: it cannot be renamed.
    """
    with explain_disk("move", source):
        os.replace(source, goal)
    sync_folder(goal.parent)
    sync_folder(source.parent)


def remove_locked_folder(path: Path, *, first: Path) -> None:
    """Remove a folder whose lock this process holds: `first` before its other entries, the lock last.

    A process that starts to use the folder right after the lock is gone keeps it.

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
            if error.errno not in _REUSED_BY_ANOTHER_PROCESS:
                raise
    sync_folder(path.parent)


def name_output(name: str | Path) -> Path:
    """Return the path of a file to write, as named.

    Raises:
        UsageError: the name is that of a folder, a URL, or an open stream such as /dev/stdout.
    """
    text, path = str(name), Path(name)
    url = _URL.match(text)
    if url and not path.exists():
        raise UsageError(
            f"{text} is a URL, and this is written to a file",
            hint="name a file; `export`, `convert` and `report` also write to oci://bucket@namespace/name with -o",
        )
    if path.name in {"", ".."} or text.endswith(("/", "/.")):
        shown = f"{text} is a folder" if text.strip() else "the name of the output is empty"
        raise UsageError(shown, hint="name a file in a folder, for example audit.json")
    if _leads_to_stream(text):
        raise UsageError(f"{text} is an open stream, not a file", hint="write to stdout with -o -, or name a file")
    return path


def _leads_to_stream(text: str) -> bool:
    """Return whether a name is that of an open stream, or a symlink to one."""
    path = os.path.abspath(text)
    for _ in range(_MAX_LINKS):
        if _STREAM.fullmatch(path):
            return True
        try:
            path = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(path)))
        except OSError:  # not a symlink, or not there
            break
    return False


def is_part_of(path: Path, whole: Path) -> bool:
    """Return whether a path leads to `whole`, or into it where that is a folder, through links or not.

    Raises:
        DiskError: one of them cannot be inspected.
    """
    with explain_disk("look at", path):
        if whole.is_dir():
            return path.resolve().is_relative_to(whole.resolve())
        return path.resolve() == whole.resolve() or (path.exists() and whole.exists() and path.samefile(whole))


def check_name_length(path: Path) -> None:
    """Check that a file and the temporary one that it is written to can have their names.

    Raises:
        UsageError: the name is too long for the file system.
    """
    try:
        most = os.pathconf(path.parent, "PC_NAME_MAX") if path.name else -1
    except OSError:  # there is no such folder, or its file system does not say
        return
    if most < 0:  # it has no limit, or the path is a folder
        return
    excess = len(os.fsencode(_name_temporary(path).name)) - most
    if excess > 0:
        raise UsageError(
            f"the name {path.name} is too long by {format_count(excess, 'byte')}", hint="choose a shorter one"
        )


def check_replaceable(path: Path, *, option: str = "-o") -> None:
    """Check that a new file can get the name `path`, which `option` gives, before any work is done for it.

    Raises:
        UsageError: `path` is a folder, a device or a pipe, its name is too long, or its folder does not exist.
        DiskError: its folder is not writable.
    """
    folder = path.parent
    check_name_length(path)
    with explain_disk("look into", folder):
        is_folder = folder.is_dir()
        is_other = path.exists() and not path.is_file()
    if is_other:
        raise UsageError(
            f"{path} is not a file and cannot be replaced by one",
            hint="name a file, or write to stdout with -o -" if option == "-o" else f"name a file with {option}",
        )
    if not is_folder:
        raise UsageError(
            f"the folder {folder} does not exist", hint=f"create it with: mkdir -p {shlex.quote(str(folder))}"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DiskError(f"the folder {folder} is not writable", hint=f"choose another location with {option}")


@contextlib.contextmanager
def lock_folder(path: Path) -> Iterator[Callable[[], bool]]:
    """Hold a folder's lock, which ends with the process; yield a function that returns whether it is still held.

    It is no longer held once the folder has been removed: another process may have created it again.

    Raises:
        UsageError: another process holds the lock.
        DiskError: the lock file cannot be opened.
    """
    lock = path / _LOCK_NAME
    descriptor = open_private(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
    try:
        try:
            with explain_disk("lock", lock):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not _is_same_file(descriptor, lock):
                    raise BlockingIOError  # its holder has just removed the folder
        except DiskError as error:
            if not isinstance(error.__cause__, BlockingIOError):
                raise
            raise UsageError(
                f"another oci-audit process is using {path}",
                hint="wait until it ends, or choose another output with -o",
            ) from error
        yield lambda: _is_same_file(descriptor, lock)
    finally:
        os.close(descriptor)


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
