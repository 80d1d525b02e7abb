"""What holds the events of a file, told by its first bytes: an array, an object around one, lines, or a table.

Owns: that decision, and one iterator of rows for each. Must not: look at names of files, or into events.

Invariants
- Every kind is either recognised or refused with what the file seems to be.
- What stands around an array of events is checked too: a file that is cut behind its last event is cut.

What one JSON object of a file is: an event in some spelling, in some wrapper, with or without its origin.

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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from types import MappingProxyType

import msgspec

from ociaudit.events.event import scan_value, skip_white_space
from ociaudit.events.field_naming import IDENTIFYING_NAMES, TO_API_SHAPE, detect_naming, split_members, write_name
from ociaudit.events.fields import NANOSECONDS, instant_of_minute, read_instant
from ociaudit.formats.base import Record, Rows, make_target
from ociaudit.formats.compression import BadFile
from ociaudit.formats.csv import is_csv_head, read_csv
from ociaudit.formats.json_reader import ObjectStream
from ociaudit.formats.parquet import read_parquet
from ociaudit.planning.shard import Target

_HEAD_BYTES = 64 * 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_PARQUET_MAGIC = b"PAR1"
_WHITE_SPACE = b" \t\r\n"
_FOREIGN = (
    (b"\xff\xfe", "text in UTF-16, as PowerShell's > writes it; make it UTF-8: iconv -f UTF-16 -t UTF-8"),
    (b"\xfe\xff", "text in UTF-16; make it UTF-8: iconv -f UTF-16 -t UTF-8"),
    (b"PK\x03\x04", "a ZIP archive; unpack it first"),
    (b"BZh", "compressed with bzip2; unpack it first"),
    (b"\xfd7zXZ", "compressed with xz; unpack it first"),
    (b"<", "HTML or XML, perhaps the page of an error"),
    (b"\x1f\x8b", "compressed twice; unpack it once"),
    (b"\x28\xb5\x2f\xfd", "compressed twice; unpack it once"),
)
_IS_CSV_LIKE = re.compile(rb'"?[A-Za-z_][\w.]*"?(,"?[\w.]*"?)+')
_LISTS = ("data", "results")
_LIST_SIBLINGS = ("fields", "results", "summary")


@dataclass(frozen=True, slots=True)
class DetectedInput:
    """How a file holds its events; `rows` can be iterated once."""

    description: str
    rows: Iterator[Rows]


def open_detected(pieces: Iterator[bytes], *, file: Path | None) -> DetectedInput | None:
    """Return what holds the events, None where there is nothing but white space.

    `file` is the regular file that the pieces come from, as Parquet needs it.

    Raises:
        BadFile: it is of no known kind.
    """
    head = b""
    while len(head) < _HEAD_BYTES and (piece := next(pieces, b"")):
        head += piece
    if head.startswith(_PARQUET_MAGIC):
        if file is None:
            raise BadFile("Parquet can only be read from an uncompressed file, not from a stream")
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
    if is_csv_head(text):
        return DetectedInput("CSV", read_csv(chain([head], pieces)))
    raise BadFile(_describe_foreign(head, text))


def _open_objects(text: bytes, whole: Iterator[bytes], offset: int, line: int) -> DetectedInput:
    prefix = _find_list(text.decode("utf-8", "surrogateescape"))
    if prefix is None:
        return DetectedInput("JSON objects, one behind the other", _read_stream(whole, offset, line))
    if prefix.endswith("["):
        words = f"a JSON object with events in {_name_list(prefix)!r}"
        return DetectedInput(words, _read_array(whole, prefix, offset, line))
    return DetectedInput("a JSON object without events", _read_nothing(whole, offset))


def _read_stream(pieces: Iterator[bytes], offset: int, line: int) -> Iterator[Rows]:
    for objects in ObjectStream(pieces, "stream", offset=offset, line=line):
        yield Rows(objects, None)


def _read_array(pieces: Iterator[bytes], prefix: str, offset: int, line: int) -> Iterator[Rows]:
    """Read the array that begins at the end of `prefix`, and check what stands around it."""
    start = prefix.encode("utf-8", "surrogateescape")
    stream = ObjectStream(
        _skip_bytes(pieces, len(start)), "array", offset=offset + len(start), line=line + prefix.count("\n")
    )
    for objects in stream:
        yield Rows(objects, None)
    _check_around(prefix + "]" + stream.tail)


def _read_nothing(pieces: Iterator[bytes], offset: int) -> Iterator[Rows]:
    """Check an answer without events: it is small, and must be whole."""
    for objects in ObjectStream(pieces, "stream", offset=offset):
        if len(objects) > 1:
            raise BadFile("several JSON documents stand one behind the other")
    yield from ()


def _check_around(text: str) -> None:
    try:
        end = scan_value(text, 0)[1]
    except (ValueError, RecursionError) as error:
        raise BadFile("the file is cut or damaged behind the array of events") from error
    if (start := skip_white_space(text, end)) != len(text):
        if text[start] in "[{":
            raise BadFile("several JSON documents stand one behind the other; only the first one was read")
        raise BadFile(f"{text[start]!r} and more stands behind the end of the JSON")


def _skip_bytes(pieces: Iterator[bytes], count: int) -> Iterator[bytes]:
    for piece in pieces:
        yield piece[count:]
        break
    yield from pieces


def _find_list(text: str, start: int = 0, *, is_inner: bool = False) -> str | None:
    """Return the text up to and with the `[` behind which events stand, or up to the null there instead.

    None where the object that begins at `start` is no list of events but, as far as it goes, something else.
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
            if name in _LISTS and text.startswith("[", index):
                return text[: index + 1]
            if name in _LISTS and text.startswith("null", index) and not is_inner:
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
    if _IS_CSV_LIKE.fullmatch(line):
        return "this looks like a CSV without the column 'event', which alone holds events whole"
    return f"this is neither JSON nor CSV nor Parquet; it begins with {text[:20].decode('utf-8', 'replace')!r}"


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


