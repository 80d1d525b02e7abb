"""One audit event: its bytes as served, and its place in the canonical order.

Owns: what one event is to the program. Must not: parse pages, or know regions and compartments.

Invariants
- `raw` is one line: the JSON object Oracle sent, to the byte, without the line breaks between its tokens.
- `order` compares, as bytes, like (`eventTime` as an instant, `eventId`); equal `order` means equal pair.
- A missing or unreadable time sorts first; a missing id sorts before every id.
"""

from __future__ import annotations

import msgspec

from ociaudit.events.facts import Facts
from ociaudit.events.fields import AnyKeyFields, read_instant

_INSTANT_BYTES = 9  # nanoseconds since the year 1 need 69 bits up to the year 9999
_ORDER_END = b"\0\0"


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event as served (`raw`) with what the program reads from it.

    `facts` are those that a filter needs, where they were read in the same pass.
    """

    raw: bytes
    order: bytes
    event_type: str
    event_name: str | None
    compartment: str | None
    facts: Facts | None = None


def make_event_of_facts(raw: bytes, facts: Facts) -> Event:
    """Make an event from one line of JSON and facts, which have at least what an event knows of itself."""
    data = facts.data
    order = encode_order(read_instant(facts.event_time), facts.event_id or "")
    if data is None:
        return Event(raw, order, facts.event_type or "", None, None, facts)
    return Event(raw, order, facts.event_type or "", data.event_name, data.compartment_id, facts)


def make_event(raw: bytes, fields: AnyKeyFields) -> Event:
    """Make an event from one line of JSON and the fields read from it."""
    data = fields.data
    order = encode_order(read_instant(fields.event_time), fields.event_id or "")
    if data is None:
        return Event(raw, order, fields.event_type or "", None, None)
    return Event(raw, order, fields.event_type or "", data.event_name, data.compartment_id)


def encode_order(instant: int, event_id: str) -> bytes:
    """Encode (instant, id) as bytes that compare like the pair.

    A zero byte inside an id is written as 00 FF and the id ends with 00 00, so that no id is a prefix of
    another one's encoding. UTF-8 keeps the order of code points; lone surrogates pass through.
    """
    text = event_id.encode() if event_id.isascii() else event_id.encode("utf-8", "surrogatepass")
    if b"\0" in text:
        text = text.replace(b"\0", b"\0\xff")
    return instant.to_bytes(_INSTANT_BYTES, "big") + text + _ORDER_END


def encode_instant(instant: int) -> bytes:
    """Return the smallest bytes that any event of that instant, or later, has as its order."""
    return instant.to_bytes(_INSTANT_BYTES, "big")


def read_instant_of(order: bytes) -> int:
    """Return the instant that `encode_order` encoded."""
    return int.from_bytes(order[:_INSTANT_BYTES], "big")


def read_order(order: bytes) -> tuple[int, str]:
    """Return the (instant, id) that `encode_order` encoded."""
    return read_instant_of(order), read_event_id(cut_event_id(order))


def cut_event_id(order: bytes) -> bytes:
    """Return the id as it stands encoded in an order; empty where the event has none."""
    return order[_INSTANT_BYTES : -len(_ORDER_END)]


def read_event_id(text: bytes) -> str:
    """Return the id that `cut_event_id` cut out."""
    return text.replace(b"\0\xff", b"\0").decode("utf-8", "surrogatepass")
