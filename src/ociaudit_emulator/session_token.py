"""Security tokens of users, instances and resources: JWTs that carry a public key and an expiry time.

A user's token has the form of the one that `oci session authenticate` writes. Checking a token needs the token
and the issuer's key, and no state.
"""

from __future__ import annotations

import base64
import binascii
import json
import uuid
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
    """The kinds of token holders."""

    USER = "user"
    INSTANCE = "instance"
    RESOURCE = "resource"


@dataclass(frozen=True, slots=True)
class Holder:
    """The holder of a token: its kind, OCID, tenancy and compartment."""

    kind: HolderKind
    id: str
    tenancy_id: str
    compartment_id: str

    def list_claims(self) -> Mapping[str, str]:
        """Return the claims about the holder, by the names that Oracle's tokens use for its kind."""
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


def find_holder(tenancy: Tenancy, kind: HolderKind) -> Holder:
    """Return the tenancy's holder of a kind: the configuration's user, an instance, or a function."""
    if kind is HolderKind.INSTANCE:
        holder_id = next(one.id for one in tenancy.principals if one.kind is PrincipalKind.INSTANCE)
    elif kind is HolderKind.RESOURCE:
        holder_id = make_ocid("fnfunc", tenancy.id, region_key="iad")
    else:
        holder_id = tenancy.config_user.id
    return Holder(kind, holder_id, tenancy.id, tenancy.compartments[1].id)


@dataclass(frozen=True, slots=True)
class Session:
    """The content of a verified token: its holder, the public key for its requests, and its expiry time."""

    holder_id: str
    public_key: RSAPublicKey
    expires_at_second: float


def make_session_token(
    issuer: RSAPrivateKey, session_key: RSAPublicKey, *, holder: Holder, span: tuple[int, int]
) -> str:
    """Return a token for a key, valid over a span of seconds since 1970.

    Its `jti` is its own, so that two tokens of one key and one second differ: one may be ended without the other.
    """
    numbers = session_key.public_numbers()
    jwk = {"kty": "RSA", "n": _encode_number(numbers.n), "e": _encode_number(numbers.e)}
    claims = {
        **holder.list_claims(),
        "iss": "authService.oracle.com",
        "iat": span[0],
        "exp": span[1],
        "jti": str(uuid.uuid4()),
        "jwk": json.dumps(jwk),
    }
    head = {"alg": "RS256", "typ": "JWT", "kid": "asw"}
    text = f"{_encode(json.dumps(head).encode())}.{_encode(json.dumps(claims).encode())}"
    signature = issuer.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{text}.{_encode(signature)}"


def read_session_token(token: str, issuer: RSAPublicKey) -> Session | None:
    """Return the content of a token; None when the issuer did not sign it."""
    text, _, signature = token.rpartition(".")
    try:
        issuer.verify(_decode(signature), text.encode(), padding.PKCS1v15(), hashes.SHA256())
        claims = json.loads(_decode(text.partition(".")[2]))
        jwk = json.loads(claims["jwk"])
        numbers = RSAPublicNumbers(n=_decode_number(jwk["n"]), e=_decode_number(jwk["e"]))
        return Session(str(claims["sub"]), numbers.public_key(), float(claims["exp"]))
    except (InvalidSignature, binascii.Error, ValueError, KeyError, TypeError):
        return None


# Base64url without padding, as in JWT and JWK (RFC 7515).


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _encode_number(number: int) -> str:
    return _encode(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def _decode_number(text: str) -> int:
    return int.from_bytes(_decode(text), "big")
