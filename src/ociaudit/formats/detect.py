"""Detection of what an input is: first the file by its first bytes, then each JSON object in it.

`detect_input` finds what holds the events (an array, an object around one, consecutive objects, CSV or Parquet) and
returns their rows. `ObjectDetector` turns each object into a record: it finds the naming of the event's fields, and
removes the wrapper or the origin around it. Wrappers are `{"datetime", "logContent", "regionId"}` of Connector Hub and
`{"data": {"datetime", "logContent"}}` of Logging Search; the origin is the member that `--with-origin` adds last.

Invariants
- Every kind of file is either detected, or rejected with what it seems to be.
- No event is dropped: an object that is not an event is searched for events at any depth, in repeated members too. What
  it says about missing events is noted in `incomplete`.
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

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn

import msgspec

from ociaudit.events.event import scan_value
from ociaudit.events.field_naming import (
    EXTRA_FIELDS,
    IDENTIFYING_NAMES,
    SDK_FIELDS,
    TO_API_SHAPE,
    detect_naming,
    list_elements,
    list_members,
    split_members,
    unwrap_log,
    write_name,
)
from ociaudit.formats.base import InvalidFile, Record, Rows, make_target
from ociaudit.formats.csv import is_csv_header, read_csv
from ociaudit.formats.json import (
    DECODE_TEXT_HINT,
    EXTRACT_HINT,
    HOLLOW_PAGE,
    LIST_NAMES,
    MAX_DEPTH,
    ListStart,
    ObjectStream,
    PageRest,
    find_list,
    holds_events_as_text,
    is_error_text,
)
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
    (b"PK\x03\x04", "a ZIP archive", "unpack it first, for example with unzip"),
    (b"BZh", "compressed with bzip2", "decompress it first: bzip2 -dc"),
    (b"\xfd7zXZ", "compressed with xz", "decompress it first: xz -dc"),
    (b"<", "HTML or XML, perhaps an error page", "look at it: the command that wrote it may have failed"),
    (b"\x1f\x8b", "compressed twice", "decompress it once: gzip -dc"),
    (b"\x28\xb5\x2f\xfd", "compressed twice", "decompress it once: zstd -dc"),
)
"""First bytes -> what a file seems to be that cannot be read, and what helps."""
_CSV_LIKE = re.compile(rb'"?[A-Za-z_][\w.]*"?(,"?[\w.]*"?)+')
_TABLE_NAMES = re.compile(rb'"?event_?(type|name|time|id)?"?', re.IGNORECASE)
_SKIPPABLE_FRAME = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")
_SYSLOG = re.compile(rb"(?:<\d{1,3}>|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d |\d{4}-\d\d-\d\dT[\d:.]+\S* )")
_DOUBLE_UTF8_MARK = b"\xc3\xaf\xc2\xbb\xc2\xbf"
_ENCODINGS = (
    (b"\xff\xfe\0\0", "UTF-32", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32", "UTF-32"),
    (b"\xff\xfe", "UTF-16, as PowerShell's > writes it", "UTF-16"),
    (b"\xfe\xff", "UTF-16", "UTF-16"),
    (_DOUBLE_UTF8_MARK, "UTF-8 that was encoded twice", None),
)
"""First bytes -> what the text is encoded in, and iconv's name of that."""
_WIDE = (
    (re.compile(rb"(?:[\x09-\x7e]\0\0\0){2}"), "UTF-32LE"),
    (re.compile(rb"(?:\0\0\0[\x09-\x7e]){2}"), "UTF-32BE"),
    (re.compile(rb"(?:[\x09-\x7e]\0){2}"), "UTF-16LE"),
    (re.compile(rb"(?:\0[\x09-\x7e]){2}"), "UTF-16BE"),
)
"""How ASCII characters look in encodings of two or four bytes per character."""
_NEXT_PAGE_NAMES = frozenset({"opcnextpage", "nextpage", "nextpagetoken", "nexttoken", "nextcursor"})
_TRUNCATED_NAMES = frozenset({"istruncated", "truncated", "hasmore", "hasnextpage", "ispartial", "partial"})
_ENVELOPE_NAMES = frozenset({"headers", "responseheaders", "response", "meta", "metadata", "pagination", "links"})
"""Members beside a page that describe it."""
_NEXT_PAGE_HEADER = re.compile(rb'"opc-next-page"\s*,\s*"[^"]', re.IGNORECASE)
"""A next page in headers that are a list of pairs."""
_EMPTY_VALUES = frozenset({b"null", b"false", b'""', b"[]", b"{}", b"0"})

