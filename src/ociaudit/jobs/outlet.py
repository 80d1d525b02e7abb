"""Where the bytes of an output go: a file that gets its name when it is whole, or stdout.

Owns: that choice. Must not: make the bytes.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ociaudit.errors import DiskError
from ociaudit.store.durable import new_file, write_all, write_to_reader


@contextmanager
def open_outlet(
    output: Path | None, *, stdout: int, check_stop: Callable[[], None]
) -> Iterator[Callable[[bytes], None]]:
    """Give the function that writes; `output` None means the descriptor `stdout`.

    A file stands under its name after a clean exit; after an exception nothing stands there that did not before.

    Raises:
        DiskError: the disk refused, or nobody reads stdout any more.
        Interrupted: as `check_stop` does.
    """
    if output is None:
        yield lambda data: write_to_stdout(stdout, data, check_stop)
        return
    with new_file(output) as descriptor:

        def write(data: bytes) -> None:
            check_stop()
            write_all(descriptor, data, output)

        yield write


def write_to_stdout(descriptor: int, data: bytes, check_stop: Callable[[], None]) -> None:
    """Write to a reader that may pause.

    Raises:
        DiskError: nobody reads any more.
    """
    try:
        write_to_reader(descriptor, data, Path("stdout"), check=check_stop)
    except DiskError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in {errno.EPIPE, errno.EBADF}:
            raise DiskError(
                "stdout was closed before all events were written",
                hint="let the reader read to the end, or use -o FILE",
            ) from error
        raise
