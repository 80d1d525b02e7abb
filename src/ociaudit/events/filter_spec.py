"""What a filter says: the form in which filters are typed, stored and stated.

Owns: `Criteria` and `FilterSpec`, and the instants between which a filter's events must lie.
Must not: decide for an event.

Invariants
- Everything is kept as typed; two filters typed alike are equal.
- A text stands for a list of one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

from ociaudit.errors import UsageError
from ociaudit.events.fields import UNREADABLE_INSTANT, read_instant

_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_GERMAN_DAY = re.compile(r"(\d\d)\.(\d\d)\.(\d\d)", re.ASCII)
_OFFSET = re.compile(r"([Zz]|[+-]\d\d:?\d\d)$", re.ASCII)
_WORDS = {
    "presets": "preset",
    "event_types": "event type",
    "event_names": "event name",
    "principals": "principal",
    "addresses": "address",
    "compartment_names": "compartment",
    "resources": "resource",
    "outcomes": "outcome",
    "statuses": "status",
}


class Criteria(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is looked for; each field holds alternatives as typed, an empty one says nothing.

    `event_types` are regular expressions searched in the event type, with case. The other texts are shell-style
    patterns (`*`, `?`, `[…]`) for a whole value, without case. `addresses`, `outcomes`, `statuses` and `presets` may be
    comma lists.
    """

    presets: tuple[str, ...] = ()
    event_types: tuple[str, ...] = ()
    event_names: tuple[str, ...] = ()
    principals: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    compartment_names: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Take a text for a list of one, and a list for a tuple."""
        for name in Criteria.__struct_fields__:
            value: str | Sequence[str] = getattr(self, name)
            values = (value,) if isinstance(value, str) else tuple(value)
            msgspec.structs.force_setattr(self, name, values)

    def __str__(self) -> str:
        """Show it to a person."""
        return "; ".join(self._describe()) or "(all)"

    def _describe(self) -> Iterator[str]:
        for name, word in _WORDS.items():
            values = getattr(self, name)
            if values:
                yield f"{word} {' or '.join(map(repr, values))}"


class FilterSpec(Criteria, frozen=True, kw_only=True, omit_defaults=True):
    """A whole filter: what is looked for, what is left out, and between which times an event happened.

    `event_after` and `event_before` are days (their beginning) or times with an offset; the first is included, the
    second is not.
    """

    event_after: str | None = None
    event_before: str | None = None
    exclude: Criteria = Criteria()

    def _describe(self) -> Iterator[str]:
        yield from super()._describe()
        if self.event_after is not None:
            yield f"event time from {self.event_after!r}"
        if self.event_before is not None:
            yield f"event time before {self.event_before!r}"
        yield from (f"not {text}" for text in self.exclude._describe())  # noqa: SLF001 - of its own kind


def read_bounds(spec: FilterSpec) -> tuple[int | None, int | None]:
    """Return the instants between which an event must have happened, the first included.

    Raises:
        UsageError: one cannot be read, or there is no time between them.
    """
    after = _read_moment(spec.event_after, "after") if spec.event_after is not None else None
    before = _read_moment(spec.event_before, "before") if spec.event_before is not None else None
    if after is not None and before is not None and after >= before:
        raise UsageError(
            f"no event can lie after {spec.event_after!r} and before {spec.event_before!r}",
            hint="exchange them, or choose a later --event-before",
        )
    return after, before


def _read_moment(text: str, what: str) -> int:
    """Return the instant of a day's beginning, or of a time with an offset."""
    stripped = text.strip()
    german = _GERMAN_DAY.fullmatch(stripped)
    if german:
        stripped = f"20{german[3]}-{german[2]}-{german[1]}"
    if _DAY.fullmatch(stripped):
        stripped += "T00:00:00Z"
    instant = read_instant(stripped) if _OFFSET.search(stripped) else UNREADABLE_INSTANT
    if instant == UNREADABLE_INSTANT:
        raise UsageError(
            f"the time {text!r} of events to come {what} cannot be read",
            hint="write a day (2025-12-01 or 01.12.25) or a time with its offset (2025-12-01T08:00:00Z); "
            "an age would mean something else in every run",
        )
    return instant
