"""The verification of Oracle's request signatures, and the key ring of trusted keys.

A signature is RSA-SHA256 over the exact path and query, the date, the host and, for a request with a body, the
body's length, type and hash (API-FACTS, signing; draft-cavage-http-signatures-08).

Invariants:
- the parts of the Authorization header are read by name, in any order;
- a date header (`x-date` before `date`), the request target and the host are always signed;
- every defect gets the same 401.
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
from ociaudit_emulator.object_store import Blob
from ociaudit_emulator.session_token import KEY_ID_PREFIX, Session, read_session_token
from ociaudit_emulator.time_formats import parse_http_date_seconds

MAX_SKEW_SECONDS = 300
_MAX_SESSIONS = 1000
_PART = re.compile(r'([A-Za-z]+)="([^"]*)"')
_BODY_HEADERS = frozenset({"content-length", "content-type", "x-content-sha256"})
_METHODS_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request as it was on the wire, with header names in lower case; an upload's body is a blob once received."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""
    blob: Blob | None = None


@dataclass(frozen=True, slots=True)
class Signer:
    """The signer of a request: the name to log, which is never the token, and the public key."""

    label: str
    public_key: RSAPublicKey


@dataclass(slots=True)
class DateCheck:
    """The check of a signature's date: the clock that it is compared with, and how far it may be off, in seconds."""

    read_now_seconds: Callable[[], float]
    tolerance_seconds: float = MAX_SKEW_SECONDS


FindSigner = Callable[[str], Signer | None]


def verify_signature(
    request: SignedRequest,
    find_signer: FindSigner,
    dates: DateCheck,
    *,
    is_host_signed: bool = True,
    is_body_signed: bool = True,
) -> Signer:
    """Verify a request's signature and return its signer.

    Only federation requests do not sign the host, and only uploads of objects and parts need not sign the body.

    Raises: ApiError (401) for a missing, invalid or outdated signature.
    """
    parts = _read_parts(request.headers.get("authorization", ""))
    names = parts["headers"].lower().split()
    required = {"(request-target)", "host"} if is_host_signed else {"(request-target)"}
    if request.method in _METHODS_WITH_BODY and is_body_signed:
        required |= _BODY_HEADERS
    _check_signed_names(request, names, required)
    _check_date(request.headers, dates)
    if "x-content-sha256" in names:
        _check_body(request, is_upload=not is_body_signed)
    signer = find_signer(parts["keyId"])
    if signer is None:
        raise not_authenticated("the keyId is not known")
    _check_signature(signer.public_key, parts["signature"], _make_signed_text(request, names))
    return signer


def _read_parts(authorization: str) -> dict[str, str]:
    """Return the parts of the Authorization header by name."""
    scheme, _, rest = authorization.partition(" ")
    parts = dict(_PART.findall(rest))
    if scheme.lower() != "signature" or not {"headers", "keyId", "signature"} <= parts.keys():
        raise not_authenticated("the request is not signed")
    if parts.get("algorithm", "").lower() != "rsa-sha256":
        raise not_authenticated("the algorithm is not rsa-sha256")
    return parts


def _check_signed_names(request: SignedRequest, names: list[str], required: set[str]) -> None:
    """Check that every required header is signed, and that every signed header is present."""
    present = request.headers.keys() | {"(request-target)"}
    if not required <= set(names) <= present:
        raise not_authenticated("a required header is missing or not signed")
    if ("x-date" if "x-date" in request.headers else "date") not in names:
        raise not_authenticated("the date is missing or not signed")


def _check_date(headers: Mapping[str, str], dates: DateCheck) -> None:
    """Check that the date is close enough to the clock."""
    try:
        signed_at = parse_http_date_seconds(headers.get("x-date") or headers["date"])
    except ValueError as error:
        raise not_authenticated("the date cannot be read") from error
    if abs(dates.read_now_seconds() - signed_at) > dates.tolerance_seconds:
        raise not_authenticated("the date is too far from the service's clock; Oracle allows five minutes")


