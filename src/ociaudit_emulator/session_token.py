"""Tokens of users, instances and resources, made and checked here; a user's is what `oci session` would leave.

Owns: the token's form, a JWT that carries a public key and its end.
Must not: keep state; whatever is needed to check a token is in the token and the issuer's key.

Who of the made tenancy holds tokens: the configuration's user, an instance, and a function.

Owns: this choice.
Must not: make tokens.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPublicKey,
    RSAPublicNumbers,
)

from ociaudit_emulator.randomness import make_ocid
from ociaudit_emulator.tenancy import PrincipalKind, Tenancy

KEY_ID_PREFIX = "ST$"


class HolderKind(StrEnum):
    """Who can hold a token."""

    USER = "user"
    INSTANCE = "instance"
    RESOURCE = "resource"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a token: the kind, its OCID, and where it lives."""

    kind: HolderKind
    id: str
    tenancy_id: str
    compartment_id: str

    def list_claims(self) -> Mapping[str, str]:
        """Give the claims that tell of the holder, by the names that Oracle's tokens have for its kind."""
        common = {"sub": self.id, "tenant": self.tenancy_id, "ptype": str(self.kind)}
        if self.kind is HolderKind.INSTANCE:
            return common | {
                "ttype": "x509",
                "opc-certtype": "instance",
                "opc-instance": self.id,
                "opc-tenant": self.tenancy_id,
                "opc-compartment": self.compartment_id,
            }
        if self.kind is HolderKind.RESOURCE:
            return common | {
                "ttype": "res_sp",
                "res_id": self.id,
                "res_type": self.id.split(".")[1],
                "res_tenant": self.tenancy_id,
                "res_compartment": self.compartment_id,
            }
        return common | {"ttype": "login"}


@dataclass(frozen=True, slots=True)
class Session:
    """A checked token: whose it is, the key that signs with it, and when it ends."""

    user_id: str
    public_key: RSAPublicKey
    expires_at_second: float


def make_session_token(
    issuer: RSAPrivateKey, session_key: RSAPublicKey, *, holder: Holder, span: tuple[int, int]
) -> str:
    """Make a token for a key, valid over a span of seconds since 1970."""
    numbers = session_key.public_numbers()
    jwk = {"kty": "RSA", "n": _encode_number(numbers.n), "e": _encode_number(numbers.e)}
    claims = {
        **holder.list_claims(),
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


def find_holder(tenancy: Tenancy, kind: HolderKind) -> Holder:
    """Give the one of this kind."""
    if kind is HolderKind.INSTANCE:
        found = next(one.id for one in tenancy.principals if one.kind is PrincipalKind.INSTANCE)
    elif kind is HolderKind.RESOURCE:
        found = make_ocid("fnfunc", tenancy.id, region_key="iad")
    else:
        found = tenancy.config_user.id
    return Holder(kind, found, tenancy.id, tenancy.compartments[1].id)
