"""Shards, places, bookmarks and gaps: one question, how far it got, and what it means when it is not answered.

Owns: these words. Must not: ask.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from ociaudit.planning.window import Window


class Target(msgspec.Struct, frozen=True, order=True):
    """A region and a compartment: what one ListEvents call can see."""

    region: str
    compartment: str


class Shard(msgspec.Struct, frozen=True, order=True):
    """One question: a place and a window."""

    target: Target
    window: Window

    def __str__(self) -> str:
        """Name the question for a person."""
        return f"{self.target.region} {self.target.compartment} {self.window}"


CONFIRMING_ATTEMPT = 1_000_000
"""Attempts from this number on request a shard again that returned no event (`--confirm-empty`)."""


class PageCursor(msgspec.Struct, frozen=True):
    """Where to go on in a shard: behind its last committed page (`attempt`, `page`), with the token of the next.

    Without a token it is the beginning of that attempt.
    """

    attempt: int
    page: int
    token: str | None


class Gap(msgspec.Struct, frozen=True, order=True):
    """A part of the plan that did not come back complete.

    `denied`: the service said no to this place. `failed`: every try of a request failed.
    `reason` is one sentence; `request_id` is the `opc-request-id` of the last answer, if there was one.
    """

    target: Target
    window: Window
    kind: Literal["denied", "failed"]
    reason: str
    request_id: str | None = None
