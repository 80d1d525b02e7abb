"""Events made fit to be shared: what looks like a credential is replaced by a fixed mark.

Owns: what looks like a credential, and the change of one event. Must not: decide whether to redact, or print.

Two rules. By name: every text and number below a member whose name says credential (`Authorization`, `Cookie`,
`opc-obo-token`, `credentials`, `newPassword`, `x-…-token`, …), wherever it stands; and the `value` beside a `name`
that does. By form: JSON Web Tokens, PEM blocks, `Bearer …`, `password=…`, URLs with a password or a
pre-authenticated request in them, in every other text and name, also in JSON that stands inside a text.

Invariants
- The result is valid JSON of the same structure whenever the event is; an odd event is no reason to fail.
- Whatever is not replaced keeps its bytes, but that a text of which a part is replaced may spell its escapes anew.
- null, true, false, and what is masked already (`*****`) stay. Redacting twice is redacting once.
- What is counted is where (the path of names) and how often, never what. Paths are bounded in number and length.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import msgspec

from ociaudit.events.credentials import MARK, is_credential_name, redact_text

OTHER_PATHS = "(other fields)"
_MOST_PATHS = 1000
_MOST_PATH_CHARACTERS = 200
_MOST_NESTED_TEXTS = 4
_LONGEST_NAMING = 6
_QUOTE, _OPENING, _CLOSING = 0x22, b"{[", b"}]"
_STRING = rb'"((?:[^"\\]++|\\.)*+)"'
_TOKEN = re.compile(_STRING + rb"([ \t\r\n]*:)?|[{}\[\]]|(-?[0-9][^,\]} \t\r\n]*)", re.DOTALL)
_MASKED = re.compile(rb'"(?:\**|%b)"' % re.escape(MARK).encode())
_MARK_STRING = b'"%b"' % MARK.encode()
_NAMING = frozenset({"name", "key", "header"})
_VALUE = "value"
_JSON_BEGINNINGS = frozenset({"{", "["})
_MOST_CACHED_BYTES = 128
_value_decoder = msgspec.json.Decoder(msgspec.Raw)


@dataclass(slots=True)
class _Frame:
    """An object or array that is open, and the member that is at hand."""

    is_object: bool
    is_secret: bool
    """Everything in it is."""
    name: str = ""
    is_member_secret: bool = False
    is_value_secret: bool = False
    """A `name` in it is that of a credential, so its `value` is one."""
    value: tuple[int, int] | None = None
    """Where the text of its `value` stands, should the `name` follow."""


class Redactor:
    """Redacts events and counts what it touched."""

    def __init__(self) -> None:
        """Begin with nothing counted."""
        self.paths: Counter[str] = Counter()
        """Path of a field -> how many values of it were replaced, in part or whole."""
        self.events = 0
        """How many events were changed."""

    def redact(self, raw: bytes) -> bytes:
        """Return an event (valid JSON) without credentials."""
        redacted = _Pass(self.paths, raw).run()
        self.events += redacted is not raw
        return redacted


class _Pass:
    """One text of JSON, gone through once."""

    def __init__(self, paths: Counter[str], raw: bytes, *, depth: int = 0) -> None:
        self._paths = paths
        self._raw = raw
        self._depth = depth
        self._stack = [_Frame(is_object=False, is_secret=False)]
        self._edits: dict[int, tuple[int, bytes]] = {}
        """Where something is replaced: start -> (end, what stands there instead)."""

    def run(self) -> bytes:
        """Return the text without credentials; itself, where there were none."""
        raw, stack = self._raw, self._stack
        for token in _TOKEN.finditer(raw):
            mark = raw[token.start()]
            if mark == _QUOTE:
                if token[2] is not None:
                    self._take_name(token)
                else:
                    self._take_text(token)
            elif mark in _OPENING:
                frame = stack[-1]
                is_secret = frame.is_member_secret or frame.is_secret
                stack.append(_Frame(mark == _OPENING[0], is_secret))
            elif mark in _CLOSING:
                stack.pop()
            elif stack[-1].is_member_secret or stack[-1].is_secret:
                self._replace(token.span(), _MARK_STRING)
        return self._apply() if self._edits else raw

    def _take_name(self, token: re.Match[bytes]) -> None:
        frame = self._stack[-1]
        frame.name, is_secret, new = _judge_name(token[1])
        frame.is_member_secret = (
            frame.is_secret or is_secret or (frame.is_value_secret and frame.name.lower() == _VALUE)
        )
        if new is not None:
            self._replace((token.start(), token.end(1) + 1), new)

    def _take_text(self, token: re.Match[bytes]) -> None:
        frame = self._stack[-1]
        content = token[1]
        if frame.is_member_secret or frame.is_secret:
            if not _is_masked(token[0]):
                self._replace(token.span(), _MARK_STRING)
            return
        is_short = len(content) <= _MOST_CACHED_BYTES
        new = _redact_cached(content) if is_short else _redact_string(content, depth=self._depth)
        if new is not None:
            self._replace(token.span(), new)
        if frame.is_object and len(frame.name) <= _LONGEST_NAMING:
            self._pair(frame, content, token.span())

    def _pair(self, frame: _Frame, content: bytes, span: tuple[int, int]) -> None:
        """Take note of `{"name": "password", "value": …}`, in either order."""
        name = frame.name.lower()
        if name == _VALUE:
            frame.value = span
        elif name in _NAMING and is_credential_name(_read_string(content)):
            frame.is_value_secret = True
            if frame.value is not None and not _is_masked(self._raw[slice(*frame.value)]):
                frame.name = _VALUE
                self._replace(frame.value, _MARK_STRING)

    def _replace(self, span: tuple[int, int], new: bytes) -> None:
        if span[0] in self._edits:
            self._edits[span[0]] = (span[1], new)
            return
        self._edits[span[0]] = (span[1], new)
        names = [frame.name for frame in self._stack if frame.is_object]
        path = ".".join(names)[:_MOST_PATH_CHARACTERS]
        self._paths[path if path in self._paths or len(self._paths) < _MOST_PATHS else OTHER_PATHS] += 1

    def _apply(self) -> bytes:
        pieces: list[bytes] = []
        position = 0
        for start in sorted(self._edits):
            end, new = self._edits[start]
            pieces += (self._raw[position:start], new)
            position = end
        return b"".join([*pieces, self._raw[position:]])


@lru_cache(maxsize=8192)
def _judge_name(content: bytes) -> tuple[str, bool, bytes | None]:
    """Return how a member is called, whether it is a credential, and what replaces a name that holds one itself."""
    new = _redact_string(content, depth=0)
    name = _read_string(content)
    shown = name if new is None else _read_string(new[1:-1])
    return shown, is_credential_name(name), new


@lru_cache(maxsize=8192)
def _redact_cached(content: bytes) -> bytes | None:
    """Do as `_redact_string` does, for the many short texts that come again and again."""
    return _redact_string(content, depth=0)


def _redact_string(content: bytes, *, depth: int) -> bytes | None:
    """Return what replaces a text, which may be JSON itself; None where nothing does."""
    text = _read_string(content)
    redacted = _redact_json(text, depth) if text[:1] in _JSON_BEGINNINGS else None
    if redacted is None:
        redacted = redact_text(text)
    return None if redacted == text else _write_string(redacted, content)


def _redact_json(text: str, depth: int) -> str | None:
    """Redact a text that is JSON; None where it is not, or stands in too many others."""
    if depth >= _MOST_NESTED_TEXTS:
        return None
    try:
        inner = text.encode()
        _value_decoder.decode(inner)
    except (UnicodeEncodeError, msgspec.MsgspecError, RecursionError):
        return None
    return _Pass(Counter(), inner, depth=depth + 1).run().decode()


def _is_masked(string: bytes) -> bool:
    return _MASKED.fullmatch(string) is not None


def _read_string(content: bytes) -> str:
    """Read what stands between a string's quotes."""
    if b"\\" not in content:
        return content.decode()
    text: str = json.loads(b'"%b"' % content)
    return text


def _write_string(text: str, before: bytes) -> bytes:
    """Write a text in the place of `before`; without escapes there, it needs none."""
    return json.dumps(text).encode() if b"\\" in before else b'"%b"' % text.encode()
