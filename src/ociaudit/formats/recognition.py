"""What one JSON object of a file is: an event in some spelling, in some wrapper, with or without its origin.

Owns: the recognition of a record, by itself. Must not: read files, or guess.

Wrappers: `{"datetime", "logContent", "regionId"}` of Connector Hub, `{"data": {"datetime", "logContent"}}` of
Logging Search, and the member `origin` that `--with-origin` puts last.

Invariants
- An event in the API's spelling, on one line, keeps every byte. Where it spans lines, somebody laid it out for
  reading, and white space between its tokens goes.
- An origin is known from our own `origin`, or where a wrapper names the region (`regionId`) and the log it
  delivers names its compartment (`oracle.compartmentid`). One alone is no origin, and the event is not asked.
- Nothing is lost: what a wrapper says beside the event stays as fields of the event, but for a `datetime` that
  is the event's own time in milliseconds.
- An object that no rule knows is kept as it stands, and counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import repeat
from types import MappingProxyType

import msgspec

from ociaudit.events.fields import NANOSECONDS, instant_of_minute, read_instant
from ociaudit.events.respell import RESPELLS, recognise_spelling, write_name
from ociaudit.events.shapes import cut_object
from ociaudit.formats.record import Record
from ociaudit.plan.shard import Place

UNKNOWN = "unknown"
KIND_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "api": "as Audit serves them",
        "sdk": "as the SDK spells them",
        "cli": "as the OCI command spells them",
        "cloudevents": "CloudEvents",
        UNKNOWN: "of no known kind",
    }
)
"""Kind of record -> how a person is told of it."""

_API_STARTS = (b'{"eventType":', b'{"cloudEventsVersion":', b'{"eventId":', b'{"eventTime":')
_MAYBE_ORIGIN_ENDS = (b'"}}', b"l}", b" }", b"\t}", b"\r}", b" }}", b"\t}}", b"\r}}")
_ORIGIN = b'"origin'
_MOST_TRIES = 3
_TEXT = rb'("(?:[^"\\]|\\.)*")'
_ORIGIN_TO_END = re.compile(
    rb'"origin_*"\s*:\s*(?:null|\{\s*"region"\s*:\s*%b\s*,\s*"compartment"\s*:\s*%b\s*\})\s*\}\Z' % (_TEXT, _TEXT)
)
_STRING_OR_SPACE = re.compile(rb'("(?:[^"\\]|\\.)*")|[ \t\r\n]+')
_MILLISECOND = NANOSECONDS // 1000
_MOST_DIGITS = 18


class Recogniser:
    """Makes records of a file's objects and counts what they were."""

    def __init__(self) -> None:
        """Begin before the first object."""
        self.kinds: Counter[str] = Counter()
        """Spelling -> how many records were spelled so; those of `unknown` are kept as they are."""
        self.with_origin = 0
        """How many records know where they were asked from."""

    def recognise(self, objects: Sequence[bytes], origins: Sequence[Place | None] | None = None) -> list[Record]:
        """Return the records; `origins` are those that the file has beside its objects."""
        plain = [_is_plain(raw) for raw in objects]
        if all(plain) and not origins:
            self.kinds["api"] += len(objects)
            return [Record(raw, None) for raw in objects]
        records = [
            Record(raw, origin) if is_plain else self._recognise_one(raw, origin)
            for raw, origin, is_plain in zip(objects, origins or repeat(None), plain, strict=False)
        ]
        self.kinds["api"] += sum(plain)
        self.with_origin += sum(record.origin is not None for record in records)
        return records

    def _recognise_one(self, raw: bytes, origin: Place | None) -> Record:
        raw, own_origin = take_origin(raw)
        if not _is_line(raw):
            raw = compact_json(raw)
        origin = origin or own_origin
        if raw.startswith(_API_STARTS):
            self.kinds["api"] += 1
            return Record(raw, origin)
        members: Mapping[str, bytes] = cut_object(raw)
        spelling = recognise_spelling(members)
        if spelling is None and (wrapped := _unwrap(members)) is not None:
            members, wrapper_origin = wrapped
            origin = origin or wrapper_origin
            spelling = recognise_spelling(members)
            raw = b"{" + b",".join([b"%b:%b" % (write_name(name), value) for name, value in members.items()]) + b"}"
        self.kinds[spelling or UNKNOWN] += 1
        if spelling is not None and spelling in RESPELLS:
            raw = RESPELLS[spelling](members)
        return Record(raw, origin)


