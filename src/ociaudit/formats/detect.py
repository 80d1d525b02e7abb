"""Detection of what an input is: first the file by its first bytes, then each JSON object in it.

`detect_input` finds what holds the events (an array, an object around one, consecutive objects, CSV or Parquet) and
returns their rows. `ObjectDetector` turns each object into a record: it finds the naming of the event's fields, and
removes the wrapper or the origin around it. Wrappers are `{"datetime", "logContent", "regionId"}` of Connector Hub and
`{"data": {"datetime", "logContent"}}` of Logging Search; the origin is the member that `--with-origin` adds last.

Invariants
- Every kind of file is either detected, or rejected with what it seems to be.
- The text around an array of events is checked too: a file that is truncated after its last event is rejected.
- An event with the API's field names, on one line, keeps every byte. One that spans lines was formatted for reading,
  so the white space between its tokens is removed.
- An origin is known from our own `origin`, or where a wrapper names the region (`regionId`) and the log that it
  delivers names its compartment (`oracle.compartmentid`). One of the two is not enough, and the event's own fields do
  not count.
- Nothing is lost: the wrapper's other members become fields of the event, except a `datetime` that is the event's own
  time in milliseconds.
- An object that no rule matches is kept as it is, and counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from types import MappingProxyType

import msgspec

from ociaudit.events.event import scan_value, skip_white_space
from ociaudit.events.field_naming import IDENTIFYING_NAMES, TO_API_SHAPE, detect_naming, split_members, write_name
from ociaudit.events.fields import NANOSECONDS, instant_of_minute, read_instant
from ociaudit.formats.base import InvalidFile, Record, Rows, make_target
from ociaudit.formats.csv import is_csv_header, read_csv
from ociaudit.formats.json_reader import ObjectStream
from ociaudit.formats.parquet import read_parquet
from ociaudit.planning.shard import Target

UNKNOWN = "unknown"
KIND_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "api": "in the API's shape",
        "sdk": "in the SDK's shape",
        "cli": "in the OCI CLI's shape",
        "cloudevents": "in CloudEvents format",
        UNKNOWN: "of an unknown kind",
    }
)
"""Kind of record -> the words for it in a description of the file."""

_HEAD_BYTES = 64 * 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_PARQUET_MAGIC = b"PAR1"
_WHITE_SPACE = b" \t\r\n"
_FOREIGN = (
    (b"\xff\xfe", "text in UTF-16, as PowerShell's > writes it; convert it: iconv -f UTF-16 -t UTF-8"),
    (b"\xfe\xff", "text in UTF-16; convert it: iconv -f UTF-16 -t UTF-8"),
    (b"PK\x03\x04", "a ZIP archive; unpack it first"),
    (b"BZh", "compressed with bzip2; decompress it first"),
    (b"\xfd7zXZ", "compressed with xz; decompress it first"),
    (b"<", "HTML or XML, perhaps an error page"),
    (b"\x1f\x8b", "compressed twice; decompress it once"),
    (b"\x28\xb5\x2f\xfd", "compressed twice; decompress it once"),
)
"""First bytes -> what a file seems to be that cannot be read."""
_CSV_LIKE = re.compile(rb'"?[A-Za-z_][\w.]*"?(,"?[\w.]*"?)+')
_LIST_NAMES = ("data", "results")
_LIST_SIBLINGS = ("fields", "results", "summary")

_API_STARTS = (b'{"eventType":', b'{"cloudEventsVersion":', b'{"eventId":', b'{"eventTime":')
_POSSIBLE_ORIGIN_ENDS = (b'"}}', b"l}", b" }", b"\t}", b"\r}", b" }}", b"\t}}", b"\r}}")
_ORIGIN = b'"origin'
_MAX_TRIES = 3
_STRING = rb'("(?:[^"\\]|\\.)*")'
_ORIGIN_TO_END = re.compile(
    rb'"origin_*"\s*:\s*(?:null|\{\s*"region"\s*:\s*%b\s*,\s*"compartment"\s*:\s*%b\s*\})\s*\}\Z' % (_STRING, _STRING)
)
_STRING_OR_SPACE = re.compile(_STRING + rb"|[ \t\r\n]+")
_MILLISECOND = NANOSECONDS // 1000
_MAX_DIGITS = 18


@dataclass(frozen=True, slots=True)
class DetectedInput:
    """How a file holds its events; iterate `rows` once."""

    description: str
    rows: Iterator[Rows]


def detect_input(pieces: Iterator[bytes], *, file: Path | None) -> DetectedInput | None:
    """Return what holds the events, or None where there is nothing but white space.

    `file` is the uncompressed regular file that the pieces come from, if there is one; Parquet needs it.

    Raises:
        InvalidFile: the file is of no known kind.
    """
    head = b""
    while len(head) < _HEAD_BYTES and (piece := next(pieces, b"")):
        head += piece
    if head.startswith(_PARQUET_MAGIC):
        if file is None:
            raise InvalidFile("Parquet can only be read from an uncompressed file, not from a stream")
        return DetectedInput("Parquet", read_parquet(file))
    offset = len(_BYTE_ORDER_MARK) if head.startswith(_BYTE_ORDER_MARK) else 0
    while not (text := head[offset:].lstrip(_WHITE_SPACE)) and (piece := next(pieces, b"")):
        head += piece
    offset = len(head) - len(text)
    if not text:
        return None
    line = 1 + head.count(b"\n", 0, offset)
    whole = chain([text], pieces)
    match text[:1]:
        case b"[":
            return DetectedInput("a JSON array", _read_array(whole, "[", offset, line))
        case b"{":
            return _open_objects(text, whole, offset, line)
    if is_csv_header(text):
        return DetectedInput("CSV", read_csv(chain([head], pieces)))
    raise InvalidFile(_describe_foreign(head, text))


def _open_objects(text: bytes, whole: Iterator[bytes], offset: int, line: int) -> DetectedInput:
    prefix = _find_list(text.decode("utf-8", "surrogateescape"))
    if prefix is None:
        return DetectedInput("JSON objects", _read_stream(whole, offset, line))
    if prefix.endswith("["):
        words = f"a JSON object with events in {_name_list(prefix)!r}"
        return DetectedInput(words, _read_array(whole, prefix, offset, line))
    return DetectedInput("a JSON object without events", _read_nothing(whole, offset))


def _read_stream(pieces: Iterator[bytes], offset: int, line: int) -> Iterator[Rows]:
    for objects in ObjectStream(pieces, "stream", offset=offset, line=line):
        yield Rows(objects, None)


def _read_array(pieces: Iterator[bytes], prefix: str, offset: int, line: int) -> Iterator[Rows]:
    """Read the array that begins at the end of `prefix`, and check the text around it."""
    start = prefix.encode("utf-8", "surrogateescape")
    stream = ObjectStream(
        _skip_bytes(pieces, len(start)), "array", offset=offset + len(start), line=line + prefix.count("\n")
    )
    for objects in stream:
        yield Rows(objects, None)
    _check_around(prefix + "]" + stream.tail)


def _read_nothing(pieces: Iterator[bytes], offset: int) -> Iterator[Rows]:
    """Check a document without events: it is small, and must be complete."""
    for objects in ObjectStream(pieces, "stream", offset=offset):
        if len(objects) > 1:
            raise InvalidFile("the file holds several JSON documents")
    yield from ()


def _check_around(text: str) -> None:
    try:
        end = scan_value(text, 0)[1]
    except (ValueError, RecursionError) as error:
        raise InvalidFile("the file is truncated or damaged after the array of events") from error
    if (start := skip_white_space(text, end)) != len(text):
        if text[start] in "[{":
            raise InvalidFile("the file holds several JSON documents")
        raise InvalidFile(f"unexpected {text[start]!r} after the end of the JSON")


def _skip_bytes(pieces: Iterator[bytes], count: int) -> Iterator[bytes]:
    for piece in pieces:
        yield piece[count:]
        break
    yield from pieces


def _find_list(text: str, start: int = 0, *, is_inner: bool = False) -> str | None:
    """Return the text up to and including the `[` of the list of events, or the null in its place.

    Return None if the object that begins at `start` does not hold such a list, as far as the text goes.
    """
    index = skip_white_space(text, start + 1)
    while text[index : index + 1] == '"':
        try:
            name, index = scan_value(text, index)
            if name in IDENTIFYING_NAMES:
                return None
            index = skip_white_space(text, index)
            if text[index : index + 1] != ":":
                return None
            index = skip_white_space(text, index + 1)
            if is_inner and name not in _LIST_SIBLINGS:
                return None
            if name in _LIST_NAMES and text.startswith("[", index):
                return text[: index + 1]
            if name in _LIST_NAMES and text.startswith("null", index) and not is_inner:
                return None if IDENTIFYING_NAMES.intersection(scan_value(text, start)[0]) else text[: index + 4]
            if name == "data" and not is_inner and text.startswith("{", index):
                return _find_list(text, index, is_inner=True)
            index = skip_white_space(text, scan_value(text, index)[1])
        except (ValueError, RecursionError):
            return None
        if text[index : index + 1] != ",":
            return None
        index = skip_white_space(text, index + 1)
    return None


def _name_list(prefix: str) -> str:
    return "results" if prefix.rstrip("[ \t\r\n:").endswith('"results"') else "data"


def _describe_foreign(head: bytes, text: bytes) -> str:
    for magic, words in _FOREIGN:
        if head.startswith(magic) or text.startswith(magic):
            return f"this is {words}"
    line = text.split(b"\n", 1)[0].rstrip(b"\r")
    if _CSV_LIKE.fullmatch(line):
        return "this looks like a CSV without the column 'event', the only one that holds whole events"
    return f"this is neither JSON nor CSV nor Parquet; it begins with {text[:20].decode('utf-8', 'replace')!r}"


class ObjectDetector:
    """Turns a file's objects into records, and counts their kinds."""

    def __init__(self) -> None:
        """Start with no objects counted."""
        self.kinds: Counter[str] = Counter()
        """Kind of record (see `KIND_WORDS`) -> how many there were; those of `unknown` are kept as they are."""
        self.with_origin = 0
        """How many records state their origin."""

    def detect(self, objects: Sequence[bytes], origins: Sequence[Target | None] | None = None) -> list[Record]:
        """Return the records; `origins` are those that the file states outside its objects."""
        plain = [_is_plain(raw) for raw in objects]
        if all(plain) and not origins:
            self.kinds["api"] += len(objects)
            return [Record(raw, None) for raw in objects]
        records = [
            Record(raw, origin) if is_plain else self._detect_one(raw, origin)
            for raw, origin, is_plain in zip(objects, origins or repeat(None), plain, strict=False)
        ]
        self.kinds["api"] += sum(plain)
        self.with_origin += sum(record.origin is not None for record in records)
        return records

    def _detect_one(self, raw: bytes, origin: Target | None) -> Record:
        raw, own_origin = split_origin(raw)
        if not _is_line(raw):
            raw = compact_json(raw)
        origin = origin or own_origin
        if raw.startswith(_API_STARTS):
            self.kinds["api"] += 1
            return Record(raw, origin)
        members: Mapping[str, bytes] = split_members(raw)
        naming = detect_naming(members)
        if naming is None and (wrapped := _unwrap(members)) is not None:
            members, wrapper_origin = wrapped
            origin = origin or wrapper_origin
            naming = detect_naming(members)
            raw = b"{" + b",".join([b"%b:%b" % (write_name(name), value) for name, value in members.items()]) + b"}"
        self.kinds[naming or UNKNOWN] += 1
        if naming is not None and naming in TO_API_SHAPE:
            raw = TO_API_SHAPE[naming](members)
        return Record(raw, origin)


