"""Tokens given out while the emulator runs.

Owns: the key that signs them, made when the first is wanted.
Must not: decide who may have one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from ociaudit_emulator.holders import find_holder
from ociaudit_emulator.keys import KeyRing
from ociaudit_emulator.session_token import HolderKind, make_session_token
from ociaudit_emulator.tenancy import Tenancy


class TokenIssuer:
    """Gives out tokens that the emulator's services accept until they end."""

    def __init__(self, tenancy: Tenancy, key_ring: KeyRing, read_clock_seconds: Callable[[], float]) -> None:
        """Keep the collaborators."""
        self._tenancy = tenancy
        self._key_ring = key_ring
        self._read_clock_seconds = read_clock_seconds

    def issue(self, public_key: RSAPublicKey, kind: HolderKind, seconds: float) -> str:
        """Give a token for a key, from now on for so many seconds."""
        start = self._read_clock_seconds()
        span = (math.floor(start), math.ceil(start + seconds))
        return make_session_token(self._key, public_key, holder=find_holder(self._tenancy, kind), span=span)

    @cached_property
    def _key(self) -> RSAPrivateKey:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._key_ring.trust_issuer(key.public_key())
        return key


def read_public_key(pem: bytes) -> RSAPublicKey:
    """Read a public key; ValueError when it is something else."""
    key = serialization.load_pem_public_key(pem)
    if not isinstance(key, RSAPublicKey):
        message = "no RSA key"
        raise ValueError(message)  # noqa: TRY004 -- what was sent is wrong, not the call
    return key
