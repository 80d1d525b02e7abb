"""Redaction: replacing what looks like a credential in an event with a fixed mark, so that the event can be shared.

There are two rules. By name: every text and number under a member whose name denotes a credential (`Authorization`,
`Cookie`, `opc-obo-token`, `credentials`, `newPassword`, `x-…-token`, …) at any depth, and the `value` next to such a
`name`. By form: JSON Web Tokens, PEM blocks, `Bearer …`, `password=…`, and URLs with a password or a pre-authenticated
request, in every other text and name, including JSON inside a text.

Invariants
- The result is valid JSON with the same structure whenever the event is; an unusual event is never an error.
- Everything that is not replaced keeps its bytes, except that a partly replaced text may be escaped differently.
- null, true, false and masked values (`*****`) stay. Redacting twice is the same as redacting once.
- Statistics record where (the path of names) and how often, never what. Paths are limited in number and length.
- Time is linear in the length of the text: every search is bounded, whatever an attacker writes.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import msgspec

MARK = "(redacted)"
"""Replaces a credential."""
OTHER_PATHS = "(other fields)"
"""Represents the paths beyond the limit on their number."""

_NAME_ENDS = (
    "accesskey",
    "apikey",
    "apikeys",
    "assertion",
    "authenticationinfo",
    "authinfo",
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
"""A name with one of these endings, in lower case and without separators, denotes a credential."""
_NAMES = frozenset({"opcprincipal", "otp", "seed", "sig", "totp", "xauth"})
_HARMLESS_NAMES = frozenset({"accesscontrolallowcredentials"})
_ROOTS = ("credential", "passphrase", "passwd", "password", "privatekey", "secret", "token")
_ROOT_ENDS = (
    "base64", "content", "contents", "current", "data", "digest", "hash", "hashed", "header", "new", "old", "pem",
    "plain", "plaintext", "string", "text", "value", "values",
)  # fmt: skip
"""A name that contains a root and has one of these endings also denotes a credential: `secretBundleContent`."""

_WORDS = (
    r"(?:authorization|cookie|credentials?|passcode|passphrase|passwd|password|pwd|signature|"
    r"(?:api|access|private|secret)[_-]?key|secret|token)"
)
_TRIGGERS = (
    "authorization", "cookie", "credential", "passcode", "passphrase", "passw", "pwd", "signature", "key", "secret",
    "token", "eyj", "-----begin", "/p/", "://", "bearer", "basic",
)  # fmt: skip
"""A text without any of these, in lower case, has no form to match; this check is faster than matching."""
_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]{1,64}-----(?:(?!-----END ).)*+(?:-----END [A-Z0-9 ]{1,64}-----)?", re.DOTALL)
_WEB_TOKEN = re.compile(r"eyJ[\w-]{8,512}\.[\w-]{8,}+(?:\.[\w-]*+){0,3}")
_SCHEME = re.compile(r"(\b(?i:bearer|basic)\s{1,8})(?=[^\s,;\"']{0,64}(?:[0-9=+/._-]|[a-z][A-Z]))[\w.~+/=-]{8,}")
_ESCAPED_MARK = re.escape(MARK)
_PAIR = re.compile(
    rf"({_WORDS}s?[\"']?\s{{0,8}}(?:[:=>]|%3d|%3a)\s{{0,8}})"
    rf"(?:\"(?!\**\"|{_ESCAPED_MARK}\")[^\"]++\"?|'(?!\**'|{_ESCAPED_MARK}')[^']++'?|"
    rf"(?!\**(?:[\s\"'&,;<>}}]|\Z)|{_ESCAPED_MARK}|(?:true|false|null|AUTH_[A-Z]{{4,12}})\b)[^\s\"'&,;{{}}\[\]<>]+)",
    re.IGNORECASE,
)
_URL_PASSWORD = re.compile(r"(://[^/\s:@\"']{0,256}:)(?!\(redacted\)@)[^/\s@\"']{1,256}(?=@)")
_PRE_AUTHENTICATED = re.compile(r"(/p/)[\w-]{16,}(?=/n/)")
_PERCENT = r"%(?:25){0,3}"
"""The sign of a percent-encoded character, which may itself be encoded up to three times."""
_SLASH, _COLON, _AT = rf"(?:/|{_PERCENT}2f)", rf"(?::|{_PERCENT}3a)", rf"(?:@|{_PERCENT}40)"
_ENCODED_PRE_AUTHENTICATED = re.compile(
    rf"({_SLASH}(?:p|{_PERCENT}70){_SLASH})(?:[\w-]|(?!{_SLASH}){_PERCENT}[0-9a-f]{{2}}){{16,}}+"
    rf"(?={_SLASH}(?:n|{_PERCENT}6e){_SLASH})",
    re.IGNORECASE,
)
_ENCODED_URL_PASSWORD = re.compile(
    rf"({_COLON}{_SLASH}{{2}}(?:(?!{_SLASH}|{_COLON}|{_AT})[^\s\"']){{0,256}}+{_COLON})"
    rf"(?!{_ESCAPED_MARK}{_AT})(?:(?!{_SLASH}|{_AT})[^\s\"']){{1,256}}+(?={_AT})",
    re.IGNORECASE,
)

_MAX_PATHS = 1000
_MAX_PATH_LENGTH = 200  # characters
_MAX_NESTED_TEXTS = 4
_MAX_NAME_MEMBER_LENGTH = 6
_QUOTE, _OPENING, _CLOSING = 0x22, b"{[", b"}]"
_STRING = rb'"((?:[^"\\]++|\\.)*+)"'
_TOKEN = re.compile(_STRING + rb"([ \t\r\n]*:)?|[{}\[\]]|(-?[0-9][^,\]} \t\r\n]*)", re.DOTALL)
_MASKED = re.compile(rb'"(?:\**|%b)"' % re.escape(MARK).encode())
_MARK_STRING = b'"%b"' % MARK.encode()
_NAME_MEMBERS = frozenset({"name", "key", "header"})
_VALUE_MEMBER = "value"
_JSON_STARTS = frozenset({"{", "[", '"'})
_BEFORE_JSON = "\ufeff \t\r\n"
_MAX_CACHED_BYTES = 128
_value_decoder = msgspec.json.Decoder(msgspec.Raw)


class Redactor:
    """Redacts events and counts the replacements."""

    def __init__(self) -> None:
        """Start with empty counts."""
        self.paths: Counter[str] = Counter()
        """Path of a field -> number of values replaced, partly or whole."""
        self.events = 0
        """The number of events changed."""

    def redact(self, raw: bytes) -> bytes:
        """Return an event (valid JSON) without credentials; the same object if nothing was replaced."""
        redacted = _RedactionPass(self.paths, raw).run()
        self.events += redacted is not raw
        return redacted


@lru_cache(maxsize=8192)
def is_credential_name(name: str) -> bool:
    """Return whether a name denotes a credential, in any naming style: `userPassword`, `USER-PASSWORD`."""
    letters = "".join(filter(str.isalnum, name)).lower()
    if letters in _HARMLESS_NAMES:
        return False
    if letters in _NAMES or letters.endswith(_NAME_ENDS):
        return True
    return letters.endswith(_ROOT_ENDS) and any(root in letters for root in _ROOTS)


def redact_text(text: str) -> str:
    """Return a text in which every part with the form of a credential is replaced by `MARK`."""
    if "%" in text:
        text = _ENCODED_PRE_AUTHENTICATED.sub(rf"\g<1>{MARK}", text)
        text = _ENCODED_URL_PASSWORD.sub(rf"\g<1>{MARK}", text)
    if not any(map(text.lower().__contains__, _TRIGGERS)):
        return text
    text = _PEM.sub(MARK, text)
    text = _WEB_TOKEN.sub(MARK, text)
    text = _URL_PASSWORD.sub(rf"\g<1>{MARK}", text)
    text = _PRE_AUTHENTICATED.sub(rf"\g<1>{MARK}", text)
    text = _SCHEME.sub(rf"\g<1>{MARK}", text)
    return _PAIR.sub(_replace_value, text)


def _replace_value(match: re.Match[str]) -> str:
    """Return a name-value pair with its value replaced; the quotes around the value stay."""
    head, value = match[1], match[0][len(match[1]) :]
    quote = value[0] if value[0] in "\"'" else ""
    return f"{head}{quote}{MARK}{quote if value[-1] == quote else ''}"


@dataclass(slots=True)
class _Frame:
    """An open object or array, and its current member."""

    is_object: bool
    is_secret: bool
    """Everything inside is a credential."""
    name: str = ""
    is_member_secret: bool = False
    is_value_secret: bool = False
    """It has a `name` that denotes a credential, so its `value` is one."""
    value: tuple[int, int] | None = None
    """The span of its `value`, in case the `name` follows."""
    start: int = 0
    """Where it begins."""


class _RedactionPass:
    """One pass over one JSON text."""

    def __init__(self, paths: Counter[str], raw: bytes, *, depth: int = 0) -> None:
        self._paths = paths
        self._raw = raw
        self._depth = depth
        self._stack = [_Frame(is_object=False, is_secret=False)]
        self._edits: dict[int, tuple[int, bytes]] = {}
        """Replacements: start -> (end, new bytes)."""
        self._secret_values: list[tuple[int, int, str]] = []
        """Spans and paths of values whose `name`, which denotes a credential, came after them."""

    def run(self) -> bytes:
        """Return the text without credentials; the same object if there are none."""
        raw, stack = self._raw, self._stack
        for token in _TOKEN.finditer(raw):
            mark = raw[token.start()]
            if mark == _QUOTE:
                if token[2] is not None:
                    self._handle_name(token)
                else:
                    self._handle_text(token)
            elif mark in _OPENING:
                frame = stack[-1]
                is_secret = frame.is_member_secret or frame.is_secret
                stack.append(_Frame(mark == _OPENING[0], is_secret, start=token.start()))
            elif mark in _CLOSING:
                closed = stack.pop()
                self._note_value(stack[-1], (closed.start, token.end()))
            elif stack[-1].is_member_secret or stack[-1].is_secret:
                self._replace(token.span(), _MARK_STRING)
            else:
                self._note_value(stack[-1], token.span())
        self._replace_secret_values()
        return self._apply() if self._edits else raw

    def _handle_name(self, token: re.Match[bytes]) -> None:
        frame = self._stack[-1]
        frame.name, is_secret, new = _classify_name(token[1])
        frame.is_member_secret = (
            frame.is_secret or is_secret or (frame.is_value_secret and frame.name.lower() == _VALUE_MEMBER)
        )
        if new is not None:
            self._replace((token.start(), token.end(1) + 1), new)

    def _handle_text(self, token: re.Match[bytes]) -> None:
        frame = self._stack[-1]
        content = token[1]
        if frame.is_member_secret or frame.is_secret:
            if not _is_masked(token[0]):
                self._replace(token.span(), _MARK_STRING)
            return
        is_short = len(content) <= _MAX_CACHED_BYTES
        new = _redact_cached(content) if is_short else _redact_string(content, depth=self._depth)
        if new is not None:
            self._replace(token.span(), new)
        if frame.is_object and len(frame.name) <= _MAX_NAME_MEMBER_LENGTH:
            self._match_pair(frame, content, token.span())

    def _match_pair(self, frame: _Frame, content: bytes, span: tuple[int, int]) -> None:
        """Handle `{"name": "password", "value": …}`, in either order."""
        self._note_value(frame, span)
        if frame.name.lower() in _NAME_MEMBERS and is_credential_name(_read_string(content)):
            frame.is_value_secret = True
            if frame.value is not None:
                frame.name = _VALUE_MEMBER
                self._secret_values.append((*frame.value, self._name_path()))

    def _note_value(self, frame: _Frame, span: tuple[int, int]) -> None:
        """Keep where the `value` of an object is: a text, a number, or anything that holds some."""
        if frame.is_object and frame.name.lower() == _VALUE_MEMBER:
            frame.value = span

    def _replace_secret_values(self) -> None:
        """Replace every text and number in the values that turned out to be credentials, each once however nested."""
        done = 0
        for start, end, path in sorted(self._secret_values):
            if start < done:
                continue
            done = end
            for token in _TOKEN.finditer(self._raw, start, end):
                is_text = token[1] is not None and token[2] is None and not _is_masked(token[0])
                if is_text or token[3] is not None:
                    self._replace(token.span(), _MARK_STRING, path)

    def _replace(self, span: tuple[int, int], new: bytes, path: str | None = None) -> None:
        is_new = span[0] not in self._edits
        self._edits[span[0]] = (span[1], new)
        if is_new:
            path = self._name_path() if path is None else path
            self._paths[path if path in self._paths or len(self._paths) < _MAX_PATHS else OTHER_PATHS] += 1

    def _name_path(self) -> str:
        names, length = [], 0
        for frame in self._stack:
            if length > _MAX_PATH_LENGTH:  # a hostile event has any number of frames
                break
            if frame.is_object:
                names.append(frame.name)
                length += len(frame.name) + 1
        return ".".join(names)[:_MAX_PATH_LENGTH]

    def _apply(self) -> bytes:
        parts: list[bytes] = []
        position = 0
        for start in sorted(self._edits):
            end, new = self._edits[start]
            parts += (self._raw[position:start], new)
            position = end
        return b"".join([*parts, self._raw[position:]])


@lru_cache(maxsize=8192)
def _classify_name(content: bytes) -> tuple[str, bool, bytes | None]:
    """Return a member's name as shown, whether it denotes a credential, and the redacted name if it contains one."""
    new = _redact_string(content, depth=0)
    name = _read_string(content)
    shown = name if new is None else _read_string(new[1:-1])
    return shown, is_credential_name(name), new


