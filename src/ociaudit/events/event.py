r"""One audit event: its bytes as served, and its place in the canonical order.

Owns: what one event is to the program. Must not: parse pages, or know regions and compartments.

Invariants
- `raw` is one line: the JSON object Oracle sent, to the byte, without the line breaks between its tokens.
- `order` compares, as bytes, like (`eventTime` as an instant, `eventId`); equal `order` means equal pair.
- A missing or unreadable time sorts first; a missing id sorts before every id.

A page's body cut into its events, in one pass, without rebuilding any of them.

Owns: what counts as a good body. Must not: ask, retry, or drop an element.

Invariants
- A body is a JSON array of objects in UTF-8, or it is a bad page (`BadPage`); there is nothing in between.
- Every element of the array comes back as one event, in the order served, its bytes unchanged but for the
  line breaks between its tokens.

The quick way is msgspec. It refuses lone surrogates (`"\ud800"`), which are valid JSON and which attackers
can send, so a body that it refuses gets a second look by the standard library's scanner.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import NoReturn

import msgspec

from ociaudit.events.fields import KEY_FIELDS_BY_SHAPE, AnyKeyFields, Facts, make_model, read_instant, read_loose_fields

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
    return read_instant_of(order), read_event_id(extract_event_id(order))


def extract_event_id(order: bytes) -> bytes:
    """Return the id as it stands encoded in an order; empty where the event has none."""
    return order[_INSTANT_BYTES : -len(_ORDER_END)]


def read_event_id(text: bytes) -> str:
    """Return the id that `cut_event_id` cut out."""
    return text.replace(b"\0\xff", b"\0").decode("utf-8", "surrogatepass")


_KEY_FACTS = frozenset({"event_time", "event_id", "event_type", "data.event_name", "data.compartment_id"})
_WHITE_SPACE = " \t\n\r"
_LINE_BREAKS = b"\r\n"

_raw_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_fields_decoders: dict[str, msgspec.json.Decoder[list[AnyKeyFields]]] = {
    shape: msgspec.json.Decoder(list.__class_getitem__(kind)) for shape, kind in KEY_FIELDS_BY_SHAPE.items()
}


class BadPage(ValueError):
    """A body that is not a JSON array of objects."""


def parse_page(body: bytes, shape: str = "api") -> list[Event]:
    """Cut a page's body into its events, whose fields are spelled as `shape` says.

    Raises:
        BadPage: the body is not a JSON array of objects in UTF-8; the message says why and at which byte.
    """
    try:
        if not body.isascii():
            body.decode("utf-8")  # msgspec does not look into what it only cuts
        raws = _raw_decoder.decode(body)
        fields = _fields_decoders[shape].decode(body)
    except UnicodeDecodeError as error:
        raise BadPage(f"the body is not UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise BadPage("the body is nested too deeply") from error
    except msgspec.MsgspecError:
        return _parse_slowly(body.decode("utf-8"), shape)
    lines = map(bytes, raws) if _is_in_one_line(body) else [join_lines(bytes(raw)) for raw in raws]
    return list(map(make_event, lines, fields))


def make_page_parser(needed: Collection[str]) -> Callable[[bytes], list[Event]]:
    """Return a function like `cut_page` for the API's spelling, whose events know these facts besides.

    They are read in the pass that is made anyway. Where one of them is not as documented, the events of that page
    know no facts.
    """
    decoder = msgspec.json.Decoder(list.__class_getitem__(make_model({*needed, *_KEY_FACTS})))

    def cut(body: bytes) -> list[Event]:
        try:
            if not body.isascii():
                body.decode("utf-8")
            raws = _raw_decoder.decode(body)
            facts = decoder.decode(body)
        except (UnicodeDecodeError, RecursionError, msgspec.MsgspecError):
            return parse_page(body)
        lines = map(bytes, raws) if _is_in_one_line(body) else [join_lines(bytes(raw)) for raw in raws]
        return list(map(make_event_of_facts, lines, facts))

    return cut


def read_event(line: bytes, shape: str = "api") -> Event:
    """Read one event that `cut_page` made and that was kept as its bytes.

    Raises:
        BadPage: it is not the JSON of one event.
    """
    events = parse_page(b"[" + line + b"]", shape)
    if len(events) != 1:
        raise BadPage(f"a line holds {len(events)} events")
    return events[0]


def _is_in_one_line(body: bytes) -> bool:
    return b"\n" not in body and b"\r" not in body


def join_lines(raw: bytes) -> bytes:
    """Take out the line breaks; in valid JSON they stand only between tokens."""
    if b"\n" in raw or b"\r" in raw:
        return raw.translate(None, _LINE_BREAKS)
    return raw


def _parse_slowly(text: str, shape: str) -> list[Event]:
    """Cut with the standard library's scanner, which accepts lone surrogates and fields of any type."""
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
            raise BadPage(f"the body is cut or damaged at character {position}, after event {len(events)}")
        position = skip_white_space(text, position + 1)


def _parse_one(text: str, position: int, shape: str, *, number: int) -> tuple[Event, int]:
    try:
        value, end = scan_value(text, position)
    except RecursionError as error:
        raise BadPage(f"event {number} is nested too deeply") from error
    except ValueError as error:
        raise BadPage(f"the body is cut or damaged in event {number}: {error}") from error
    if not isinstance(value, dict):
        raise BadPage(f"element {number} of the page is not an object")
    return make_event(
        join_lines(text[position:end].encode("utf-8")), read_loose_fields(value, KEY_FIELDS_BY_SHAPE[shape])
    ), end


def _end_of_array(text: str, position: int, events: list[Event]) -> list[Event]:
    if skip_white_space(text, position + 1) != len(text):
        raise BadPage(f"there is something after the array's end, at character {position + 1}")
    return events


def skip_white_space(text: str, position: int) -> int:
    """Return the position of the next character that is not JSON's white space."""
    while position < len(text) and text[position] in _WHITE_SPACE:
        position += 1
    return position


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _skip_number(_: str) -> None:
    """Numbers are not looked at: one of 5,000 digits is valid JSON, and Python would refuse to convert it."""


scan_value = json.JSONDecoder(
    parse_int=_skip_number, parse_float=_skip_number, parse_constant=_refuse_constant
).raw_decode
"""(text, position) -> (value with numbers left out, position behind it); ValueError where no value stands."""
