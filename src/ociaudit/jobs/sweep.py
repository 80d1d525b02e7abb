"""Asking every shard of a plan.

Owns: what a failed question means: a gap, or the end of the run. Must not: keep events, or know the disk.

Invariants
- Every shard given ends complete or as part of a gap; nothing is left out in silence.
- A place that was denied once is not asked again; its gap is all of it that is not covered.
- 401 is a gap of its region only while the key is good elsewhere and the region never answered;
  otherwise the sign-in is over and the run stops (`SignInRejected`), resumable.
- When nothing at all was answered, not even with a no, the run stops (`ServiceUnreachable`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Literal, Protocol

from ociaudit.errors import Refused, RequestError, ServiceUnreachable
from ociaudit.jobs.observer import Observer
from ociaudit.plan.coverage import Coverage
from ociaudit.plan.shard import CONFIRMING_CHAIN, Bookmark, Gap, Place, Shard
from ociaudit.plan.window import Window
from ociaudit.source.audit import AuditReader, Page
from ociaudit.source.credentials import Credentials
from ociaudit.source.identity import IdentityReader, explain_rejection

_UNAUTHORIZED = 401
_DENIED_STATUSES = frozenset({403, 404})


class PageSink(Protocol):
    """Takes the pages of a sweep."""

    async def take_page(self, page: Page) -> None:
        """Keep the page; the next one is asked for meanwhile."""
        ...


class Sweep:
    """Asks shards one after the other and gives their pages to a sink."""

    def __init__(
        self,
        *,
        audit: AuditReader,
        identity: IdentityReader,
        credentials: Credentials,
        sink: PageSink,
        window: Window,
        covered: Mapping[Place, Coverage],
        observer: Observer,
    ) -> None:
        """Sweep towards `window`; `covered` is what earlier runs hold already."""
        self._audit = audit
        self._identity = identity
        self._credentials = credentials
        self._sink = sink
        self._window = window
        self._observer = observer
        self.coverage = {place: Coverage(coverage.windows) for place, coverage in covered.items()}
        self._failed: list[Gap] = []
        self._denied: dict[Place, RequestError] = {}
        self._dead_regions: dict[str, RequestError] = {}
        self._answered_regions: set[str] = set()
        self._is_refusing = False
        self._places: set[Place] = set()
        self.empty: list[Shard] = []
        """Shards that were answered complete in this run and brought no event."""

    async def run(self, shards: Iterable[tuple[Shard, Bookmark | None]]) -> tuple[Gap, ...]:
        """Ask every (shard, bookmark to go on from) and return the gaps, in canonical order.

        Raises:
            SignInRejected: the key is not accepted any more.
            ServiceUnreachable: no shard was answered or refused, and at least one failed.
        """
        for shard, bookmark in shards:
            self._places.add(shard.place)
            if shard.place in self._denied or shard.place.region in self._dead_regions:
                continue
            try:
                await self._ask(shard, bookmark)
            except RequestError as error:
                await self._take_failure(shard, error)
        if self._failed and not self._answered_regions and not self._is_refusing:
            raise ServiceUnreachable(f"no question was answered; the last one: {self._failed[-1].reason}")
        return self._list_gaps()

    async def confirm_empty(self, shards: Iterable[Shard]) -> tuple[Gap, ...]:
        """Ask shards that brought no event once more; return all gaps, those among them that did not answer now.

        Raises:
            SignInRejected, ServiceUnreachable: as `run`.
        """
        asked = list(shards)
        for shard in asked:  # until it has answered again, nothing is known of it
            self.coverage[shard.place] = self.coverage.get(shard.place, Coverage()).without(shard.window)
        return await self.run([(shard, Bookmark(CONFIRMING_CHAIN, 0, None)) for shard in asked])

    async def _ask(self, shard: Shard, bookmark: Bookmark | None) -> None:
        scanned = 0
        async with contextlib.aclosing(self._audit.follow_shard(shard, bookmark=bookmark)) as pages:
            async for page in pages:
                self._answered_regions.add(shard.place.region)
                await self._sink.take_page(page)
                scanned += len(page.events)
        self.coverage.setdefault(shard.place, Coverage()).add(shard.window)
        if not scanned and (bookmark is None or bookmark.chain < CONFIRMING_CHAIN):
            self.empty.append(shard)
        self._observer.on_shard_done(shard)

    async def _take_failure(self, shard: Shard, error: RequestError) -> None:
        region = shard.place.region
        if isinstance(error, Refused) and error.is_oci:
            self._is_refusing |= not error.retryable  # a window beyond retention is a gap, not a silent service
            if error.status == _UNAUTHORIZED:
                if region in self._answered_regions or not await self._identity.is_sign_in_accepted():
                    raise explain_rejection(error, self._credentials) from error
                self._dead_regions[region] = error
                self._observer.on_gap(_make_gap(shard, "denied", error))
                return
            if error.status in _DENIED_STATUSES:
                self._denied[shard.place] = error
                self._observer.on_gap(_make_gap(shard, "denied", error))
                return
        gap = _make_gap(shard, "failed", error)
        self._failed.append(gap)
        self._observer.on_gap(gap)

    def _list_gaps(self) -> tuple[Gap, ...]:
        gaps = list(self._failed)
        for place in self._places:
            error = self._denied.get(place) or self._dead_regions.get(place.region)
            if error is None:
                continue
            known = Coverage(self.coverage.get(place, Coverage()).windows)
            for gap in self._failed:
                if gap.place == place:
                    known.add(gap.window)
            gaps += (_make_gap(Shard(place, missing), "denied", error) for missing in known.find_missing(self._window))
        return tuple(sorted(gaps, key=lambda gap: (gap.place, gap.window)))


def _make_gap(shard: Shard, kind: Literal["denied", "failed"], error: RequestError) -> Gap:
    return Gap(shard.place, shard.window, kind, str(error), error.request_id)
