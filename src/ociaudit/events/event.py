r"""One audit event, its position in the canonical order, and the parser that splits a page's body into events.

A page is parsed in one pass, and no event is decoded and encoded again. The parser is msgspec, which rejects lone
surrogates (`"\ud800"`). These are valid JSON, and an attacker can send them, so a body that msgspec rejects is parsed
again with the standard library's scanner.

Invariants
- A body is a JSON array of objects in UTF-8, or it is a bad page (`BadPage`).
- Every element of the array becomes one event, in the order served.
- `raw` is one line: the JSON object byte for byte as served, without the line breaks between its tokens.
- `order` compares, as bytes, like (`eventTime` as an instant, `eventId`); equal `order` means an equal pair.
- A missing or unreadable time sorts first; a missing id sorts before every id.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable
from typing import NoReturn

import msgspec

from ociaudit.errors import format_count
from ociaudit.events.fields import (
    KEY_FIELDS_BY_SHAPE,
    AnyKeyFields,
    Facts,
    make_facts_model,
    read_instant,
    read_key_fields_leniently,
)

_INSTANT_BYTES = 9  # nanoseconds since the year 1 need 69 bits up to the year 9999
_ORDER_END = b"\0\0"
_KEY_FACTS = frozenset({"event_time", "event_id", "event_type", "data.event_name", "data.compartment_id"})
_WHITE_SPACE = " \t\n\r"
_OTHER = re.compile(r"[^ \t\n\r]")
_LINE_BREAKS = b"\r\n"
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
"""An escape in JSON. A pair of surrogates is one; the group is a surrogate without its other half."""

_raw_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_fields_decoders: dict[str, msgspec.json.Decoder[list[AnyKeyFields]]] = {
    shape: msgspec.json.Decoder(list.__class_getitem__(kind)) for shape, kind in KEY_FIELDS_BY_SHAPE.items()
}


class BadPage(ValueError):
    """A body that is not a JSON array of objects."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event as served (`raw`), and the fields that the program reads from it.

    `facts` are the ones a filter needs, if they were read in the same pass.
    """

    raw: bytes
    order: bytes
    event_type: str
    event_name: str | None
    compartment: str | None
    facts: Facts | None = None


def parse_page(body: bytes, shape: str = "api") -> list[Event]:
    """Return the events of a page's body, whose fields are named as in `shape`.

    Raises:
        BadPage: the body is not a JSON array of objects in UTF-8; the message says why and at which byte.
    """
    try:
        if not body.isascii():
            body.decode("utf-8")  # msgspec does not validate the inside of a Raw
        raws = _raw_decoder.decode(body)
        fields = _fields_decoders[shape].decode(body)
    except UnicodeDecodeError as error:
        raise BadPage(f"the body is not UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise BadPage("the body is nested too deeply") from error
    except msgspec.MsgspecError:
        return _parse_slowly(body.decode("utf-8"), shape)
    return list(map(make_event, _split_lines(body, raws), fields))


def make_page_parser(needed: Collection[str]) -> Callable[[bytes], list[Event]]:
    """Return a function like `parse_page` for shape `api` whose events have the `needed` facts.

    The facts are read in the same pass. If one of them does not have its documented type, the events of that page have
    no facts.
    """
    decoder = msgspec.json.Decoder(list.__class_getitem__(make_facts_model({*needed, *_KEY_FACTS})))

    def parse(body: bytes) -> list[Event]:
        try:
            if not body.isascii():
                body.decode("utf-8")
            raws = _raw_decoder.decode(body)
            facts = decoder.decode(body)
        except (UnicodeDecodeError, RecursionError, msgspec.MsgspecError):
            return parse_page(body)
        return list(map(_make_event_with_facts, _split_lines(body, raws), facts))

    return parse


def read_event(line: bytes, shape: str = "api") -> Event:
    """Return the event whose `raw` is `line`.

    Raises:
        BadPage: the line is not the JSON of exactly one event.
    """
    events = parse_page(b"[" + line + b"]", shape)
    if len(events) != 1:
        raise BadPage(f"a line holds {format_count(len(events), 'event')}")
    return events[0]


def make_event(raw: bytes, fields: AnyKeyFields) -> Event:
    """Return the event with these bytes and the key fields read from them."""
    data = fields.data
    order = encode_order(read_instant(fields.event_time), fields.event_id or "")
    if data is None:
        return Event(raw, order, fields.event_type or "", None, None)
    return Event(raw, order, fields.event_type or "", data.event_name, data.compartment_id)


def _make_event_with_facts(raw: bytes, facts: Facts) -> Event:
    """Return the event with these bytes and facts, which include the key fields."""
    data = facts.data
    order = encode_order(read_instant(facts.event_time), facts.event_id or "")
    if data is None:
        return Event(raw, order, facts.event_type or "", None, None, facts)
    return Event(raw, order, facts.event_type or "", data.event_name, data.compartment_id, facts)


def encode_order(instant: int, event_id: str) -> bytes:
    """Return (instant, id) as bytes that compare like the pair.

    A zero byte inside an id is written as 00 FF, and the id ends with 00 00, so that no encoded id is a prefix of
    another. UTF-8 keeps the order of code points; lone surrogates pass through.
    """
    text = event_id.encode() if event_id.isascii() else event_id.encode("utf-8", "surrogatepass")
    if b"\0" in text:
        text = text.replace(b"\0", b"\0\xff")
    return instant.to_bytes(_INSTANT_BYTES, "big") + text + _ORDER_END


def encode_instant(instant: int) -> bytes:
    """Return the smallest bytes that the `order` of an event at this instant or later can have."""
    return instant.to_bytes(_INSTANT_BYTES, "big")


def read_order(order: bytes) -> tuple[int, str]:
    """Return the (instant, id) that `encode_order` encoded."""
    return read_instant_of(order), read_event_id(extract_event_id(order))


def read_instant_of(order: bytes) -> int:
    """Return the instant that `encode_order` encoded."""
    return int.from_bytes(order[:_INSTANT_BYTES], "big")


def extract_event_id(order: bytes) -> bytes:
    """Return the id of an order in its encoded form; empty if the event has none."""
    return order[_INSTANT_BYTES : -len(_ORDER_END)]


def read_event_id(text: bytes) -> str:
    """Return the id that `extract_event_id` returned in its encoded form."""
    return text.replace(b"\0\xff", b"\0").decode("utf-8", "surrogatepass")


def replace_lone_surrogates(raw: bytes) -> tuple[bytes, int]:
    """Return JSON with every lone surrogate, which is always an escape, replaced by U+FFFD, and how many there were."""
    if b"\\ud" not in raw and b"\\uD" not in raw:
        return raw, 0
    replaced = 0

    def replace(escape: re.Match[bytes]) -> bytes:
        nonlocal replaced
        if escape[1] is None:
            return escape[0]
        replaced += 1
        return b"\\ufffd"

    valid = _ESCAPE.sub(replace, raw)
    return valid, replaced


def join_lines(raw: bytes) -> bytes:
    """Return JSON without its line breaks, which in valid JSON occur only between tokens."""
    if b"\n" in raw or b"\r" in raw:
        return raw.translate(None, _LINE_BREAKS)
    return raw


def skip_white_space(text: str, position: int) -> int:
    """Return the position of the next character that is not JSON white space."""
    if position < len(text) and text[position] in _WHITE_SPACE:
        return len(text) if (found := _OTHER.search(text, position)) is None else found.start()
    return position


def _split_lines(body: bytes, raws: list[msgspec.Raw]) -> Iterable[bytes]:
    """Return the elements of a body, each as one line."""
    if b"\n" not in body and b"\r" not in body:
        return map(bytes, raws)
    return [join_lines(bytes(raw)) for raw in raws]


def _parse_slowly(text: str, shape: str) -> list[Event]:
    """Parse a page with the standard library's scanner, which accepts lone surrogates and fields of any type."""
    events: list[Event] = []
    position = skip_white_space(text, 0)
    if text[position : position + 1] != "[":
        raise BadPage(f"the body is not a JSON array, it begins with {text[position : position + 20]!r}")
    position = skip_white_space(text, position + 1)
    if text[position : position + 1] == "]":
        return _end_of_array(text, position, events)
    while True:
        event, position = _parse_one(text, position, shape, number=len(events) + 1)
        events.append(event)
        position = skip_white_space(text, position)
        mark = text[position : position + 1]
        if mark == "]":
            return _end_of_array(text, position, events)
        if mark != ",":
            raise BadPage(f"the body is truncated or damaged at character {position}, after event {len(events)}")
        position = skip_white_space(text, position + 1)


def _parse_one(text: str, position: int, shape: str, *, number: int) -> tuple[Event, int]:
    try:
        value, end = scan_value(text, position)
    except RecursionError as error:
        raise BadPage(f"event {number} is nested too deeply") from error
    except ValueError as error:
        raise BadPage(f"the body is truncated or damaged in event {number}: {error}") from error
    if not isinstance(value, dict):
        raise BadPage(f"element {number} of the page is not an object")
    fields = read_key_fields_leniently(value, KEY_FIELDS_BY_SHAPE[shape])
    return make_event(join_lines(text[position:end].encode("utf-8")), fields), end


def _end_of_array(text: str, position: int, events: list[Event]) -> list[Event]:
    if skip_white_space(text, position + 1) != len(text):
        raise BadPage(f"the array is followed by other text, at character {position + 1}")
    return events


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not valid JSON")


def _skip_number(_: str) -> None:
    """Ignore a number: one of 5,000 digits is valid JSON, but Python refuses to convert it."""


scan_value = json.JSONDecoder(
    parse_int=_skip_number, parse_float=_skip_number, parse_constant=_reject_constant
).raw_decode
"""Return (value with numbers as None, end position) for (text, position); raise ValueError without a JSON value."""
