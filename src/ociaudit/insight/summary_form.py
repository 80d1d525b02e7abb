"""The form of a summary, as `oci-audit summary --json` prints it.

Owns: its fields. Must not: fill them. Strings are the events' own: hostile on a screen; times are RFC 3339 in UTC.
"""

from __future__ import annotations

import msgspec

from ociaudit.store.manifest import GapEntry


class Coverage(msgspec.Struct, frozen=True):
    """What the manifest beside a file states; all but the first two are empty without one.

    `state` is `complete`, `incomplete`, `unknown` (no manifest), or `altered` (the manifest tells another size).
    """

    file: str
    state: str
    asked_start: str | None = None
    asked_end: str | None = None
    places: int = 0
    places_with_answers: int = 0
    gaps: tuple[GapEntry, ...] = ()
    waived_gaps: int = 0
    provisional: int = 0
    filtered: int = 0


class Seen(msgspec.Struct, frozen=True):
    """A principal with its addresses, or an address with its principals (`with_`, by first seen, at most twenty)."""

    name: str
    events: int
    failures: int
    first_seen: str | None
    last_seen: str | None
    with_: tuple[str, ...] = msgspec.field(name="with")
    with_total: int = 0


class Failure(msgspec.Struct, frozen=True):
    """What failed how often."""

    event_name: str
    status: str
    events: int


class ChangeEntry(msgspec.Struct, frozen=True):
    """One change to IAM."""

    time: str | None
    event_name: str
    principal: str
    address: str
    resource: str
    event_id: str | None


class StoryLine(msgspec.Struct, frozen=True):
    """A line of a finding's story."""

    time: str | None
    text: str
    event_id: str | None


class Finding(msgspec.Struct, frozen=True):
    """Something worth a look, and why; `weight` is the sum of the rules' weights."""

    principal: str
    address: str
    first: str | None
    last: str | None
    events: int
    weight: int
    reasons: tuple[str, ...]
    story: tuple[StoryLine, ...]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The whole summary."""

    files: tuple[Coverage, ...]
    events: int
    raw_bytes: int
    first_event_time: str | None
    last_event_time: str | None
    untimed: int
    disordered: int
    findings: tuple[Finding, ...]
    event_names: dict[str, int]
    """The most frequent ones, as `event_types`."""
    event_types: dict[str, int]
    principals: tuple[Seen, ...]
    addresses: tuple[Seen, ...]
    principals_total: int
    addresses_total: int
    outcomes: dict[str, int]
    statuses: dict[str, int]
    failures: tuple[Failure, ...]
    sign_ins: dict[str, int]
    sign_ins_by_day: dict[str, dict[str, int]]
    new_since: str | None
    new_principals: tuple[Seen, ...]
    new_addresses: tuple[Seen, ...]
    new_principals_total: int
    new_addresses_total: int
    iam_changes: int
    iam_change_names: dict[str, int]
    iam_changes_latest: tuple[ChangeEntry, ...]
    limits: tuple[str, ...]
    """What is not exact because there was too much of it."""
