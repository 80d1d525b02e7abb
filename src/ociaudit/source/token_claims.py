"""What a token of Oracle's says about itself.

Owns: reading the claims that the program uses. Must not: judge a token; that is the service's.

Invariants
- A text that is no token has no claims; it is never an error here.
- Nothing of a token stands in a repr.
"""

from __future__ import annotations

import base64
import binascii
import re

import msgspec

_NAME = re.compile(r"[\w.:/@+-]{1,255}", re.ASCII)


class Claims(msgspec.Struct, frozen=True):
    """The claims: whose token it is, of which tenancy, and from when to when it holds, in seconds since 1970.

    `jwk` is the public key that the token is bound to, as JSON.
    """

    sub: str | None = None
    tenant: str | None = None
    res_tenant: str | None = None
    iat: float | None = None
    exp: float | None = None
    jwk: str | None = None

    @property
    def principal(self) -> str | None:
        """Return the name of who holds the token, if it is one that can be printed."""
        return self.sub if self.sub and _NAME.fullmatch(self.sub) else None

    @property
    def tenancy(self) -> str | None:
        """Return the tenancy's OCID: of the resource, or of whoever signed in."""
        return next((text for text in (self.res_tenant, self.tenant) if text and _NAME.fullmatch(text)), None)

    @property
    def key_modulus(self) -> int | None:
        """Return the modulus of the RSA key that the token is bound to, where it says so."""
        try:
            key = msgspec.json.decode(self.jwk or "{}", type=_Jwk)
            return int.from_bytes(_decode(key.n), "big") if key.n else None
        except (msgspec.MsgspecError, binascii.Error, ValueError, RecursionError):
            return None


class _Jwk(msgspec.Struct):
    n: str = ""


def read_claims(token: str) -> Claims:
    """Return the claims of a JWT, without a check of its signature, or none."""
    parts = token.strip().split(".")
    if len(parts) != 3:
        return Claims()
    try:
        return msgspec.json.decode(_decode(parts[1]), type=Claims)
    except (msgspec.MsgspecError, binascii.Error, ValueError, RecursionError):
        return Claims()


def _decode(text: str) -> bytes:
    """Read base64url as JWTs write it: without padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
