"""The interface of an output format, and the types that all formats share.

Readers yield `Record`s. An `EventFormat` encodes their events with an `EventEncoder`, in the shape that the user chose,
and returns the bytes of a file. Each format has its own module; one contract suite tests them all.

Invariants
- `begin`, any number of `write`, then `finish` to its end: the concatenated results are the file.
- The same events with the same origins give the same bytes, however they are batched.
- Memory does not grow with the file. Data that has to wait until the end is kept in a scratch folder, which
  `close` empties. Call `close` once, at the end or after any failure.
- An origin that a file does not state is None; it is never guessed from the event.
- An encoded event ends in `"origin":{"region":…,"compartment":…}}` where origins are wanted, or in `"origin":null}`
  where the origin is unknown. An event that already has a member of that name keeps it: ours gets underscores until
  its name is free. The bytes before it are those of the event.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import msgspec

from ociaudit.errors import format_count
from ociaudit.events.event import BadPage, parse_page
from ociaudit.events.field_naming import Shape, choose_shape, split_members
from ociaudit.planning.shard import Target

EVENT_COLUMN = "event"
ORIGIN_COLUMNS = ("origin_region", "origin_compartment")
ROWS_PER_BATCH = 500

_ORIGIN_NAME, _RECORD_ID_NAME = "origin", "record_id"
_raw_decoder = msgspec.json.Decoder(list[msgspec.Raw])


class InvalidFile(ValueError):
    """A file that is truncated, damaged or not in the expected format.

    The message says what is wrong and where. `reason` is the message without the offset. `offset` is the byte from
    which the file cannot be read, or None where the reason itself names the position.
    """

    def __init__(
        self,
        reason: str,
        offset: int | None = None,
        *,
        encoding: str | None = None,
        filter_command: str | None = None,
        hint: str | None = None,
    ) -> None:
        """Add the offset to the message; `encoding` is iconv's name of the encoding that the file seems to be in.

        `filter_command` reads the file and writes one that is valid; with an encoding it is iconv's.
        """
        super().__init__(reason if offset is None else f"{reason}, at byte {offset:,}")
        self.reason = reason
        self.offset = offset
        self.filter_command = f"iconv -f {encoding} -t UTF-8" if encoding else filter_command
        self.hint = hint


class EventFormat(Protocol):
    """A format's writer: turns events (JSON objects as served, one line each) into the bytes of a file."""

    def begin(self) -> bytes:
        """Return the bytes before the first event."""
        ...

    def write(self, raws: Sequence[bytes], origins: Sequence[Target | None]) -> bytes:
        """Return the bytes that are ready; `raws` is not empty, and `origins` has one entry for each event."""
        ...

    def finish(self) -> Iterator[bytes]:
        """Yield the bytes after the last event; read it to its end or close it."""
        ...

    def close(self) -> None:
        """Release all resources and delete scratch files."""
        ...


class Record(NamedTuple):
    """An event: `raw` is one line of JSON in shape `api`; `origin` is the target it was requested from, if known."""

    raw: bytes
    origin: Target | None


class Rows(NamedTuple):
    """Consecutive events of a file as JSON, with the origins that the file states outside the events, if any."""

    events: list[bytes]
    origins: list[Target | None] | None


@dataclass(frozen=True, slots=True)
class EventEncoder:
    """Encodes events for a file: the shape of their fields, and whether each is followed by its origin and its id.

    The record id is the SHA-256 of the event as served, whatever its shape; it comes last.
    """

    shape: Shape = "api"
    with_origin: bool = False
    with_record_id: bool = False

    def encode(self, raws: Sequence[bytes], origins: Sequence[Target | None]) -> Sequence[bytes]:
        """Return the events as the file holds them, each still one line of JSON."""
        served = raws
        if self.shape != "api":
            converter = choose_shape(self.shape)
            raws = [converter(raw) for raw in raws]
        if self.with_origin:
            raws = list(map(add_origin, raws, origins))
        if self.with_record_id:
            raws = [add_record_id(raw, hashlib.sha256(one).hexdigest()) for raw, one in zip(raws, served, strict=True)]
        return raws


def add_origin(raw: bytes, origin: Target | None) -> bytes:
    """Return an event with its origin as the last member."""
    return _add_member(raw, _ORIGIN_NAME, msgspec.json.encode(origin))


def add_record_id(raw: bytes, record_id: str) -> bytes:
    """Return an event with its record id as the last member."""
    return _add_member(raw, _RECORD_ID_NAME, msgspec.json.encode(record_id))


def _add_member(raw: bytes, name: str, value: bytes) -> bytes:
    """Return an event with one more member, whose name gets underscores until it is free."""
    head = raw[: raw.rindex(b"}")]
    if f'"{name}'.encode() in raw or b"\\u00" in raw:  # an escape may hide the name
        members = split_members(raw)
        while name in members:
            name += "_"
    comma = b"" if head.rstrip() == b"{" else b","
    return b'%b%b"%b":%b}' % (head, comma, name.encode(), value)


def make_target(region: str | None, compartment: str | None) -> Target | None:
    """Return the target if both its parts are known."""
    return Target(region, compartment) if region and compartment else None


def check_rows(events: list[bytes], origins: list[Target | None], rows_before: int) -> Rows:
    """Return the rows of a table, if each of their events is one JSON object; `rows_before` precede them in the file.

    Raises:
        InvalidFile: an event is not one JSON object; the message names its row.
    """
    try:
        if _raw_decoder.decode(b"[" + b",".join(events) + b"]") == events:
            return Rows(events, origins)
    except (msgspec.MsgspecError, RecursionError):
        pass
    for number, event in enumerate(events, rows_before + 1):
        try:
            parsed = parse_page(b"[" + event + b"]")
        except BadPage as error:
            raise InvalidFile(f"the event in row {number:,} is truncated or not a JSON object: {error}") from error
        if len(parsed) != 1:
            raise InvalidFile(f"the cell in row {number:,} holds {format_count(len(parsed), 'event')}")
    return Rows(events, origins)
