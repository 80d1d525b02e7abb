"""What every format is: something that takes events in order and gives the bytes of a file.

Owns: the interface. Each implementation is a file of its own; one contract suite runs over all.

Invariants
- `begin`, any number of `write`, then `finish` to its end; the bytes given, one behind the other, are the file.
- The same events, with the same origins, give the same bytes, in whatever batches they come.
- Memory does not grow with the file. What must be kept until the end stands in a scratch folder, and `close`
  takes it away; it is called once, at the end or after any failure.

One event on its way between files: its JSON as Oracle spells it, and where it was asked from.

Owns: that pair. Readers of every kind of file give it, writers of every format take it.

Invariant: an origin that a file does not know is None; it is never guessed from the event.

How an event is spelled in a file: the shape of its fields, and the origin behind them where that is wanted.

Owns: the member `origin`. The shapes are those of `events.shapes`.

Invariants
- With an origin an event ends in `"origin":{"region":…,"compartment":…}}`, or in `"origin":null}` where the
  origin is not known. An event that has a member of that name keeps it: ours gets underscores until its name is
  free.
- What stands before it is the event to the byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import msgspec

from ociaudit.events.event import BadPage, parse_page
from ociaudit.events.field_naming import Shape, choose_shape, split_members
from ociaudit.formats.compression import BadFile
from ociaudit.planning.shard import Target


class EventFormat(Protocol):
    """Turns events (JSON objects as served, one line each) into the bytes of a file."""

    def begin(self) -> bytes:
        """Return the bytes before the first event."""
        ...

    def write(self, raws: Sequence[bytes], origins: Sequence[Target | None]) -> bytes:
        """Return the bytes that are ready; `origins` are the events' own, one each, and `raws` is not empty."""
        ...

    def finish(self) -> Iterator[bytes]:
        """Yield the bytes after the last event; to be read to its end or closed."""
        ...

    def close(self) -> None:
        """Give back what is held outside memory."""
        ...


EVENT_COLUMN = "event"
ORIGIN_COLUMNS = ("origin_region", "origin_compartment")
ROWS_PER_BATCH = 500
_raw_decoder = msgspec.json.Decoder(list[msgspec.Raw])


class Record(NamedTuple):
    """An event: `raw` is one line of JSON in shape `api`; `origin` is the (region, compartment) asked, if known."""

    raw: bytes
    origin: Target | None


class Rows(NamedTuple):
    """Consecutive rows: the events as JSON and, if the file says it beside them, where each was asked from."""

    events: list[bytes]
    origins: list[Target | None] | None


def make_target(region: str | None, compartment: str | None) -> Target | None:
    """Return the place, if both halves are known."""
    return Target(region, compartment) if region and compartment else None


def check_rows(events: list[bytes], origins: list[Target | None], rows_before: int) -> Rows:
    """Return the rows if every event is a JSON object."""
    try:
        if _raw_decoder.decode(b"[" + b",".join(events) + b"]") == events:
            return Rows(events, origins)
    except (msgspec.MsgspecError, RecursionError):
        pass
    for number, event in enumerate(events, rows_before + 1):
        try:
            cut = parse_page(b"[" + event + b"]")
        except BadPage as error:
            raise BadFile(f"the event in row {number:,} is cut or no JSON object: {error}") from error
        if len(cut) != 1:
            raise BadFile(f"the cell in row {number:,} holds {len(cut)} events")
    return Rows(events, origins)


_NAME = b"origin"


@dataclass(frozen=True, slots=True)
class EventShape:
    """The shape of an event's fields, and whether its origin stands behind them."""

    shape: Shape = "api"
    with_origin: bool = False

    def apply(self, raws: Sequence[bytes], origins: Sequence[Target | None]) -> Sequence[bytes]:
        """Return the events as they are to stand in the file; each remains one line of JSON."""
        if self.shape != "api":
            converter = choose_shape(self.shape)
            raws = [converter(raw) for raw in raws]
        if self.with_origin:
            raws = list(map(put_origin, raws, origins))
        return raws


def put_origin(raw: bytes, origin: Target | None) -> bytes:
    """Write an event with its origin as the last member."""
    head = raw[: raw.rindex(b"}")]
    name = _NAME
    if b'"origin' in raw or b"\\u00" in raw:  # an escape may hide the name
        names = split_members(raw)
        while name.decode() in names:
            name += b"_"
    comma = b"" if head.rstrip() == b"{" else b","
    return b'%b%b"%b":%b}' % (head, comma, name, msgspec.json.encode(origin))
