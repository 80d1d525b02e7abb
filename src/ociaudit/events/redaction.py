"""What looks like a credential: names that say so, and forms of text that do.

Owns: those names and forms. Must not: know JSON or events.

Invariants
- No time grows faster than the text: every search is bounded, whatever an attacker writes.
- What takes the place of a credential is no credential: redacting twice is redacting once.

Events made fit to be shared: what looks like a credential is replaced by a fixed mark.

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

MARK = "(redacted)"

_NAME_ENDS = (
    "accesskey",
    "apikey",
    "apikeys",
    "assertion",
    "authorization",
    "bypasscode",
    "bypasscodes",
    "connectionstring",
    "cookie",
    "cookies",
    "credential",
    "credentials",
    "encryptionkey",
    "jwt",
    "keymaterial",
    "masterkey",
    "oboprincipal",
    "onetimecode",
    "passcode",
    "passphrase",
    "passwd",
    "password",
    "passwords",
    "privatekey",
    "privatekeypem",
    "pwd",
    "recoverycode",
    "samlresponse",
    "secret",
    "secretkey",
    "secrets",
    "sharedkey",
    "signature",
    "signingkey",
    "token",
    "tokens",
    "totpseed",
    "userdata",
    "verificationcode",
)
"""A name that ends so, in lower case and without marks between its words, is that of a credential."""
_NAMES = frozenset({"opcprincipal", "otp", "seed", "sig", "totp", "xauth"})
_HARMLESS_NAMES = frozenset({"accesscontrolallowcredentials"})
_ROOTS = ("credential", "passphrase", "passwd", "password", "privatekey", "secret", "token")
_ROOT_ENDS = (
    "base64", "content", "contents", "current", "data", "digest", "hash", "hashed", "header", "new", "old", "pem",
    "plain", "plaintext", "string", "text", "value", "values",
)  # fmt: skip
"""A name with one of the roots in it is that of a credential, too, if it ends so: `secretBundleContent`."""

_WORDS = (
    r"(?:authorization|cookie|credentials?|passcode|passphrase|passwd|password|pwd|signature|"
    r"(?:api|access|private|secret)[_-]?key|secret|token)"
)
_TRIGGERS = (
    "authorization", "cookie", "credential", "passcode", "passphrase", "passw", "pwd", "signature", "key", "secret",
    "token", "eyj", "-----begin", "/p/", "://", "bearer", "basic",
)  # fmt: skip
"""No form is in a text whose lower case has none of these in it; looking for them is quicker than matching."""
_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]{1,64}-----(?:(?!-----END ).)*+(?:-----END [A-Z0-9 ]{1,64}-----)?", re.DOTALL)
_WEB_TOKEN = re.compile(r"eyJ[\w-]{8,512}\.[\w-]{8,}+(?:\.[\w-]*+){0,3}")
_SCHEME = re.compile(r"(\b(?i:bearer|basic)\s{1,8})(?=[^\s,;\"']{0,64}(?:[0-9=+/._-]|[a-z][A-Z]))[\w.~+/=-]{8,}")
_HIDDEN = re.escape(MARK)
_PAIR = re.compile(
    rf"({_WORDS}s?[\"']?\s{{0,8}}(?:[:=>]|%3d|%3a)\s{{0,8}})"
    rf"(?:\"(?!\**\"|{_HIDDEN}\")[^\"]++\"?|'(?!\**'|{_HIDDEN}')[^']++'?|"
    rf"(?!\**(?:[\s\"'&,;<>}}]|\Z)|{_HIDDEN}|(?:true|false|null|AUTH_[A-Z]{{4,12}})\b)[^\s\"'&,;{{}}\[\]<>]+)",
    re.IGNORECASE,
)
_URL_PASSWORD = re.compile(r"(://[^/\s:@\"']{0,256}:)(?!\(redacted\)@)[^/\s@\"']{1,256}(?=@)")
_PRE_AUTHENTICATED = re.compile(r"(/p/)[\w-]{16,}(?=/n/)")


@lru_cache(maxsize=8192)
def is_credential_name(name: str) -> bool:
    """Tell whether what has this name is a credential, however the name is spelled: `userPassword`, `USER-PASSWORD`."""
    letters = "".join(filter(str.isalnum, name)).lower()
    if letters in _HARMLESS_NAMES:
        return False
    if letters in _NAMES or letters.endswith(_NAME_ENDS):
        return True
    return letters.endswith(_ROOT_ENDS) and any(root in letters for root in _ROOTS)


def redact_text(text: str) -> str:
    """Return a text with every part that has the form of a credential replaced."""
    if not any(map(text.lower().__contains__, _TRIGGERS)):
        return text
    text = _PEM.sub(MARK, text)
    text = _WEB_TOKEN.sub(MARK, text)
    text = _URL_PASSWORD.sub(rf"\g<1>{MARK}", text)
    text = _PRE_AUTHENTICATED.sub(rf"\g<1>{MARK}", text)
    text = _SCHEME.sub(rf"\g<1>{MARK}", text)
    return _PAIR.sub(_hide_second, text)


def _hide_second(match: re.Match[str]) -> str:
    """Keep what stands before the value, and the quotes around it."""
    head, value = match[1], match[0][len(match[1]) :]
    quote = value[0] if value[0] in "\"'" else ""
    return f"{head}{quote}{MARK}{quote if value[-1] == quote else ''}"


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
