"""The service as a job sees it: one connection, and what can be asked through it.

Owns: how the readers are put together from the tools. Must not: ask anything.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from ociaudit.events.page import cut_page
from ociaudit.jobs.order import Tools
from ociaudit.source.audit import AuditReader, CutPage
from ociaudit.source.byte_budget import ByteBudget
from ociaudit.source.client import Client
from ociaudit.source.credentials import Credentials
from ociaudit.source.gate import Gate
from ociaudit.source.identity import IdentityReader
from ociaudit.source.transport import Transport


@dataclass(frozen=True, slots=True)
class Service:
    """Audit and Identity over one transport, asked in the name of `credentials`."""

    audit: AuditReader
    identity: IdentityReader
    credentials: Credentials
    transport: Transport
    gate: Gate


@contextlib.asynccontextmanager
async def connect(tools: Tools, *, cut: CutPage = cut_page) -> AsyncIterator[Service]:
    """Open the connections for the time of the block; `cut` makes events of a page's body."""
    gate = Gate(
        clock=tools.clock,
        max_in_flight=tools.limits.max_in_flight,
        max_per_second=tools.limits.max_per_second,
        on_pace=lambda endpoint, pace: tools.observer.on_pace(
            endpoint, in_flight=pace.in_flight, ceiling=pace.allowed_in_flight, per_second=pace.per_second
        ),
    )
    async with Transport(
        tools.credentials,
        clock=tools.clock,
        limits=tools.limits,
        proxies=tools.proxies,
        ssl_context=tools.ssl_context,
    ) as transport:
        client = Client(
            transport,
            gate=gate,
            clock=tools.clock,
            budget=ByteBudget(tools.limits.max_held_bytes, max_answers=tools.limits.max_in_flight),
            retry=tools.retry,
            first_answer_seconds=tools.limits.first_answer_seconds,
            on_retry=tools.observer.on_retry,
            on_request=tools.observer.on_request,
        )
        try:
            yield Service(
                audit=AuditReader(client, tools.endpoints, cut=cut),
                identity=IdentityReader(client, tools.endpoints, tools.credentials),
                credentials=tools.credentials,
                transport=transport,
                gate=gate,
            )
        finally:
            await gate.close()