@lru_cache(maxsize=8192)
def _redact_cached(content: bytes) -> bytes | None:
    """Return the same as `_redact_string`, for short texts that recur."""
    return _redact_string(content, depth=0)


def _redact_string(content: bytes, *, depth: int) -> bytes | None:
    """Return the redacted string for the content of one, which may be JSON itself, or None if nothing is replaced."""
    text = _read_string(content)
    redacted = _redact_json(text, depth) if text.lstrip(_BEFORE_JSON)[:1] in _JSON_STARTS else None
    if redacted is None:
        redacted = redact_text(text)
    return None if redacted == text else _write_string(redacted, content)


def _redact_json(text: str, depth: int) -> str | None:
    """Return a redacted text that begins as JSON does, or None if it cannot be read or is nested in too many others.

    What is not one valid document, such as several or one that is cut off, is also redacted as any other text.
    """
    if depth >= _MAX_NESTED_TEXTS:
        return None
    try:
        redacted = _RedactionPass(Counter(), text.encode(), depth=depth + 1).run().decode()
    except (ValueError, IndexError, RecursionError):
        return None
    try:
        _value_decoder.decode(redacted)
    except (msgspec.MsgspecError, RecursionError):
        return redact_text(redacted)
    return redacted


def _is_masked(string: bytes) -> bool:
    return _MASKED.fullmatch(string) is not None


def _read_string(content: bytes) -> str:
    """Return the text between a string's quotes, unescaped."""
    if b"\\" not in content:
        return content.decode()
    text: str = json.loads(b'"%b"' % content)
    return text


def _write_string(text: str, before: bytes) -> bytes:
    """Return a text as a JSON string that replaces the content `before`; if that has no escapes, it needs none."""
    return json.dumps(text).encode() if b"\\" in before else b'"%b"' % text.encode()
