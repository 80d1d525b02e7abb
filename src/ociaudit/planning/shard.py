"""Targets, shards, page cursors and gaps: the units in which events are fetched and their absence is recorded."""

from __future__ import annotations

from typing import Literal

import msgspec

from ociaudit.planning.window import Window

CONFIRMING_ATTEMPT = 1_000_000
"""The number of the first attempt that fetches a shard again because an earlier one returned no events."""


class Target(msgspec.Struct, frozen=True, order=True):
    """A region and a compartment: the scope of one ListEvents request."""

    region: str
    compartment: str


class Shard(msgspec.Struct, frozen=True, order=True):
    """A target and a window: the unit of fetching."""

    target: Target
    window: Window

    def __str__(self) -> str:
        """Return region, compartment and window, for messages."""
        return f"{self.target.region} {self.target.compartment} {self.window}"


class PageCursor(msgspec.Struct, frozen=True):
    """Where a shard continues: after its last committed page (`attempt`, `page`), with the token of the next page.

    Without a token, it continues at the first page of that attempt.
    """

    attempt: int
    page: int
    token: str | None


class Gap(msgspec.Struct, frozen=True, order=True):
    """A part of the plan that did not come back complete.

    `denied`: the service refused access to the target. `failed`: every attempt ended in an error.
    `reason` is one sentence. `request_id` is the `opc-request-id` of the last response, if there was one.
    """

    target: Target
    window: Window
    kind: Literal["denied", "failed"]
    reason: str
    request_id: str | None = None