def _check_body(request: SignedRequest, *, is_upload: bool) -> None:
    """Check that the body has the signed hash; an upload is checked as soon as it has been received."""
    if is_upload and request.blob is None:
        return
    raw = hashlib.sha256(request.body).digest() if request.blob is None else request.blob.sha256
    digest = base64.b64encode(raw).decode()
    if request.headers["x-content-sha256"] != digest:
        raise not_authenticated("the body is not the one that was signed")


def _make_signed_text(request: SignedRequest, names: list[str]) -> bytes:
    """Return the text that the client must have signed."""
    target = f"{request.method.lower()} {request.target}"
    values = {**request.headers, "(request-target)": target}
    return "\n".join(f"{name}: {values[name]}" for name in names).encode("utf-8", "surrogateescape")


def _check_signature(public_key: RSAPublicKey, signature: str, text: bytes) -> None:
    try:
        raw = base64.b64decode(signature, validate=True)
        public_key.verify(raw, text, padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, binascii.Error, ValueError) as error:
        raise not_authenticated("the signature does not match") from error


def load_public_key(pem: bytes) -> RSAPublicKey:
    """Load a public key.

    Raises: ValueError when the PEM does not hold an RSA public key.
    """
    key = serialization.load_pem_public_key(pem)
    if not isinstance(key, RSAPublicKey):
        message = "not an RSA key"
        raise ValueError(message)  # noqa: TRY004 -- the content is wrong, not the caller's type
    return key


def compute_fingerprint(public_key: RSAPublicKey) -> str:
    """Return a key's fingerprint in Oracle's form: the MD5 of its DER encoding, in pairs of digits."""
    der = public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    digits = hashlib.md5(der, usedforsecurity=False).hexdigest()
    return ":".join(digits[at : at + 2] for at in range(0, 32, 2))


class KeyRing:
    """The trusted keys: API keys, and the keys of token issuers."""

    def __init__(self, read_clock_seconds: Callable[[], float]) -> None:
        """Start without keys; the clock decides which tokens have expired."""
        self._read_clock_seconds = read_clock_seconds
        self._api_keys: dict[str, Signer] = {}
        self._issuers: list[RSAPublicKey] = []
        self._sessions: dict[str, Session] = {}
        self._ended: set[str] = set()

    def trust_api_key(self, tenancy_id: str, user_id: str, public_key: RSAPublicKey) -> None:
        """Trust a user's API key."""
        fingerprint = compute_fingerprint(public_key)
        key_id = f"{tenancy_id}/{user_id}/{fingerprint}"
        self._api_keys[key_id] = Signer(fingerprint, public_key)

    def trust_issuer(self, public_key: RSAPublicKey) -> None:
        """Trust every token that this key signed."""
        self._issuers.append(public_key)

    def find_signer(self, key_id: str) -> Signer | None:
        """Return the signer of a keyId; None when it is unknown, or its session has expired or was ended."""
        if not key_id.startswith(KEY_ID_PREFIX):
            return self._api_keys.get(key_id)
        token = key_id.removeprefix(KEY_ID_PREFIX)
        session = self._find_session(token)
        if session is None or token in self._ended or session.expires_at_second <= self._read_clock_seconds():
            return None
        return Signer(f"session {compute_fingerprint(session.public_key)}", session.public_key)

    def end_sessions(self) -> int:
        """End every token used so far, and return their number; one that was not used yet stays valid."""
        self._ended.update(self._sessions)
        return len(self._sessions)

    def _find_session(self, token: str) -> Session | None:
        """Return the content of a token; a token is verified once."""
        if token not in self._sessions:
            sessions = (read_session_token(token, issuer) for issuer in self._issuers)
            session = next((one for one in sessions if one is not None), None)
            if session is None:
                return None
            if len(self._sessions) >= _MAX_SESSIONS:
                self._sessions.clear()
            self._sessions[token] = session
        return self._sessions[token]
