"""Session tokens: what `oci session authenticate` would leave, made and checked here.

Owns: the token's form, a JWT that carries the session's public key and its end.
Must not: keep state; whatever is needed to check a token is in the token and the issuer's key.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPublicKey,
    RSAPublicNumbers,
)

KEY_ID_PREFIX = "ST$"


@dataclass(frozen=True, slots=True)
class Session:
    """A checked token: whose it is, the key that signs with it, and when it ends."""

    user_id: str
    public_key: RSAPublicKey
    expires_at_second: float


def make_session_token(
    issuer: RSAPrivateKey, session_key: RSAPublicKey, *, user_id: str, tenancy_id: str, span: tuple[int, int]
) -> str:
    """Make a token for a key, valid over a span of seconds since 1970."""
    numbers = session_key.public_numbers()
    jwk = {"kty": "RSA", "n": _encode_number(numbers.n), "e": _encode_number(numbers.e)}
    claims = {
        "sub": user_id,
        "tenant": tenancy_id,
        "ptype": "user",
        "ttype": "login",
        "iss": "authService.oracle.com",
        "iat": span[0],
        "exp": span[1],
        "jwk": json.dumps(jwk),
    }
    head = {"alg": "RS256", "typ": "JWT", "kid": "asw"}
    text = f"{_encode(json.dumps(head).encode())}.{_encode(json.dumps(claims).encode())}"
    signature = issuer.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{text}.{_encode(signature)}"


def read_session_token(token: str, issuer: RSAPublicKey) -> Session | None:
    """Check that the issuer made a token and read it; None when it did not."""
    text, _, signature = token.rpartition(".")
    try:
        issuer.verify(_decode(signature), text.encode(), padding.PKCS1v15(), hashes.SHA256())
        claims = json.loads(_decode(text.partition(".")[2]))
        jwk = json.loads(claims["jwk"])
        numbers = RSAPublicNumbers(n=_decode_number(jwk["n"]), e=_decode_number(jwk["e"]))
        return Session(str(claims["sub"]), numbers.public_key(), float(claims["exp"]))
    except (InvalidSignature, binascii.Error, ValueError, KeyError, TypeError):
        return None


def _encode(raw: bytes) -> str:
    """Write bytes as a JWT does."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    """Read bytes as a JWT writes them."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _encode_number(number: int) -> str:
    """Write a number as a JWK does."""
    return _encode(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def _decode_number(text: str) -> int:
    """Read a number as a JWK writes it."""
    return int.from_bytes(_decode(text), "big")