_API_STARTS = (b'{"eventType":', b'{"cloudEventsVersion":', b'{"eventId":', b'{"eventTime":')
_OBJECT_IN_LIST = re.compile(rb"\{(?<=[,\[\s].)(?<!: .)", re.DOTALL)
"""An object that does not follow a colon; its brace comes first because braces are rare, so this is fast."""
_POSSIBLE_ORIGIN_ENDS = (b'"}}', b"l}", b" }", b"\t}", b"\r}", b" }}", b"\t}}", b"\r}}")
_ORIGIN = b'"origin'
_MAX_TRIES = 3
_STRING = rb'("(?:[^"\\]|\\.)*")'
_ORIGIN_TO_END = re.compile(
    rb'"origin_*"\s*:\s*(?:null|\{\s*"region"\s*:\s*%b\s*,\s*"compartment"\s*:\s*%b\s*\})\s*\}\Z' % (_STRING, _STRING)
)
_STRING_OR_SPACE = re.compile(_STRING + rb"|[ \t\r\n]+")
_MAX_DIGITS = 18
_FIRST_ERROR = 400
_MAX_REASONS = 20
_SHOWN_CHARACTERS = 80
_PARTS_OF_DATA = frozenset(name.lower() for name in (*SDK_FIELDS["Data"], *EXTRA_FIELDS["Data"]))
_ESCAPED_ASCII = re.compile(rb"\\u00([2-7][0-9a-fA-F])")
_EVENT_NAME = re.compile(
    b'"(?=[cels])(?:' + b"|".join(re.escape(name.encode()) for name in sorted(IDENTIFYING_NAMES)) + b'|logContent)"'
)


_CLOUD_EVENT = frozenset(
    ("data", "datacontenttype", "dataschema", "id", "oracle", "source", "specversion", "time", "type")
)
_LEAST_CLOUD_EVENT = frozenset(("data", "id", "specversion", "time", "type"))
_CAREFUL = re.compile(rb'"(?:origin|logContent"|event(?:Type|_type|-type)")')
"""What a bare CloudEvent may hold that makes it something else, beside names with escapes."""


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
    _check_encoding(head)
    mark = _BYTE_ORDER_MARK if head.startswith(_BYTE_ORDER_MARK) else b""
    text, offset, line = _skip_white_space(head[len(mark) :], pieces, len(mark))
    if not text:
        return None
    if mark and text.startswith(mark):
        _reject_second_mark(text, offset, line)
    whole = chain([text], pieces)
    match text[:1]:
        case b"[":
            return DetectedInput("a JSON array", _read_array(whole, None, offset, line))
        case b"{":
            return _open_objects(text, whole, offset, line)
    if is_csv_header(text):
        return DetectedInput("CSV", read_csv(whole, offset=offset, line=line))
    raise _explain_foreign(head, text, offset)


def _skip_white_space(text: bytes, pieces: Iterator[bytes], offset: int) -> tuple[bytes, int, int]:
    """Return the text after white space, long enough to detect what it is, and its offset and line.

    The white space is dropped while it is read: gigabytes of it compress to a small file.
    """
    line = 1
    while True:
        rest = text.lstrip(_WHITE_SPACE)
        skipped = len(text) - len(rest)
        line += text.count(b"\n", 0, skipped)
        offset += skipped
        if len(rest) >= _HEAD_BYTES or not (piece := next(pieces, b"")):
            return rest, offset, line
        text = rest + piece


def _open_objects(text: bytes, whole: Iterator[bytes], offset: int, line: int) -> DetectedInput:
    """Choose how to read objects: a page that is larger than the head is read element by element."""
    head = text.decode("utf-8", "surrogateescape")
    opening = find_list(head)
    if opening is None:
        return DetectedInput("JSON objects", _read_stream(whole, offset, line))
    words = f"a JSON object with events in {_name_list(opening.prefix)!r}"
    if not opening.prefix.endswith("["):
        words = "a JSON object without events"
    if not opening.prefix.endswith("[") or _is_whole(head):
        return DetectedInput(words, _read_stream(whole, offset, line))
    return DetectedInput(words, _read_array(whole, opening, offset, line))


def _is_whole(text: str) -> bool:
    try:
        scan_value(text, 0)
    except (ValueError, RecursionError):
        return False
    return True


