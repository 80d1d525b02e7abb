"""Who asks: something that signs requests, and knows in whose name.

Owns: what every kind of sign-in looks like to the rest. Must not: read files, or show a key or token.

Invariants
- Nothing of the key, the pass phrase or the token stands in a message or a repr.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any, Literal, get_args

from ociaudit.source.renewal import RenewableSigner

AuthKind = Literal[
    "api_key", "security_token", "instance_principal", "resource_principal", "delegation_token", "oke_workload_identity"
]
AUTH_KINDS: tuple[AuthKind, ...] = get_args(AuthKind)
_USER_KINDS = frozenset[AuthKind]({"api_key", "security_token", "delegation_token"})
_WORKLOAD = (
    "where all {request.principal.type = 'workload', request.principal.namespace = '<namespace>', "
    "request.principal.service_account = '<account>', request.principal.cluster_id = '<cluster OCID>'}"
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A sign-in ready to use. `sign` adds the headers of a signed request to what it is given.

    `principal` is who asks, as Oracle names it: an OCID where that is known. `fingerprint` is that of an API key,
    None for tokens. `profile` is that of the configuration, or the kind where none is used. `rejection_hint` is
    what to do when the service does not accept the signature.
    """

    tenancy: str
    region: str
    principal: str
    fingerprint: str | None
    profile: str
    kind: AuthKind
    _signer: Callable[[Any], Any] = field(repr=False)
    rejection_hint: str = ""

    def sign(self, *, url: str, host: str, path: str, now_seconds: float) -> dict[str, str]:
        """Return the headers of a signed GET.

        `host` is host[:port] and `path` path?query, both exactly as they go on the wire; `now_seconds` is
        the time since the epoch that the signature states.
        """
        headers = {"date": formatdate(now_seconds, usegmt=True), "host": host}
        self._signer(_UnsentRequest(url=url, path_url=path, headers=headers))
        return headers

    async def prepare(self, now_seconds: float) -> int:
        """Renew a token that is about to end, and return the number of the signer that signs next."""
        if not isinstance(self._signer, RenewableSigner):
            return 0
        await self._signer.renew_early(now_seconds)
        return self._signer.number

    async def renew(self, number: int) -> bool:
        """After a 401 to the signer of this number: tell whether another one signs now, so that asking again helps."""
        return isinstance(self._signer, RenewableSigner) and await self._signer.renew_after(number)

    def explain_state(self) -> str:
        """Return what is known of a token that was refused: that it has ended, or why it could not be renewed."""
        if not isinstance(self._signer, RenewableSigner):
            return ""
        words = []
        ended_at = self._signer.ended_at
        if ended_at is not None:
            words.append(f"the token ended at {datetime.fromtimestamp(ended_at, UTC):%Y-%m-%dT%H:%M:%SZ}")
        if self._signer.problem:
            words.append(f"it could not be renewed: {self._signer.problem}")
        return "; ".join(words)

    def state_policy(self, permission: str) -> str:
        """Return the IAM statement that grants a permission, such as "read audit-events", to whoever this is."""
        if self.kind == "oke_workload_identity":
            return f"Allow any-user to {permission} in tenancy {_WORKLOAD}"
        grantee = "group <group>" if self.kind in _USER_KINDS else "dynamic-group <group>"
        return f"Allow {grantee} to {permission} in tenancy"


@dataclass(slots=True)
class _UnsentRequest:
    """The part of a prepared `requests` request that the SDK's signers look at."""

    url: str
    path_url: str
    headers: dict[str, str]
    method: str = "GET"
    body: None = None
