"""The emulator's own endpoints below `/_emulator/`: ground truth, request log, scripted faults and tokens.

They are for tests, and are not signed; no client of the emulated services needs them.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from urllib.parse import parse_qsl

from ociaudit_emulator.event_store import START, EventStore, Span, Target
from ociaudit_emulator.events import ServiceClock
from ociaudit_emulator.faults import FaultRequestError, FaultTable
from ociaudit_emulator.federation import TokenIssuer
from ociaudit_emulator.http import ServerResponse, json_response
from ociaudit_emulator.scenario import describe_scenario
from ociaudit_emulator.session_token import HolderKind
from ociaudit_emulator.signature import KeyRing, load_public_key
from ociaudit_emulator.tenancy import HOME_REGION, Tenancy
from ociaudit_emulator.time_formats import MS_PER_MINUTE, parse_time_ms

PREFIX = "/_emulator/"
MAX_LOG_ENTRIES = 50_000
_EVENTS_PER_PART = 500


@dataclass(slots=True)
class LogEntry:
    """One request, filled in while it is served; never with a token, a signature or a key.

    The field names are the keys of the JSON response.
    """

    method: str
    path: str
    query: str
    region: str | None = None
    operation: str | None = None
    compartmentId: str | None = None  # noqa: N815 -- the API's name
    startTime: str | None = None  # noqa: N815 -- the API's name
    endTime: str | None = None  # noqa: N815 -- the API's name
    hasPage: bool = False  # noqa: N815 -- the API's name
    status: int = 0
    code: str | None = None
    items: int = 0
    key: str | None = None
    userAgent: str | None = None  # noqa: N815 -- the API's name
    requestId: str | None = None  # noqa: N815 -- the API's name
    started: float = 0.0
    ended: float = 0.0
    fault: str | None = None
    delivery: str = "Whole"


class RequestLog:
    """The latest requests, oldest first."""

    def __init__(self) -> None:
        """Start empty."""
        self._entries: deque[LogEntry] = deque(maxlen=MAX_LOG_ENTRIES)
        self._added = 0

    def add(self, entry: LogEntry) -> None:
        """Add an entry, and drop the oldest one if the log is full."""
        self._entries.append(entry)
        self._added += 1

    def clear(self) -> None:
        """Remove all entries."""
        self._entries.clear()
        self._added = 0

    def list_entries(self) -> list[dict[str, object]]:
        """Return the entries as JSON objects."""
        return [asdict(entry) for entry in self._entries]

    @property
    def dropped_count(self) -> int:
        """Return the number of entries dropped because the log was full."""
        return self._added - len(self._entries)


class ControlError(Exception):
    """A control request that cannot be served; the text ends in a hint."""


@dataclass(frozen=True, slots=True)
class Control:
    """The control endpoints."""

    tenancy: Tenancy
    store: EventStore
    faults: FaultTable
    log: RequestLog
    clock: ServiceClock
    issuer: TokenIssuer
    key_ring: KeyRing
    seed: int

    def respond(self, method: str, target: str, body: bytes) -> ServerResponse:
        """Respond to a control request, except for the stream of events.

        Raises: ControlError.
        """
        name = target.removeprefix(PREFIX).partition("?")[0]
        if (method, name) == ("GET", "tenancy"):
            return json_response(self._describe_tenancy())
        if name == "log" and method in {"GET", "DELETE"}:
            return self._respond_log(method)
        if name == "faults" and method in {"GET", "POST", "DELETE"}:
            return self._respond_faults(method, body)
        if name == "tokens" and method in {"POST", "DELETE"}:
            return self._respond_tokens(method, body)
        message = f"no control endpoint {method} {PREFIX}{name}; there are tenancy, events, log, faults and tokens"
        raise ControlError(message)

    def stream_events(self, path_url: str) -> Iterator[bytes]:
        """Return the events of a target and a span, in processing order, as parts of a JSON array.

        Raises: ControlError.
        """
        query = dict(parse_qsl(path_url.partition("?")[2]))
        target = Target(query.get("region", HOME_REGION), query.get("compartmentId", self.tenancy.id))
        if target.region not in self.tenancy.region_by_name:
            message = f"unknown region {target.region}; {PREFIX}tenancy lists the regions"
            raise ControlError(message)
        if target.compartment_id not in self.tenancy.compartment_by_id:
            message = f"unknown compartment {target.compartment_id}; {PREFIX}tenancy lists the compartments"
            raise ControlError(message)
        return self._join_events(target, Span(_read_minute(query, "startTime"), _read_minute(query, "endTime")))

    def _join_events(self, target: Target, span: Span) -> Iterator[bytes]:
        """Yield the parts of the array, each with a limited number of events."""
        position: int | None = START
        separator = b"["
        while position is not None:
            found = self.store.read(target, span, position, _EVENTS_PER_PART)
            if found.events:
                yield separator + b",".join(found.events)
                separator = b","
            position = found.next_position
        yield b"[]" if separator == b"[" else b"]"

    def _respond_log(self, method: str) -> ServerResponse:
        if method == "DELETE":
            self.log.clear()
            return json_response([])
        response = json_response(self.log.list_entries())
        return response.with_header("emulator-log-dropped", str(self.log.dropped_count))

    def _respond_faults(self, method: str, body: bytes) -> ServerResponse:
        """Add or remove faults, and return the remaining ones."""
        if method == "DELETE":
            self.faults.clear()
        if method == "POST":
            try:
                self.faults.add(json.loads(body))
            except (ValueError, FaultRequestError) as error:
                raise ControlError(str(error)) from error
        return json_response(self.faults.describe())

    def _respond_tokens(self, method: str, body: bytes) -> ServerResponse:
        """Issue a token for a public key, or end all tokens used so far; one not used yet stays valid."""
        if method == "DELETE":
            return json_response({"ended": self.key_ring.end_sessions()})
        try:
            content = json.loads(body)
            kind, seconds = HolderKind(content.get("kind", "user")), float(content.get("seconds", 3600))
            public_key = load_public_key(content["publicKey"].encode())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            message = f"invalid token request ({error}); send publicKey (PEM), kind ({', '.join(HolderKind)}), seconds"
            raise ControlError(message) from error
        return json_response({"token": self.issuer.issue(public_key, kind, seconds)})

    def _describe_tenancy(self) -> Mapping[str, object]:
        """Return everything that was generated from the seed, as a JSON object."""
        tenancy = self.tenancy
        return {
            "seed": self.seed,
            "now": self.clock.read_ms(),
            "id": tenancy.id,
            "name": tenancy.name,
            "regions": [
                {"name": one.name, "key": one.key, "status": one.status, "isHome": one.is_home}
                for one in tenancy.regions
            ],
            "compartments": [
                {
                    "id": one.id,
                    "name": one.name,
                    "parentId": one.parent_id or None,
                    "state": one.state,
                    "isForbidden": one.is_forbidden,
                }
                for one in tenancy.compartments
            ],
            "principals": [
                {"id": one.id, "name": one.name, "authType": one.kind.value, "addresses": list(one.addresses)}
                for one in tenancy.principals
            ],
            "configUser": tenancy.config_user.id,
            "story": describe_scenario(self.seed, tenancy, self.clock.read_minute()),
        }


def _read_minute(query: Mapping[str, str], name: str) -> int:
    """Return a time parameter as a minute since 1970."""
    try:
        return parse_time_ms(query.get(name, "")) // MS_PER_MINUTE
    except ValueError as error:
        message = f"{name} is {query.get(name, '')!r}; write it as 2025-12-01T00:00:00Z"
        raise ControlError(message) from error