def _is_plain(raw: bytes) -> bool:
    """Return whether an event certainly has the API's field names, on one line, and no `origin`."""
    return raw.startswith(_API_STARTS) and not raw.endswith(_POSSIBLE_ORIGIN_ENDS) and _is_line(raw)


def _is_line(raw: bytes) -> bool:
    return b"\n" not in raw and b"\r" not in raw


def split_origin(raw: bytes) -> tuple[bytes, Target | None]:
    """Return an event without the `origin` that `--with-origin` added, and that origin.

    It is ours only if it is the last member, and null or an object of exactly `region` and `compartment`. In valid
    JSON nothing else can end like that. (An event that has its own `origin` has ours as `origin_`.)
    """
    start, match = len(raw), None
    for _ in range(_MAX_TRIES):  # the name may occur in the origin's own texts, too
        start = raw.rfind(_ORIGIN, 0, start)
        if start < 1 or (match := _ORIGIN_TO_END.match(raw, start)):
            break
    if match is None:
        return raw, None
    head = raw[:start]
    before = head.rstrip()
    rest = before[:-1] if before.endswith(b",") else head
    return rest + b"}", make_target(_read_text(match[1]), _read_text(match[2]))


def compact_json(raw: bytes) -> bytes:
    """Return valid JSON without the white space between its tokens."""
    try:
        return msgspec.json.format(raw, indent=-1)
    except (msgspec.MsgspecError, RecursionError):  # lone surrogates, or nested very deeply
        return _STRING_OR_SPACE.sub(rb"\1", raw)


