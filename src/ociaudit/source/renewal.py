"""A signer whose token ends: another one takes its place in time.

Owns: when a signer is loaded anew, and that it happens once for all who wait. Must not: know kinds of sign-in.

Invariants
- A signer is never changed: a new one, loaded apart, takes its place at once, so a request is signed by one of them.
- Loading happens in a thread; signing waits for nothing.
- Whoever was refused with an older signer than the present one is told to try again, without another loading.
- While a token still holds, nobody waits for its renewal but the one who began it. Once it has ended, everybody does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ociaudit.errors import OciAuditError
from ociaudit.source.token_claims import Claims

_MARGIN_SECONDS = 300.0
_SHARE_OF_LIFE = 4
_TRY_AGAIN_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class LoadedSigner:
    """What signs, and what its token says: empty claims for a key that does not end."""

    sign: Callable[[Any], Any] = field(repr=False)
    token: str = field(repr=False, default="")
    claims: Claims = field(repr=False, default_factory=Claims)
    tenancy: str | None = None
    region: str | None = None


class RenewableSigner:
    """Signs with the latest signer there is."""

    def __init__(self, first: LoadedSigner, load: Callable[[], LoadedSigner]) -> None:
        """Begin with `first`; `load`, which may block, gives the one that is current by then."""
        self._current = first
        self._load = load
        self._lock = asyncio.Lock()
        self._tried_at = float("-inf")
        self._asked_at = float("-inf")
        self.number = 0
        """Counts the signers; a request is signed by the one whose number was read before."""
        self.problem: str | None = None
        """Why the latest renewal failed."""

    def __call__(self, request: Any) -> None:
        """Add the signature's headers to a request."""
        self._current.sign(request)

    @property
    def ended_at(self) -> float | None:
        """Return when the token ended, in seconds since 1970, if it had by the latest request."""
        exp = self._current.claims.exp
        return exp if exp is not None and self._asked_at >= exp else None

    async def renew_early(self, now_seconds: float) -> None:
        """Load anew when the token is about to end; a failure is left for the service to judge."""
        self._asked_at = now_seconds
        is_under_way = self._lock.locked()
        if is_under_way and self.ended_at is None:
            return
        if not is_under_way and not self._is_due(now_seconds):
            return
        async with self._lock:  # with a token that has ended everybody waits: it would only be refused
            if self._is_due(now_seconds):
                self._tried_at = now_seconds
                await self._renew()

    async def renew_after(self, number: int) -> bool:
        """Load anew because the signer of this number was refused; tell whether another one signs now."""
        async with self._lock:
            return self.number != number or await self._renew()

    async def _renew(self) -> bool:
        try:
            loaded = await asyncio.to_thread(self._load)
        except OciAuditError as error:
            self.problem = str(error)
            return False
        self.problem = None
        if loaded.token == self._current.token:
            return False
        self._current = loaded
        self.number += 1
        return True

    def _is_due(self, now_seconds: float) -> bool:
        claims = self._current.claims
        if claims.exp is None:
            return False
        margin = _MARGIN_SECONDS
        if claims.iat is not None:
            margin = min(margin, max(0.0, claims.exp - claims.iat) / _SHARE_OF_LIFE)
        pause = min(_TRY_AGAIN_SECONDS, margin)
        return now_seconds >= claims.exp - margin and now_seconds >= self._tried_at + pause
