"""The scripted faults: which requests they hit, how often, and what has fired.

Owns: the table of entries and their matching.
Must not: know what a fault does (that is `fault_kinds` and `page_faults`).

Invariants:
- a request is hit by one fault at most: the first entry, in the order given, that matches,
  is not completed, has skipped as many requests as it should and can be applied;
- an entry counts only what it did: a fault that could not be applied has not fired.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ociaudit_emulator.answer import Answer, Page
from ociaudit_emulator.exchange import Exchange, FaultOptions, FaultRequestError
from ociaudit_emulator.fault_kinds import FAULT_KINDS
from ociaudit_emulator.instants import MS_PER_MINUTE, parse_instant_ms
from ociaudit_emulator.paging import Cursor, TokenCodec
from ociaudit_emulator.routing import Call, Operation

_ANY = "*"
_ENTRY_KEYS = frozenset({"operation", "match", "skip", "times", "fault"})
_PAGE_CHOICES = frozenset({"first", "later", "any"})
_TIME_MATCHES = frozenset({"startTime", "endTime", "startBefore", "startFrom", "covers"})
_MATCH_KEYS = _TIME_MATCHES | {"region", "compartmentId", "page"}
_PROBED = Cursor("probe")
# Every new fault is tried on this exchange, so that wrong options are refused when they are sent.
_PROBE = Exchange(
    Call("", Operation.LIST_EVENTS),
    Answer(b'[{"eventId":"probe"}]'),
    Page([b'{"eventId":"probe"}'], _PROBED, None),
    TokenCodec(0),
    is_gzip_accepted=True,
    read_elsewhere=lambda _count: (),
)


@dataclass(slots=True)
class FaultEntry:
    """One entry of the table: what it hits, and what it has done so far."""

    operation: str
    match: Mapping[str, str]
    skip: int
    times: int | None
    kind: str
    options: FaultOptions
    seen: int = 0
    fired: int = 0
    minutes: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_completed(self) -> bool:
        """Say whether the fault has fired as often as it should."""
        return self.times is not None and self.fired >= self.times

    def describe(self) -> dict[str, object]:
        """Give the entry as a JSON object, with what it has done."""
        return {
            "operation": self.operation,
            "match": dict(self.match),
            "skip": self.skip,
            "times": self.times,
            "fault": {"kind": self.kind, **self.options.values},
            "seen": self.seen,
            "fired": self.fired,
            "completed": self.is_completed,
        }

    def is_match(self, call: Call) -> bool:
        """Say whether the entry is about such a request."""
        if self.operation not in {_ANY, call.operation}:
            return False
        return all(self._is_met(name, value, call) for name, value in self.match.items())

    def _is_met(self, name: str, value: str, call: Call) -> bool:
        """Say whether one condition holds."""
        if name == "region":
            return call.region == value
        if name == "compartmentId":
            return value in {call.parameters.get("compartmentId"), call.resource_id}
        if name == "page":
            return value == "any" or (value == "later") == bool(call.parameters.get("page"))
        return self._is_time_met(name, call)

    def _is_time_met(self, name: str, call: Call) -> bool:
        """Say whether a condition about the window holds."""
        start, end = (_read_minute(call.parameters.get(key)) for key in ("startTime", "endTime"))
        wanted = self.minutes[name]
        if start is None or end is None:
            return False
        return {
            "startTime": start == wanted,
            "endTime": end == wanted,
            "startBefore": start < wanted,
            "startFrom": start >= wanted,
            "covers": start <= wanted < end,
        }[name]


class FaultTable:
    """The scripted faults, in the order in which they were given."""

    def __init__(self) -> None:
        """Begin without faults."""
        self._entries: list[FaultEntry] = []

    def add(self, content: object) -> None:
        """Add the entries of a JSON list.

        Raises: FaultRequestError, and then adds none.
        """
        if not isinstance(content, list):
            message = "the faults are a JSON list of objects; send a list, even for one fault"
            raise FaultRequestError(message)
        self._entries.extend([read_entry(one) for one in content])

    def clear(self) -> None:
        """Forget every fault."""
        self._entries.clear()

    def describe(self) -> list[dict[str, object]]:
        """Give all entries as JSON objects."""
        return [entry.describe() for entry in self._entries]

    def apply(self, exchange: Exchange) -> tuple[Answer, str | None]:
        """Give the answer that a request gets, and the kind of the fault that hit it, if any."""
        for entry in self._find_ready(exchange.call):
            changed = FAULT_KINDS[entry.kind].apply(exchange, entry.options)
            if changed is not None:
                entry.fired += 1
                return changed, entry.kind
        return exchange.answer, None

    def _find_ready(self, call: Call) -> Iterator[FaultEntry]:
        """Find the entries that may hit a request, and count it for those that let it pass."""
        for entry in self._entries:
            if entry.is_completed or not entry.is_match(call):
                continue
            entry.seen += 1
            if entry.seen > entry.skip:
                yield entry


def read_entry(content: object) -> FaultEntry:
    """Read one entry as it was sent.

    Raises: FaultRequestError, whose text says what is wrong and what would be right.
    """
    entry = _read_object(content, "a fault entry", _ENTRY_KEYS)
    operation = str(entry.get("operation", _ANY))
    if operation not in {_ANY, *Operation}:
        raise _wrong("operation", operation, {_ANY, *Operation})
    fault = dict(_read_object(entry.get("fault"), "the key 'fault'", None))
    kind = str(fault.pop("kind", ""))
    if kind not in FAULT_KINDS:
        raise _wrong("fault.kind", kind, set(FAULT_KINDS))
    unknown = fault.keys() - FAULT_KINDS[kind].options
    if unknown:
        raise _wrong(f"option of '{kind}'", ", ".join(sorted(unknown)), set(FAULT_KINDS[kind].options))
    options = FaultOptions(kind, fault)
    FAULT_KINDS[kind].apply(_PROBE, options)
    match = _read_match(entry.get("match", {}))
    return FaultEntry(
        operation=operation,
        match=match,
        skip=_read_count(entry.get("skip", 0), "skip") or 0,
        times=_read_count(entry.get("times", 1), "times"),
        kind=kind,
        options=options,
        minutes={name: _require_minute(name, match[name]) for name in _TIME_MATCHES & match.keys()},
    )


def _read_match(content: object) -> Mapping[str, str]:
    """Read the conditions of an entry."""
    match = {name: str(value) for name, value in _read_object(content, "the key 'match'", _MATCH_KEYS).items()}
    if match.get("page", "any") not in _PAGE_CHOICES:
        raise _wrong("match.page", match["page"], set(_PAGE_CHOICES))
    return match


def _read_object(content: object, name: str, allowed: frozenset[str] | None) -> dict[str, object]:
    """Insist on a JSON object with known keys."""
    if not isinstance(content, dict):
        message = f"{name} is a JSON object; see docs/emulator.md for its keys"
        raise FaultRequestError(message)
    if allowed is not None and content.keys() - allowed:
        raise _wrong(f"key of {name}", ", ".join(sorted(content.keys() - allowed)), set(allowed))
    return content


def _read_count(value: object, name: str) -> int | None:
    """Read a count; null only for `times`, where it means for ever."""
    if value is None and name == "times":
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        message = f"{name} is {value!r}; it must be a whole number from 0, or null for times without end"
        raise FaultRequestError(message)
    return value


def _require_minute(name: str, value: str) -> int:
    """Read a time of the conditions."""
    minute = _read_minute(value)
    if minute is None:
        message = f"match.{name} is {value!r}; write it as 2025-12-01T00:00:00Z"
        raise FaultRequestError(message)
    return minute


def _read_minute(value: str | None) -> int | None:
    """Read a time as a minute since 1970; None when it is none."""
    try:
        return None if value is None else parse_instant_ms(value) // MS_PER_MINUTE
    except ValueError:
        return None


def _wrong(name: str, value: str, allowed: set[str]) -> FaultRequestError:
    """Make the error for a value that is not among the allowed ones."""
    return FaultRequestError(f"unknown {name}: {value!r}; it is one of {', '.join(sorted(allowed)) or 'none'}")