def _unwrap(members: Mapping[str, bytes]) -> tuple[Mapping[str, bytes], Target | None] | None:
    """Return the members of the wrapped event, followed by those of the wrapper, and the event's origin."""
    wrapper = dict(members)
    if "logContent" not in wrapper:
        data = _split_if_object(wrapper.get("data"))
        if "logContent" not in data:
            return None
        del wrapper["data"]
        wrapper = {**data, **wrapper}
    content = _split_if_object(wrapper.pop("logContent"))
    if not content:
        return None
    if _is_same_time(wrapper.get("datetime"), content.get("time")):
        del wrapper["datetime"]
    compartment = _split_if_object(content.get("oracle")).get("compartmentid")
    origin = make_target(_read_text(wrapper.get("regionId")), _read_text(compartment))
    for name, value in wrapper.items():
        while name in content:
            name += "_"  # noqa: PLW2901 - the wrapper's members must not hide those of the event
        content[name] = value
    return content, origin


def _split_if_object(value: bytes | None) -> dict[str, bytes]:
    text = bytes(value or b"")
    return split_members(text) if text.startswith(b"{") else {}


def _is_same_time(milliseconds: bytes | None, time: bytes | None) -> bool:
    digits = bytes(milliseconds or b"")
    if not digits.isdigit() or len(digits) > _MAX_DIGITS:
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