class ObjectDetector:
    """Makes records of a file's objects and counts what they were."""

    def __init__(self) -> None:
        """Begin before the first object."""
        self.kinds: Counter[str] = Counter()
        """Spelling -> how many records were spelled so; those of `unknown` are kept as they are."""
        self.with_origin = 0
        """How many records know where they were asked from."""

    def detect(self, objects: Sequence[bytes], origins: Sequence[Target | None] | None = None) -> list[Record]:
        """Return the records; `origins` are those that the file has beside its objects."""
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
        spelling = detect_naming(members)
        if spelling is None and (wrapped := _unwrap(members)) is not None:
            members, wrapper_origin = wrapped
            origin = origin or wrapper_origin
            spelling = detect_naming(members)
            raw = b"{" + b",".join([b"%b:%b" % (write_name(name), value) for name, value in members.items()]) + b"}"
        self.kinds[spelling or UNKNOWN] += 1
        if spelling is not None and spelling in TO_API_SHAPE:
            raw = TO_API_SHAPE[spelling](members)
        return Record(raw, origin)


def _is_plain(raw: bytes) -> bool:
    """Tell at a glance that an event is in the API's spelling, on one line, and without `origin`."""
    return raw.startswith(_API_STARTS) and not raw.endswith(_MAYBE_ORIGIN_ENDS) and _is_line(raw)


def _is_line(raw: bytes) -> bool:
    return b"\n" not in raw and b"\r" not in raw


def split_origin(raw: bytes) -> tuple[bytes, Target | None]:
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
    return rest + b"}", make_target(_read_text(match[1]), _read_text(match[2]))


def compact_json(raw: bytes) -> bytes:
    """Take out the white space between the tokens of valid JSON."""
    try:
        return msgspec.json.format(raw, indent=-1)
    except (msgspec.MsgspecError, RecursionError):  # lone surrogates, or nested very deeply
        return _STRING_OR_SPACE.sub(rb"\1", raw)


def _unwrap(members: Mapping[str, bytes]) -> tuple[Mapping[str, bytes], Target | None] | None:
    """Return the members of the wrapped event, with those of the wrapper behind them, and its origin."""
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
            name += "_"  # noqa: PLW2901 - what the wrapper says must not hide what the event says
        content[name] = value
    return content, origin


def _split_if_object(value: bytes | None) -> dict[str, bytes]:
    text = bytes(value or b"")
    return split_members(text) if text.startswith(b"{") else {}


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
