r"""A page's body cut into its events, in one pass, without rebuilding any of them.

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

from ociaudit.events.event import Event, make_event, make_event_of_facts
from ociaudit.events.fields import SPELLED_FIELDS, AnyKeyFields, read_loose_fields
from ociaudit.events.slim_facts import make_model

_KEY_FACTS = frozenset({"event_time", "event_id", "event_type", "data.event_name", "data.compartment_id"})
_WHITE_SPACE = " \t\n\r"
_LINE_BREAKS = b"\r\n"

_raw_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_fields_decoders: dict[str, msgspec.json.Decoder[list[AnyKeyFields]]] = {
    shape: msgspec.json.Decoder(list.__class_getitem__(kind)) for shape, kind in SPELLED_FIELDS.items()
}


class BadPage(ValueError):
    """A body that is not a JSON array of objects."""


def cut_page(body: bytes, shape: str = "api") -> list[Event]:
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
        return _cut_slowly(body.decode("utf-8"), shape)
    lines = map(bytes, raws) if _is_in_one_line(body) else [join_lines(bytes(raw)) for raw in raws]
    return list(map(make_event, lines, fields))


def make_cutter(needed: Collection[str]) -> Callable[[bytes], list[Event]]:
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
            return cut_page(body)
        lines = map(bytes, raws) if _is_in_one_line(body) else [join_lines(bytes(raw)) for raw in raws]
        return list(map(make_event_of_facts, lines, facts))

    return cut


def read_event(line: bytes, shape: str = "api") -> Event:
    """Read one event that `cut_page` made and that was kept as its bytes.

    Raises:
        BadPage: it is not the JSON of one event.
    """
    events = cut_page(b"[" + line + b"]", shape)
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


def _cut_slowly(text: str, shape: str) -> list[Event]:
    """Cut with the standard library's scanner, which accepts lone surrogates and fields of any type."""
    events: list[Event] = []
    position = skip_white_space(text, 0)
    if text[position : position + 1] != "[":
        raise BadPage(f"the body is not a JSON array, it begins with {text[position : position + 20]!r}")
    position = skip_white_space(text, position + 1)
    if text[position : position + 1] == "]":
        return _end_of_array(text, position, events)
    while True:
        event, position = _cut_one(text, position, shape, number=len(events) + 1)
        events.append(event)
        position = skip_white_space(text, position)
        mark = text[position : position + 1]
        if mark == "]":
            return _end_of_array(text, position, events)
        if mark != ",":
            raise BadPage(f"the body is cut or damaged at character {position}, after event {len(events)}")
        position = skip_white_space(text, position + 1)


def _cut_one(text: str, position: int, shape: str, *, number: int) -> tuple[Event, int]:
    try:
        value, end = scan_value(text, position)
    except RecursionError as error:
        raise BadPage(f"event {number} is nested too deeply") from error
    except ValueError as error:
        raise BadPage(f"the body is cut or damaged in event {number}: {error}") from error
    if not isinstance(value, dict):
        raise BadPage(f"element {number} of the page is not an object")
    return make_event(
        join_lines(text[position:end].encode("utf-8")), read_loose_fields(value, SPELLED_FIELDS[shape])
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
