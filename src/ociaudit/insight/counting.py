"""From files to a census, or to whatever else counts events: quickly where a file allows it.

Owns: the choice between the quick and the careful way of reading. Must not: count.

Invariant: either way the census is the same; the quick way gives up at the first thing that is not as it should be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from ociaudit.errors import UnreadableInput
from ociaudit.formats.event_reader import open_records
from ociaudit.formats.plain_lines import read_plain_lines
from ociaudit.formats.record import Record
from ociaudit.insight.census import Census
from ociaudit.store.durable import explain_disk

_BUFFER_BYTES = 256 * 1024


class Counting(Protocol):
    """Whatever counts events batch by batch."""

    @property
    def untyped(self) -> int:
        """How many events have neither a time nor a type: perhaps they are in another spelling."""

    def add(self, records: Sequence[Record]) -> None:
        """Count events; ValueError: one is not a JSON object."""

    def add_raws(self, raws: Sequence[bytes]) -> None:
        """Count events, each one line of JSON; raises as `add`."""


C = TypeVar("C", bound=Counting)


def count_files(paths: Sequence[Path | None]) -> Census:
    """Count the events of all files; None is stdin. Raises as `feed_files`."""
    return feed_files(paths, Census)


def feed_files(paths: Sequence[Path | None], begin: Callable[[], C]) -> C:
    """Return a count of the events of all files, begun by `begin`; None is stdin.

    Raises:
        UsageError: a file does not exist.
        UnreadableInput: a file is not what it should be.
        DiskError: a file cannot be read.
    """
    careful = set(paths) if None in paths else set()  # stdin cannot be read twice
    while True:
        census = begin()
        for path in paths:
            if path is None or path in careful:
                _count_carefully(census, path)
            elif not _count_quickly(census, path):
                careful.add(path)
                break
        else:
            return census


def _count_quickly(census: Counting, path: Path) -> bool:
    """Count the events of a file; tell whether that was possible. If not, the census is spoilt."""
    if not path.is_file():
        return False
    with explain_disk("read", path), path.open("rb", buffering=_BUFFER_BYTES) as file:
        try:
            for batch in read_plain_lines(file):
                census.add_raws(batch)
                if census.untyped:  # perhaps another spelling
                    return False
        except ValueError:  # NotInLines, or not the JSON of an event
            return False
    return True


def _count_carefully(census: Counting, path: Path | None) -> None:
    with open_records(path) as source:
        for batch in source:
            try:
                census.add(batch)
            except ValueError as error:
                raise UnreadableInput(
                    f"{source.name}: an event cannot be read: {error}", hint="make the file anew, or restore it"
                ) from error