def _read_stream(pieces: Iterator[bytes], offset: int, line: int) -> Iterator[Rows]:
    yield from _read_objects(ObjectStream(pieces, "stream", offset=offset, line=line))


def _read_array(pieces: Iterator[bytes], opening: ListStart | None, offset: int, line: int) -> Iterator[Rows]:
    """Read an array, alone or inside of an object, and what follows it."""
    prefix = opening.prefix if opening else "["
    start = prefix.encode("utf-8", "surrogateescape")
    open_objects = opening.open_objects if opening else 0
    if opening:
        yield Rows([PageRest(start + b"]" + b"}" * open_objects)], None)
    yield from _read_objects(
        ObjectStream(
            _skip_bytes(pieces, len(start)),
            "array",
            offset=offset + len(start),
            line=line + prefix.count("\n"),
            open_objects=open_objects,
        )
    )


def _read_objects(stream: ObjectStream) -> Iterator[Rows]:
    has_objects = False
    for objects in stream:
        has_objects = True
        yield Rows(objects, None)
    if stream.skipped_lines and not has_objects:
        raise InvalidFile(f"it holds no event, only an error: {stream.skipped_lines[0]}")
    if stream.skipped_lines:
        message = json.dumps(stream.skipped_lines[0])
        yield Rows([PageRest(b'{"error":%b}' % message.encode())], None)


def _skip_bytes(pieces: Iterator[bytes], count: int) -> Iterator[bytes]:
    for piece in pieces:
        yield piece[count:]
        break
    yield from pieces


def _name_list(prefix: str) -> str:
    return "results" if prefix.rstrip("[ \t\r\n:").endswith('"results"') else "data"


def _check_encoding(head: bytes) -> None:
    """Raise an error if the text is in an encoding that shows in its first bytes."""
    for mark, words, encoding in _ENCODINGS:
        if head.startswith(mark):
            raise InvalidFile(
                f"this is text in {words}, at byte 0 (line 1)",
                encoding=encoding,
                filter_command="iconv -f UTF-8 -t CP1252",
            )
    for pattern, encoding in _WIDE:
        if pattern.match(head):
            words = f"text in {encoding} without a byte order mark"
            raise InvalidFile(f"this is {words}, at byte 0 (line 1)", encoding=encoding)


def _reject_second_mark(text: bytes, offset: int, line: int) -> NoReturn:
    """Reject a file with two or more byte order marks before its first document; `text` begins at the second."""
    rest = text
    while rest.startswith(_BYTE_ORDER_MARK):
        rest = rest[len(_BYTE_ORDER_MARK) :].lstrip(_WHITE_SPACE)
    raise InvalidFile(
        f"this is UTF-8 with a byte order mark twice, at byte {offset:,} (line {line:,})",
        filter_command=f"tail -c +{offset + len(text) - len(rest) + 1}",
    )


def _explain_foreign(head: bytes, text: bytes, offset: int) -> InvalidFile:
    """Return the error for a file that is of no known kind; the hint says how to convert it, where that is known."""
    if _SKIPPABLE_FRAME.match(head):
        words = "this is zstd with a skippable frame first, as pzstd writes it"
        return InvalidFile(words, hint="decompress it first: zstd -dc")
    if _SYSLOG.match(text):
        words = "this is a file of syslog lines, whose events follow a header"
        return InvalidFile(words, filter_command="sed 's/^[^{]*//'")
    for magic, words, hint in _FOREIGN:
        if head.startswith(magic) or text.startswith(magic):
            return InvalidFile(f"this is {words}", hint=hint)
    line = text.split(b"\n", 1)[0].rstrip(b"\r")
    for separator, words in ((b";", "semicolons"), (b"\t", "tabs"), (b"|", "vertical bars")):
        names = line.split(b"\r")[0].split(separator)
        if len(names) > 1 and any(map(_TABLE_NAMES.fullmatch, names)):
            return InvalidFile(f"this is a CSV with {words} between its cells", hint="save it with commas instead")
    if b"\r" in line and any(map(_TABLE_NAMES.fullmatch, line.split(b"\r")[0].split(b","))):
        return InvalidFile("this is a CSV whose lines end in CR alone", hint="convert them: tr '\\r' '\\n'")
    if _CSV_LIKE.fullmatch(line):
        return InvalidFile(
            "this looks like a CSV without the column 'event', the only one that holds whole events",
            hint="name a CSV that `oci-audit export` or `convert` wrote, or the events as JSON",
        )
    start = text[:20].decode("utf-8", "replace")
    return InvalidFile(f"this is neither JSON nor CSV nor Parquet; it begins with {start!r}, at byte {offset:,}")


