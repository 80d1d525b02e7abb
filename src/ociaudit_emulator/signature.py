"""Oracle's request signatures, verified.

Owns: what a correctly signed request is (API-facts: RSA-SHA256 over the exact path and query).
Must not: know which keys exist; a function that finds keys is an argument.

Invariants:
- the parts of the header are read by name, in any order;
- a date header (`x-date` before `date`), the request target and the host are always signed,
  and for a request with a body also its length, type and hash;
- whatever is wrong, the answer is the same 401.

The keys that the emulator trusts.

Owns: the look-up from a signature's keyId to the public key.
Must not: write files (that is `config_files`) or verify requests (that is `signature`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from ociaudit_emulator.http import not_authenticated
from ociaudit_emulator.instants import parse_http_date_seconds
from ociaudit_emulator.session_token import KEY_ID_PREFIX, Session, read_session_token

MAX_SKEW_SECONDS = 300
_PART = re.compile(r'([A-Za-z]+)="([^"]*)"')
_BODY_HEADERS = frozenset({"content-length", "content-type", "x-content-sha256"})
_METHODS_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What a signature covers: the request as it stood on the wire, header names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signed: the name to log, never the token itself, and the public key to check with."""

    label: str
    public_key: RSAPublicKey


FindSigner = Callable[[str], Signer | None]


def verify_signature(
    request: SignedRequest, find_signer: FindSigner, now_seconds: float, *, is_host_signed: bool = True
) -> Signer:
    """Check a request's signature and say who signed it; only requests for a token leave the host unsigned.

    Raises: ServiceError (401) for every kind of missing, wrong or outdated signature.
    """
    parts = _read_parts(request.headers.get("authorization", ""))
    names = parts["headers"].lower().split()
    _check_signed_names(request, names, {"(request-target)", "host"} if is_host_signed else {"(request-target)"})
    _check_date(request.headers, now_seconds)
    _check_body(request)
    signer = find_signer(parts["keyId"])
    if signer is None:
        raise not_authenticated("the keyId is not known")
    _check_bytes(signer.public_key, parts["signature"], _make_signed_text(request, names))
    return signer


def _read_parts(authorization: str) -> dict[str, str]:
    """Read the named parts of the Authorization header."""
    scheme, _, rest = authorization.partition(" ")
    parts = dict(_PART.findall(rest))
    if scheme.lower() != "signature" or not {"headers", "keyId", "signature"} <= parts.keys():
        raise not_authenticated("the request is not signed")
    if parts.get("algorithm", "").lower() != "rsa-sha256":
        raise not_authenticated("the algorithm is not rsa-sha256")
    return parts


def _check_signed_names(request: SignedRequest, names: list[str], wanted: set[str]) -> None:
    """Insist that everything that must be signed is signed, and present."""
    if request.method in _METHODS_WITH_BODY:
        wanted = wanted | _BODY_HEADERS
    present = request.headers.keys() | {"(request-target)"}
    if not wanted <= set(names) <= present:
        raise not_authenticated("a required header is missing or not signed")
    if ("x-date" if "x-date" in request.headers else "date") not in names:
        raise not_authenticated("the date is missing or not signed")


def _check_date(headers: Mapping[str, str], now_seconds: float) -> None:
    """Insist on a date within five minutes of the clock."""
    try:
        signed_at = parse_http_date_seconds(headers.get("x-date") or headers["date"])
    except ValueError as error:
        raise not_authenticated("the date cannot be read") from error
    if abs(now_seconds - signed_at) > MAX_SKEW_SECONDS:
        raise not_authenticated("the date is more than five minutes away from the service's clock")


def _check_body(request: SignedRequest) -> None:
    """Insist that a body is the one whose hash was signed."""
    if request.method not in _METHODS_WITH_BODY:
        return
    digest = base64.b64encode(hashlib.sha256(request.body).digest()).decode()
    if request.headers["x-content-sha256"] != digest:
        raise not_authenticated("the body is not the one that was signed")


def _make_signed_text(request: SignedRequest, names: list[str]) -> bytes:
    """Build the text that the client must have signed."""
    target = f"{request.method.lower()} {request.target}"
    values = {**request.headers, "(request-target)": target}
    return "\n".join(f"{name}: {values[name]}" for name in names).encode("utf-8", "surrogateescape")


def _check_bytes(public_key: RSAPublicKey, signature: str, text: bytes) -> None:
    """Check the signature's bytes with the public key."""
    try:
        raw = base64.b64decode(signature, validate=True)
        public_key.verify(raw, text, padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, binascii.Error, ValueError) as error:
        raise not_authenticated("the signature does not match") from error


_MAX_SESSIONS = 1000


def fingerprint_of(public_key: RSAPublicKey) -> str:
    """Give a key's fingerprint as Oracle writes it: the MD5 of its DER form, in pairs."""
    der = public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    digits = hashlib.md5(der, usedforsecurity=False).hexdigest()
    return ":".join(digits[at : at + 2] for at in range(0, 32, 2))


class KeyRing:
    """Finds the signer that a keyId names: an API key, or a token that has not ended."""

    def __init__(self, read_clock_seconds: Callable[[], float]) -> None:
        """Begin with no key at all; the clock says which tokens have ended."""
        self._read_clock_seconds = read_clock_seconds
        self._api_keys: dict[str, Signer] = {}
        self._issuers: list[RSAPublicKey] = []
        self._sessions: dict[str, Session] = {}
        self._ended: set[str] = set()

    def trust_api_key(self, tenancy_id: str, user_id: str, public_key: RSAPublicKey) -> None:
        """Trust a user's API key."""
        fingerprint = fingerprint_of(public_key)
        key_id = f"{tenancy_id}/{user_id}/{fingerprint}"
        self._api_keys[key_id] = Signer(fingerprint, public_key)

    def trust_issuer(self, public_key: RSAPublicKey) -> None:
        """Trust every session token that this key signed."""
        self._issuers.append(public_key)

    def find_signer(self, key_id: str) -> Signer | None:
        """Find who a keyId names; None when it is unknown or its session has ended."""
        if not key_id.startswith(KEY_ID_PREFIX):
            return self._api_keys.get(key_id)
        token = key_id.removeprefix(KEY_ID_PREFIX)
        session = self._find_session(token)
        if session is None or token in self._ended or session.expires_at_second <= self._read_clock_seconds():
            return None
        return Signer(f"session {fingerprint_of(session.public_key)}", session.public_key)

    def end_sessions(self) -> int:
        """Let every token that has been used so far count as ended; say how many."""
        self._ended.update(self._sessions)
        return len(self._sessions)

    def _find_session(self, token: str) -> Session | None:
        """Check a token once and remember what it says."""
        if token not in self._sessions:
            found = (read_session_token(token, issuer) for issuer in self._issuers)
            session = next((one for one in found if one is not None), None)
            if session is None:
                return None
            if len(self._sessions) >= _MAX_SESSIONS:
                self._sessions.clear()
            self._sessions[token] = session
        return self._sessions[token]
