"""The service as a job sees it: one connection, and what can be asked through it.

Owns: how the readers are put together from the tools. Must not: ask anything.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from ociaudit.jobs.order import Tools
from ociaudit.source.audit import AuditReader
from ociaudit.source.credentials import Credentials
from ociaudit.source.identity import IdentityReader
from ociaudit.source.transport import Transport


@dataclass(frozen=True, slots=True)
class Service:
    """Audit and Identity over one transport, asked in the name of `credentials`."""

    audit: AuditReader
    identity: IdentityReader
    credentials: Credentials
    transport: Transport


@contextlib.asynccontextmanager
async def connect(tools: Tools) -> AsyncIterator[Service]:
    """Open the connections for the time of the block."""
    async with Transport(
        tools.credentials,
        clock=tools.clock,
        retry=tools.retry,
        limits=tools.limits,
        on_retry=tools.observer.on_retry,
        proxies=tools.proxies,
        ssl_context=tools.ssl_context,
    ) as transport:
        yield Service(
            audit=AuditReader(transport, tools.endpoints),
            identity=IdentityReader(transport, tools.endpoints, tools.credentials),
            credentials=tools.credentials,
            transport=transport,
        )