class ObjectDetector:
    """Turns a file's objects into records, and counts their kinds."""

    def __init__(self) -> None:
        """Start with no objects counted."""
        self.kinds: Counter[str] = Counter()
        """Kind of record (see `KIND_WORDS`) -> how many there were; those of `unknown` are kept as they are."""
        self.with_origin = 0
        """How many records state their origin."""
        self.incomplete: list[str] = []
        """What the objects say about events that are missing, each reason once."""
        self._depth = 0

    def detect(self, objects: Sequence[bytes], origins: Sequence[Target | None] | None = None) -> list[Record]:
        """Return the records; `origins` are those that the file states outside its objects."""
        plain = [is_plain(raw) for raw in objects]
        if all(plain) and not origins:
            self.kinds["api"] += len(objects)
            return [Record(raw, None) for raw in objects]
        records: list[Record] = []
        for raw, origin, is_certain in zip(objects, origins or repeat(None), plain, strict=False):
            if is_certain:
                self.kinds["api"] += 1
                records.append(Record(raw, origin))
                continue
            before = self._count_known()
            try:
                records += self._detect_one(raw, origin)
            except InvalidFile as error:
                place = f"after event {before:,}" if before else "in the first object with events"
                raise InvalidFile(f"{error}, {place}", hint=error.hint) from error
        self.with_origin += sum(record.origin is not None for record in records)
        return records

    def _detect_one(self, raw: bytes, origin: Target | None) -> list[Record]:
        """Return the record of an object, or all records of a page."""
        if isinstance(raw, PageRest):
            if raw == HOLLOW_PAGE:
                self._note('it holds a page without its list of events: {"data":}')
            return self._read_page(bytes(raw), origin)[0]
        renamed = _rename_cloud_event(raw)
        if renamed is not None:
            self.kinds["cloudevents"] += 1
            return [Record(renamed, origin)]
        raw, own_origin = split_origin(raw)
        origin = origin or own_origin
        if not raw.startswith(_API_STARTS):
            members = split_members(raw)
            is_wrapper = "logContent" in members or b'"logContent"' in bytes(members.get("data") or b"")
            if detect_naming(members) is None and not (is_wrapper and _unwrap(members)):
                records, is_page = self._read_page(raw, origin)
                if records or is_page:
                    return records
        if not _is_line(raw):
            raw = compact_json(raw)
        return [self._detect_event(raw, origin)]

    def _detect_event(self, raw: bytes, origin: Target | None) -> Record:
        if raw.startswith(_API_STARTS):
            if may_hold_others(raw):
                _check_lists(split_members(raw))
            self.kinds["api"] += 1
            return Record(raw, origin)
        members: Mapping[str, bytes] = split_members(raw)
        naming = detect_naming(members)
        if naming is not None:
            _check_lists(members)
        elif (wrapped := _unwrap(members)) is not None:
            _check_repeated(raw)
            members, wrapper_origin = wrapped
            _check_lists(members)
            origin = origin or wrapper_origin
            naming = detect_naming(members)
            raw = b"{" + b",".join([b"%b:%b" % (write_name(name), value) for name, value in members.items()]) + b"}"
        self.kinds[naming or UNKNOWN] += 1
        if naming is not None and naming in TO_API_SHAPE:
            raw = TO_API_SHAPE[naming](members)
        return Record(raw, origin)

    def _read_page(self, raw: bytes, origin: Target | None) -> tuple[list[Record], bool]:
        """Return the records in an object that is not an event, and whether it is a page."""
        self._descend()
        members = list_members(raw)
        self._note_incomplete(members)
        records: list[Record] = []
        is_page = False
        for name, value in members:
            if name in LIST_NAMES and value == b"null":
                is_page = True
            elif name in LIST_NAMES and value.startswith(b"[") and _is_list_of_objects(value):
                is_page = True
                records += self._read_list(name, value, origin, every=True)
            elif value.startswith(b"[") and _may_hold_events(value):
                known = self._count_known()
                records += self._read_list(name, value, origin, every=False)
                if name in LIST_NAMES and self._count_known() > known:
                    is_page = True
                    self._check_scalars(value)
            elif value.startswith(b"{") and (name == "data" or _may_hold_events(value)):
                found, is_inner_page = self._read_value(name, value, origin)
                records += found
                is_page |= is_inner_page
            else:
                _check_skipped(name, value)
        self._depth -= 1
        return records, is_page

    def _descend(self) -> None:
        """Count a level of nesting; what would end in an error of the interpreter is refused before."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise InvalidFile("an object around events is nested too deeply", hint=EXTRACT_HINT)

    def _read_value(self, name: str, value: bytes, origin: Target | None) -> tuple[list[Record], bool]:
        """Return the records in an object inside of one that is not an event."""
        members = split_members(value)
        if detect_naming(members) is None and (name == "data" or _unwrap(members) is None):
            return self._read_page(value, origin)
        return self._detect_one(value, origin), False

    def _read_list(self, name: str, value: bytes, origin: Target | None, *, every: bool) -> list[Record]:
        """Return the records in a list: of every object, or only of those that may hold events."""
        self._descend()
        records: list[Record] = []
        for element in list_elements(value):
            if element.startswith(b"["):
                records += self._read_list(name, element, origin, every=every)
            elif element.startswith(b"{") and (every or _may_hold_events(element)):
                records += self._detect_one(element, origin)
            else:
                _check_skipped(name, element)
        self._depth -= 1
        return records

    def _count_known(self) -> int:
        return self.kinds.total() - self.kinds[UNKNOWN]

    def _check_scalars(self, value: bytes) -> None:
        """Note the texts of errors in a list of events; reject it for anything else that is not an object."""
        for element in list_elements(value):
            if element.startswith((b"{", b"[")):
                continue
            text = _read_text(element)
            if text is None or not is_error_text(text):
                raise InvalidFile(f"an element of a list of events is not a JSON object: {_show(element)}")
            self._note(f"it holds an error: {_show(element)}")

    def _note_incomplete(self, members: Sequence[tuple[str, bytes]], *, is_envelope: bool = False) -> None:
        """Note what an object says about events that are missing; `is_envelope`: it is one about a page."""
        names = {_simplify_name(name): value for name, value in members if value not in _EMPTY_VALUES}
        if not _NEXT_PAGE_NAMES.isdisjoint(names) or (is_envelope and "next" in names):
            self._note("it names a next page, which is not part of it")
        if any(names.get(name, b"") in {b"true", b'"true"'} for name in _TRUNCATED_NAMES):
            self._note("it says that it is truncated")
        for name in _ENVELOPE_NAMES.intersection(names):
            if names[name].startswith(b"{"):
                self._descend()
                self._note_incomplete(list_members(names[name]), is_envelope=True)
                self._depth -= 1
            elif _NEXT_PAGE_HEADER.search(names[name]):
                self._note("it names a next page, which is not part of it")
        if is_envelope:
            return
        if "message" in names and not _is_success(names.get("code") or names.get("status") or b"200"):
            self._note(f"it holds an error: {_show(names.get('code') or names['status'])} {_show(names['message'])}")
        for name in ("error", "errors", "serviceerror"):
            if name in names:
                self._note(f"it holds an error: {_show(names[name])}")

    def _note(self, reason: str) -> None:
        if len(self.incomplete) < _MAX_REASONS and reason not in self.incomplete:
            self.incomplete.append(reason)


def _rename_cloud_event(raw: bytes) -> bytes | None:
    """Return a bare CloudEvent in shape `api`, if nothing in it can need more care than its names; else None.

    This is what a Connector Hub writes, and three times as fast as the general way.
    """
    if not _is_line(raw) or (b"\\" in raw and b"\\u00" in raw) or _CAREFUL.search(raw) or may_hold_others(raw):
        return None
    members = split_members(raw)
    if not _CLOUD_EVENT.issuperset(members) or not _LEAST_CLOUD_EVENT.issubset(members):
        return None
    if any(bytes(members[name])[:1] == b"[" for name in members):
        return None
    return TO_API_SHAPE["cloudevents"](members)


def _is_success(code: bytes) -> bool:
    text = code.strip(b'"').lower()
    return text in {b"ok", b"success", b"succeeded"} or (text.isdigit() and int(text[:_MAX_DIGITS]) < _FIRST_ERROR)


def _simplify_name(name: str) -> str:
    return name.replace("-", "").replace("_", "").lower()


def _show(value: bytes) -> str:
    text = _read_text(value)
    return (value.decode("utf-8", "replace") if text is None else text)[:_SHOWN_CHARACTERS]


def _may_hold_events(value: bytes) -> bool:
    """Return whether JSON has the name of a field of events anywhere, also one written with escapes."""
    if b"\\u00" in value:
        value = _ESCAPED_ASCII.sub(lambda match: bytes([int(match[1], 16)]), value)
    return _EVENT_NAME.search(value) is not None


def _is_list_of_objects(value: bytes) -> bool:
    return all(element.startswith((b"{", b"[")) for element in list_elements(value))


def _check_skipped(name: str, value: bytes) -> None:
    """Reject a part of the member `name` in which nothing is read, if it may hold events as text."""
    if holds_events_as_text(value.decode("utf-8", "replace")):
        raise InvalidFile(f"the member {name!r} of an object holds events as text", hint=DECODE_TEXT_HINT)


def _check_lists(members: Mapping[str, bytes], outer: tuple[str, ...] = ()) -> None:
    """Reject an object that is an event and holds a list of events: it cannot be both.

    Objects inside of it are searched, too, but not the parts of `data`: what an event says about the resource that was
    changed may look like an event.
    """
    for name, value in ((name, bytes(value)) for name, value in members.items()):
        if not may_hold_others(value):
            continue
        if value.startswith(b"[") and (name in LIST_NAMES or _holds_event(value)):
            path = ".".join((*outer, name))[:_SHOWN_CHARACTERS]
            raise InvalidFile(f"an object is both an event and a list of events in {path!r}", hint=EXTRACT_HINT)
        if value.startswith(b"{") and not (outer == ("data",) and _simplify_name(name) in _PARTS_OF_DATA):
            if len(outer) == MAX_DEPTH:
                raise InvalidFile("an object inside of an event is nested too deeply", hint=EXTRACT_HINT)
            _check_lists(split_members(value), (*outer, name))


def _holds_event(value: bytes) -> bool:
    """Return whether a list has an object that is an event by more than one name, also in lists inside of it."""
    lists = [value]
    while lists:
        for element in list_elements(lists.pop()):
            if element.startswith(b"["):
                lists.append(element)
            elif element.startswith(b"{"):
                members = split_members(element)
                is_cloud_event = detect_naming(members) == "cloudevents" or _unwrap(members) is not None
                if is_cloud_event or len(IDENTIFYING_NAMES.intersection(members)) > 1:
                    return True
    return False


def _check_repeated(raw: bytes) -> None:
    """Reject a wrapper that names its event twice."""
    for members in (list_members(raw), list_members(_find_data(raw))):
        if [name for name, _ in members].count("logContent") > 1:
            raise InvalidFile("an object has the member 'logContent' twice")
    if b'"logContent"' in raw and [name for name, _ in list_members(raw)].count("data") > 1:
        raise InvalidFile("an object has the member 'data' twice")


def _find_data(raw: bytes) -> bytes:
    value = bytes(split_members(raw).get("data") or b"")
    return value if value.startswith(b"{") else b"{}"


def is_plain(raw: bytes) -> bool:
    """Return whether an event certainly has the API's field names, on one line, no `origin` and no event inside."""
    return (
        raw.startswith(_API_STARTS)
        and not raw.endswith(_POSSIBLE_ORIGIN_ENDS)
        and _is_line(raw)
        and not may_hold_others(raw)
    )


def may_hold_others(raw: bytes) -> bool:
    """Return whether JSON may have events in a list: the name of a field of events where or after an object is in one.

    The service writes all names of that kind before `data`, the only part of an event that holds lists.
    """
    first = _OBJECT_IN_LIST.search(raw)
    return first is not None and _may_hold_events(raw[first.start() :])


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
    log = _split_if_object(_split_if_object(wrapper["logContent"]).get("oracle"))
    content = unwrap_log(wrapper)
    if content is None:
        return None
    origin = make_target(_read_text(wrapper.get("regionId")), _read_text(log.get("compartmentid")))
    return content, origin


def _split_if_object(value: bytes | None) -> dict[str, bytes]:
    text = bytes(value or b"")
    return split_members(text) if text.startswith(b"{") else {}


def _read_text(value: bytes | None) -> str | None:
    if value is None:
        return None
    try:
        return msgspec.json.decode(value, type=str)
    except msgspec.MsgspecError:
        return None
