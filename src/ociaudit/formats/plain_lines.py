"""Events that stand one in a line, cut without a look inside: three times as fast as reading them with care.

Owns: that shortcut, for uncompressed files in the layout of `json_array` and for ndjson.
Must not: judge a file. Whoever reads the events checks them as JSON; whatever is not as it should be is
`NotInLines`, and then the file is to be read anew, with care.

Invariant: a line of more than a megabyte is never held.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import BinaryIO

_LINES = 256
_LINE_BYTES = 1024 * 1024
_HEAD = b"[\n"
_TAIL = b"]\n"


class NotInLines(ValueError):
    """A file that has to be read with care."""


def read_plain_lines(file: BinaryIO) -> Iterator[list[bytes]]:
    """Yield what stands in the lines of a file, unchecked; it was opened with a buffer and stands at its beginning.

    Raises:
        NotInLines: the layout is another one.
    """
    head = file.readline(len(_HEAD))
    if head == _HEAD:
        yield from _read_array(file)
    elif head[:1] == b"{":
        file.seek(0)
        yield from _read_lines(file)
    else:
        raise NotInLines


def _read_array(file: BinaryIO) -> Iterator[list[bytes]]:
    held: list[bytes] = []
    for lines in _read_lines(file):
        held += lines
        events, held = held[:-2], held[-2:]  # the last event has no comma behind it
        if events:
            yield [line[:-2] for line in events]
    if not held or held[-1] != _TAIL:
        raise NotInLines
    if len(held) == 2:
        yield held[:1]


def _read_lines(file: BinaryIO) -> Iterator[list[bytes]]:
    lines = iter(partial(file.readline, _LINE_BYTES), b"")
    while batch := list(islice(lines, _LINES)):
        if max(map(len, batch)) == _LINE_BYTES:
            raise NotInLines
        yield batch
