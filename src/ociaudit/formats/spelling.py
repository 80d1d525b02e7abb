"""How an event is spelled in a file: the shape of its fields, and the origin behind them where that is wanted.

Owns: the member `origin`. The shapes are those of `events.shapes`.

Invariants
- With an origin an event ends in `"origin":{"region":…,"compartment":…}}`, or in `"origin":null}` where the
  origin is not known. An event that has a member of that name keeps it: ours gets underscores until its name is
  free.
- What stands before it is the event to the byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from ociaudit.events.shapes import Shape, choose_shape, cut_object
from ociaudit.plan.shard import Place

_NAME = b"origin"


@dataclass(frozen=True, slots=True)
class Spelling:
    """The shape of an event's fields, and whether its origin stands behind them."""

    shape: Shape = "api"
    with_origin: bool = False

    def spell(self, raws: Sequence[bytes], origins: Sequence[Place | None]) -> Sequence[bytes]:
        """Return the events as they are to stand in the file; each remains one line of JSON."""
        if self.shape != "api":
            reshape = choose_shape(self.shape)
            raws = [reshape(raw) for raw in raws]
        if self.with_origin:
            raws = list(map(put_origin, raws, origins))
        return raws


def put_origin(raw: bytes, origin: Place | None) -> bytes:
    """Write an event with its origin as the last member."""
    head = raw[: raw.rindex(b"}")]
    name = _NAME
    if b'"origin' in raw or b"\\u00" in raw:  # an escape may hide the name
        names = cut_object(raw)
        while name.decode() in names:
            name += b"_"
    comma = b"" if head.rstrip() == b"{" else b","
    return b'%b%b"%b":%b}' % (head, comma, name, msgspec.json.encode(origin))
