"""What a run tells whoever watches it. Owns: the interface. Must not: print.

A stop asked for from outside, by a signal or by closing a stream.

Owns: passing the wish on. Must not: install signal handlers; only `cli` does.

What an export is to do, and with whose help. Owns: the two argument bundles of the job.

The service as a job sees it: one connection, and what can be asked through it.

Owns: how the readers are put together from the tools. Must not: ask anything.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from ociaudit.client.audit import AuditReader, ParsePage
from ociaudit.client.http_client import Client, RetryPolicy
from ociaudit.client.identity import IdentityReader
from ociaudit.client.memory_budget import MemoryBudget
from ociaudit.client.network import Endpoints
from ociaudit.client.rate_limiter import RateLimiter
from ociaudit.client.signer import Credentials
from ociaudit.client.transport import FinishedRequest, Transport, TransportLimits
from ociaudit.clock import Clock
from ociaudit.errors import Interrupted, RequestError, UsageError
from ociaudit.events.event import parse_page
from ociaudit.events.filters import FilterSpec
from ociaudit.operations.resume import ResumeOptions
from ociaudit.planning.shard import Gap, Shard, Target
from ociaudit.planning.window import Window
from ociaudit.storage.run_dir import ExportArguments, TimeKind


class Callbacks:
    """Told of everything that happens; this one does nothing with it."""

    def on_notice(self, text: str) -> None:
        """Something a person should know, and that does not stop the run."""

    def on_plan(self, window: Window, targets: Sequence[Target], shard_count: int) -> None:
        """The scope is known; so many shards will be asked at least."""

    def on_request(self, request: FinishedRequest) -> None:
        """A try of a request has ended, well or not."""

    def on_rate(self, region: str, *, in_flight: int, ceiling: int, per_second: float | None) -> None:
        """How fast a region is asked has changed: requests under way, how many may be, and the pace kept, if any."""

    def on_split(self, shard: Shard, piece_count: int) -> None:
        """A dense shard is asked in so many pieces instead."""

    def on_shard_begun(self, shard: Shard) -> None:
        """The first question of a shard goes out; told again where it is asked anew."""

    def on_page(self, shard: Shard, *, scanned: int, kept: int) -> None:
        """A page of a shard has arrived: events scanned, and those that passed the filter."""

    def on_shard_done(self, shard: Shard) -> None:
        """A shard is complete."""

    def on_gap(self, gap: Gap) -> None:
        """A shard did not come back complete."""

    def on_retry(self, error: RequestError, wait_seconds: float) -> None:
        """A request failed and is repeated after a wait."""

    def on_publish(self, event_count: int) -> None:
        """All shards are answered; so many events in the spool are being put in order."""

    def on_written(self, event_count: int) -> None:
        """So many events more stand in the output."""


class Cancellation:
    """Remembers that somebody wants the run to stop, and wakes whoever waits."""

    def __init__(self) -> None:
        """Nobody wants to stop yet."""
        self.signal_number: int | None = None
        self._wake: Callable[[], object] | None = None

    def ask(self, signal_number: int) -> None:
        """Ask the run to stop; safe to call from a signal handler, and again."""
        self.signal_number = signal_number
        if self._wake is not None:
            self._wake()

    def attach(self, wake: Callable[[], object] | None) -> None:
        """Call `wake` when a stop is asked for; at once, if it has been asked for already."""
        self._wake = wake
        if wake is not None and self.signal_number is not None:
            wake()

    def check(self, moment: str = "") -> None:
        """Stop here if that was asked for; `moment` says in the message how far the run had got.

        Raises:
            Interrupted: it was.
        """
        if self.signal_number is not None:
            raise Interrupted(f"interrupted {moment}".rstrip(), signal_number=self.signal_number)


CountedName = Literal["event_type", "event_name"]
DEFAULT_LATE = "1h"
"""How long after the end of a range of event times processing is asked for."""


@dataclass(frozen=True, slots=True)
class ExportOrder:
    """One export.

    `output` None means stdout. `manifest` None puts it beside the output. `waived` are compartments whose
    denial is known and does not make the run incomplete. `tally` is what is counted over all scanned events.
    """

    arguments: ExportArguments
    output: Path | None
    manifest: Path | None = None
    max_window_days: int = 14
    resume_options: ResumeOptions = field(default_factory=ResumeOptions)
    waived: frozenset[str] = frozenset()
    tally: CountedName | None = None
    signing_key: Path | None = None
    confirm_empty: bool = False
    """Ask shards that brought no event once more at the end."""
    deadline_seconds: float | None = None
    """How long may be asked; what is not answered by then becomes gaps."""


@dataclass(frozen=True, slots=True)
class RunContext:
    """The collaborators of a run."""

    credentials: Credentials
    endpoints: Endpoints
    clock: Clock
    callbacks: Callbacks = field(default_factory=Callbacks)
    stop: Cancellation = field(default_factory=Cancellation)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    limits: TransportLimits = field(default_factory=TransportLimits)
    proxies: Mapping[str, str] = field(default_factory=dict)
    """Scheme to proxy URL, and `no` for the exceptions, as `urllib.request.getproxies_environment` gives them."""
    ssl_context: ssl.SSLContext | None = None
    """Which certificates are trusted; None for those that the system trusts."""
    stdout: int = 1
    """The descriptor that `output=None` writes to."""


def split_filter(event_types: Sequence[str], spec: FilterSpec | None) -> dict[str, Any]:
    """Return the arguments that a filter is stored in; event types stand apart, wherever they were named."""
    spec = spec or FilterSpec()
    return {
        "event_types": (*event_types, *spec.event_types),
        "filter": msgspec.structs.replace(spec, event_types=()),
    }


def check_time_kind(text: str) -> TimeKind:
    """Return which time a range means.

    Raises:
        UsageError: the text is no kind of time.
    """
    folded = text.strip().casefold()
    if folded == "event-time":
        return "event-time"
    if folded == "processed-time":
        return "processed-time"
    raise UsageError(f"a range cannot be one of {text!r}", hint="write --by event-time, or leave --by away")


def choose_time(by: TimeKind, late: str | None) -> dict[str, Any]:
    """Return the arguments that say which time a range means.

    Raises:
        UsageError: `late` is given, and the range is one of processed time.
    """
    if by == "event-time":
        return {"by": by, "late": late if late is not None else DEFAULT_LATE}
    if late is not None:
        raise UsageError(
            "late events are waited for only by event time", hint="add --by event-time, or leave --late away"
        )
    return {}


@dataclass(frozen=True, slots=True)
class Service:
    """Audit and Identity over one transport, asked in the name of `credentials`."""

    audit: AuditReader
    identity: IdentityReader
    credentials: Credentials
    transport: Transport
    rate_limiter: RateLimiter


@contextlib.asynccontextmanager
async def connect(context: RunContext, *, cut: ParsePage = parse_page) -> AsyncIterator[Service]:
    """Open the connections for the time of the block; `cut` makes events of a page's body."""
    rate_limiter = RateLimiter(
        clock=context.clock,
        max_in_flight=context.limits.max_in_flight,
        max_per_second=context.limits.max_per_second,
        on_rate=lambda endpoint, limit: context.callbacks.on_rate(
            endpoint, in_flight=limit.in_flight, ceiling=limit.allowed_in_flight, per_second=limit.per_second
        ),
    )
    async with Transport(
        context.credentials,
        clock=context.clock,
        limits=context.limits,
        proxies=context.proxies,
        ssl_context=context.ssl_context,
    ) as transport:
        client = Client(
            transport,
            rate_limiter=rate_limiter,
            clock=context.clock,
            budget=MemoryBudget(context.limits.max_held_bytes, max_responses=context.limits.max_in_flight),
            retry=context.retry,
            first_response_seconds=context.limits.first_response_seconds,
            on_retry=context.callbacks.on_retry,
            on_request=context.callbacks.on_request,
        )
        try:
            yield Service(
                audit=AuditReader(client, context.endpoints, cut=cut),
                identity=IdentityReader(client, context.endpoints, context.credentials),
                credentials=context.credentials,
                transport=transport,
                rate_limiter=rate_limiter,
            )
        finally:
            await rate_limiter.close()
