"""What looks like a credential: names that say so, and forms of text that do.

Owns: those names and forms. Must not: know JSON or events.

Invariants
- No time grows faster than the text: every search is bounded, whatever an attacker writes.
- What takes the place of a credential is no credential: redacting twice is redacting once.
"""

from __future__ import annotations

import re
from functools import lru_cache

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