def _is_plain(raw: bytes) -> bool:
    """Tell at a glance that an event is in the API's spelling, on one line, and without `origin`."""
    return raw.startswith(_API_STARTS) and not raw.endswith(_MAYBE_ORIGIN_ENDS) and _is_line(raw)


def _is_line(raw: bytes) -> bool:
    return b"\n" not in raw and b"\r" not in raw


def take_origin(raw: bytes) -> tuple[bytes, Place | None]:
    """Return an event without the `origin` that `--with-origin` gave it, and that origin.

    It is ours only if it is the last member, and null or an object of exactly `region` and `compartment`. In valid
    JSON nothing else can end like that. (An event with a member of that name has ours as `origin_`.)
    """
    start, match = len(raw), None
    for _ in range(_MOST_TRIES):  # the name may stand in the origin's own texts, too
        start = raw.rfind(_ORIGIN, 0, start)
        if start < 1 or (match := _ORIGIN_TO_END.match(raw, start)):
            break
    if match is None:
        return raw, None
    head = raw[:start]
    before = head.rstrip()
    rest = before[:-1] if before.endswith(b",") else head
    return rest + b"}", make_place(_read_text(match[1]), _read_text(match[2]))


def make_place(region: str | None, compartment: str | None) -> Place | None:
    """Return the place, if both halves are known."""
    return Place(region, compartment) if region and compartment else None


def compact_json(raw: bytes) -> bytes:
    """Take out the white space between the tokens of valid JSON."""
    try:
        return msgspec.json.format(raw, indent=-1)
    except (msgspec.MsgspecError, RecursionError):  # lone surrogates, or nested very deeply
        return _STRING_OR_SPACE.sub(rb"\1", raw)


def _unwrap(members: Mapping[str, bytes]) -> tuple[Mapping[str, bytes], Place | None] | None:
    """Return the members of the wrapped event, with those of the wrapper behind them, and its origin."""
    wrapper = dict(members)
    if "logContent" not in wrapper:
        data = _cut_if_object(wrapper.get("data"))
        if "logContent" not in data:
            return None
        del wrapper["data"]
        wrapper = {**data, **wrapper}
    content = _cut_if_object(wrapper.pop("logContent"))
    if not content:
        return None
    if _is_same_time(wrapper.get("datetime"), content.get("time")):
        del wrapper["datetime"]
    compartment = _cut_if_object(content.get("oracle")).get("compartmentid")
    origin = make_place(_read_text(wrapper.get("regionId")), _read_text(compartment))
    for name, value in wrapper.items():
        while name in content:
            name += "_"  # noqa: PLW2901 - what the wrapper says must not hide what the event says
        content[name] = value
    return content, origin


def _cut_if_object(value: bytes | None) -> dict[str, bytes]:
    text = bytes(value or b"")
    return cut_object(text) if text.startswith(b"{") else {}


def _is_same_time(milliseconds: bytes | None, time: bytes | None) -> bool:
    digits = bytes(milliseconds or b"")
    if not digits.isdigit() or len(digits) > _MOST_DIGITS:
        return False
    instant = instant_of_minute(0) + int(digits) * _MILLISECOND
    return read_instant(_read_text(time)) // _MILLISECOND == instant // _MILLISECOND


def _read_text(value: bytes | None) -> str | None:
    if value is None:
        return None
    try:
        return msgspec.json.decode(value, type=str)
    except msgspec.MsgspecError:
        return None
