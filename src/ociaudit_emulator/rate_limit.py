"""The service's rate limit: so many requests per second and region.

Owns: the count of what is allowed now.
Must not: read a clock by itself.
"""

from __future__ import annotations

from collections.abc import Callable


class RateLimit:
    """One bucket per region, filled steadily; it holds one second's worth of requests."""

    def __init__(self, per_second: float, read_monotonic_seconds: Callable[[], float]) -> None:
        """Begin with full buckets."""
        self._per_second = per_second
        self._capacity = max(per_second, 1.0)
        self._read_seconds = read_monotonic_seconds
        self._buckets: dict[str, tuple[float, float]] = {}

    def try_take(self, region: str) -> bool:
        """Take one request from a region's bucket; say whether there was one left."""
        now = self._read_seconds()
        left, filled_at = self._buckets.get(region, (self._capacity, now))
        left = min(self._capacity, left + (now - filled_at) * self._per_second)
        is_allowed = left >= 1.0
        self._buckets[region] = (left - 1.0 if is_allowed else left, now)
        return is_allowed
