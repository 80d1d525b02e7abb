"""What a failed question means: a gap, or the end of the run.

Owns: that judgement, and the list of gaps it comes to. Must not: ask shards.

Invariants
- Every shard given ends complete or as part of a gap; nothing is left out in silence.
- A place that was denied once is not asked again; its gap is all of it that is not covered.
- 401 is a gap of its region only while the key is good elsewhere and the region never answered;
  otherwise the sign-in is over and the run stops (`SignInRejected`), resumable.
- A region that never answered is given up after `_SILENT_SHARDS` shards: each takes eight attempts, and minutes.
- Coverage and gaps together are the plan, whatever went wrong.
- When nothing at all was answered, not even with a no, now or earlier, the run stops (`ServiceUnreachable`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, TypeVar

from ociaudit.errors import Refused, RequestError, ServiceUnreachable
from ociaudit.jobs.observer import Observer
from ociaudit.plan.coverage import Coverage
from ociaudit.plan.shard import Gap, Place, Shard
from ociaudit.plan.window import Window
from ociaudit.source.credentials import Credentials
from ociaudit.source.identity import explain_rejection

Key = TypeVar("Key")
_SILENT_SHARDS = 3
_UNAUTHORIZED = 401
_DENIED_STATUSES = frozenset({403, 404})


class KeyCheck(Protocol):
    """Knows whether the key still works anywhere."""

    async def is_sign_in_accepted(self) -> bool:
        """Ask."""
        ...


class GapBook:
    """Takes the failures of a sweep and makes gaps of them."""

    def __init__(
        self, *, identity: KeyCheck, credentials: Credentials, observer: Observer, has_answered_before: bool
    ) -> None:
        """Begin without gaps; `has_answered_before` tells whether an earlier run got answers."""
        self._identity = identity
        self._credentials = credentials
        self._observer = observer
        self._failed: list[Gap] = []
        self._denied: dict[Place, RequestError] = {}
        self._dead_regions: dict[str, RequestError] = {}
        self._answered_regions: set[str] = set()
        self._silent_shards: Counter[str] = Counter()
        self._silent_regions: dict[str, RequestError] = {}
        self._has_answered = has_answered_before

    def note_answer(self, region: str) -> None:
        """A page of this region has come."""
        self._answered_regions.add(region)
        self._has_answered = True

    def is_closed(self, place: Place) -> bool:
        """Tell whether asking this place is in vain."""
        return place in self._denied or place.region in self._dead_regions or place.region in self._silent_regions

    async def take_failure(self, shard: Shard, error: RequestError) -> None:
        """Make a gap of a shard that did not come.

        Raises:
            SignInRejected: the key is not accepted any more.
        """
        place = shard.place
        if isinstance(error, Refused) and error.is_oci:
            self._has_answered |= not error.retryable  # a window beyond retention is a gap, not a silent service
            if error.status == _UNAUTHORIZED:
                if place.region in self._answered_regions or not await self._identity.is_sign_in_accepted():
                    raise explain_rejection(error, self._credentials) from error
                self._close(self._dead_regions, place.region, shard, error)
                return
            if error.status in _DENIED_STATUSES:
                self._close(self._denied, place, shard, error)
                return
        gap = _make_gap(shard, "failed", error)
        self._failed.append(gap)
        self._observer.on_gap(gap)
        if place.region not in self._answered_regions:
            self._silent_shards[place.region] += 1
            if self._silent_shards[place.region] >= _SILENT_SHARDS:
                self._silent_regions.setdefault(place.region, error)

    def list_gaps(
        self, places: Sequence[Place], window: Window, coverage: Mapping[Place, Coverage], *, unasked: str | None = None
    ) -> tuple[Gap, ...]:
        """Return the gaps in canonical order; `unasked` says why what was not asked was not.

        Raises:
            ServiceUnreachable: no shard was ever answered or refused, and at least one failed.
        """
        if self._failed and not self._has_answered:
            raise ServiceUnreachable(f"no question was answered; the last one: {self._failed[-1].reason}")
        failed: dict[Place, list[Gap]] = {}
        for gap in self._failed:
            failed.setdefault(gap.place, []).append(gap)
        gaps = list(self._failed)
        for place in places:
            error = self._denied.get(place) or self._dead_regions.get(place.region)
            silence = self._silent_regions.get(place.region)
            known = Coverage(coverage.get(place, Coverage()).windows)
            for gap in failed.get(place, ()):
                known.add(gap.window)
            for missing in known.find_missing(window):
                if error is not None:
                    gaps.append(_make_gap(Shard(place, missing), "denied", error))
                elif silence is not None:
                    gaps.append(_make_gap(Shard(place, missing), "failed", silence))
                else:  # without a deadline this cannot be; if it is all the same, it is a gap and not a silence
                    gaps.append(Gap(place, missing, "failed", unasked or "it was not asked, which is a bug"))
        return tuple(sorted(gaps, key=lambda gap: (gap.place, gap.window)))

    def _close(self, closed: dict[Key, RequestError], key: Key, shard: Shard, error: RequestError) -> None:
        """Ask here no more; said once, however many questions were under way."""
        if key not in closed:
            closed[key] = error
            self._observer.on_gap(_make_gap(shard, "denied", error))


def _make_gap(shard: Shard, kind: Literal["denied", "failed"], error: RequestError) -> Gap:
    return Gap(shard.place, shard.window, kind, str(error), error.request_id)
