"""The keys that the emulator trusts.

Owns: the look-up from a signature's keyId to the public key.
Must not: write files (that is `config_files`) or verify requests (that is `signature`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from ociaudit_emulator.session_token import KEY_ID_PREFIX, Session, read_session_token
from ociaudit_emulator.signature import Signer

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
