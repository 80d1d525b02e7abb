"""What holds the events of a file, told by its first bytes: an array, an object around one, lines, or a table.

Owns: that decision, and one iterator of rows for each. Must not: look at names of files, or into events.

Invariants
- Every kind is either recognised or refused with what the file seems to be.
- What stands around an array of events is checked too: a file that is cut behind its last event is cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from ociaudit.events.page import scan_value, skip_white_space
from ociaudit.events.respell import TELLING_NAMES
from ociaudit.formats.json_stream import ObjectStream
from ociaudit.formats.table_reader import Rows, is_csv_head, read_csv, read_parquet
from ociaudit.formats.unpacking import BadFile

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
class Container:
    """How a file holds its events; `rows` can be iterated once."""

    description: str
    rows: Iterator[Rows]


def open_container(pieces: Iterator[bytes], *, file: Path | None) -> Container | None:
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
        return Container("Parquet", read_parquet(file))
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
            return Container("a JSON array", _read_array(whole, "[", offset, line))
        case b"{":
            return _open_objects(text, whole, offset, line)
    if is_csv_head(text):
        return Container("CSV", read_csv(chain([head], pieces)))
    raise BadFile(_describe_foreign(head, text))


def _open_objects(text: bytes, whole: Iterator[bytes], offset: int, line: int) -> Container:
    prefix = _find_list(text.decode("utf-8", "surrogateescape"))
    if prefix is None:
        return Container("JSON objects, one behind the other", _read_stream(whole, offset, line))
    if prefix.endswith("["):
        words = f"a JSON object with events in {_name_list(prefix)!r}"
        return Container(words, _read_array(whole, prefix, offset, line))
    return Container("a JSON object without events", _read_nothing(whole, offset))


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
            if name in TELLING_NAMES:
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
                return None if TELLING_NAMES.intersection(scan_value(text, start)[0]) else text[: index + 4]
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
