"""Oracle's request signatures, verified.

Owns: what a correctly signed request is (API-facts: RSA-SHA256 over the exact path and query).
Must not: know which keys exist; a function that finds keys is an argument.

Invariants:
- the parts of the header are read by name, in any order;
- a date header (`x-date` before `date`), the request target and the host are always signed,
  and for a request with a body also its length, type and hash;
- whatever is wrong, the answer is the same 401.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from ociaudit_emulator.instants import parse_http_date_seconds
from ociaudit_emulator.service_error import not_authenticated

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
