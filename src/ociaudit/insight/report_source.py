"""The events of a file, for a report.

Owns: opening a JSON array of events, plain or gzip, and saying what is wrong with one that is none.
Must not: hold the file.

Invariant: every event comes out once, in the file's order, or an error names the file and the byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from ociaudit.errors import CorruptRun, UsageError
from ociaudit.formats.array_reader import BadArray, read_array, read_chunks, unpack_chunks
from ociaudit.formats.record import Record
from ociaudit.store.durable import explain_disk

_HINT = "name a file that oci-audit export wrote, or another JSON array of audit events in the API's spelling"
_OURS = (b"[\n{", b"[\n]\n")
_TAIL = b"]\n"


def read_records(path: Path) -> Iterator[list[Record]]:
    """Yield the events of a file in batches.

    Raises:
        UsageError: there is no such file.
        CorruptRun: it is not a JSON array of events.
        DiskError: it cannot be read.
    """
    if not path.is_file():
        raise UsageError(f"{path} is not a file", hint=_HINT)
    try:
        with explain_disk("read", path), path.open("rb", buffering=0) as file:
            chunks = unpack_chunks(read_chunks(file))
            first = next(chunks, b"")
            if first.startswith(_OURS):
                yield from _read_lines(chain([first], chunks))
            else:
                for batch in read_array(chain([first], chunks)):
                    yield [Record(event.raw, None) for event in batch.events]
    except BadArray as error:
        raise CorruptRun(f"{path}: {error}", hint=_HINT) from error


def _read_lines(chunks: Iterator[bytes]) -> Iterator[list[Record]]:
    """Read `[`, an event a line with a comma behind all but the last, `]`; whether a line is JSON shows later."""
    rest = next(chunks)[2:]
    for chunk in chunks:
        cut = rest.rfind(b"\n")
        yield [Record(line.rstrip(b","), None) for line in rest[:cut].split(b"\n")] if cut > 0 else []
        rest = rest[cut + 1 :] + chunk
    if not rest.endswith(_TAIL):
        raise BadArray("the array is cut", 0)
    yield [Record(line.rstrip(b","), None) for line in rest[: -len(_TAIL)].split(b"\n") if line]
