"""What was asked: one entry per request served, for tests to read.

Owns: the entries and their bound.
Must not: hold a token, a signature or a key.

The emulator's own endpoints below `/_emulator/`, unsigned: the truth, the log, the faults.

Owns: what tests read and set.
Must not: be needed by any client of the emulated services.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from urllib.parse import parse_qsl

from ociaudit_emulator.event_source import START, EventSource, Span, Target
from ociaudit_emulator.events import Present
from ociaudit_emulator.faults import FaultTable
from ociaudit_emulator.federation import TokenIssuer, read_public_key
from ociaudit_emulator.http import FaultRequestError, Response, json_response
from ociaudit_emulator.instants import MS_PER_MINUTE, parse_instant_ms
from ociaudit_emulator.scenario import describe_scenario
from ociaudit_emulator.session_token import HolderKind
from ociaudit_emulator.signature import KeyRing
from ociaudit_emulator.tenancy import HOME_REGION, Tenancy

MAX_ENTRIES = 50_000


@dataclass(slots=True)
class LogEntry:
    """One request, filled in as it is served; the names are those of the JSON answer."""

    method: str
    path: str
    query: str
    region: str | None = None
    operation: str | None = None
    compartmentId: str | None = None  # noqa: N815 -- the API's spelling
    startTime: str | None = None  # noqa: N815 -- the API's spelling
    endTime: str | None = None  # noqa: N815 -- the API's spelling
    hasPage: bool = False  # noqa: N815 -- the API's spelling
    status: int = 0
    code: str | None = None
    items: int = 0
    key: str | None = None
    userAgent: str | None = None  # noqa: N815 -- the API's spelling
    requestId: str | None = None  # noqa: N815 -- the API's spelling
    started: float = 0.0
    ended: float = 0.0
    fault: str | None = None
    delivery: str = "Whole"


class RequestLog:
    """The last requests, oldest first."""

    def __init__(self) -> None:
        """Begin empty."""
        self._entries: deque[LogEntry] = deque(maxlen=MAX_ENTRIES)
        self._added = 0

    def add(self, entry: LogEntry) -> None:
        """Add an entry; the oldest goes when there are too many."""
        self._entries.append(entry)
        self._added += 1

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._added = 0

    def list_entries(self) -> list[dict[str, object]]:
        """Give the entries as JSON objects."""
        return [asdict(entry) for entry in self._entries]

    @property
    def dropped_count(self) -> int:
        """Count the entries that went because there were too many."""
        return self._added - len(self._entries)


PREFIX = "/_emulator/"
_EVENTS_AT_ONCE = 500


class ControlError(Exception):
    """A control request that cannot be answered; the text says what would be right."""


@dataclass(frozen=True, slots=True)
class Control:
    """Answers the control endpoints."""

    tenancy: Tenancy
    source: EventSource
    faults: FaultTable
    log: RequestLog
    present: Present
    issuer: TokenIssuer
    key_ring: KeyRing
    seed: int

    def response(self, method: str, target: str, body: bytes) -> Response:
        """Answer a control request, except the stream of events.

        Raises: ControlError.
        """
        name = target.removeprefix(PREFIX).partition("?")[0]
        if (method, name) == ("GET", "tenancy"):
            return json_response(self._describe_tenancy())
        if name == "log" and method in {"GET", "DELETE"}:
            return self._log_response(method)
        if name == "faults" and method in {"GET", "POST", "DELETE"}:
            return self._faults_response(method, body)
        if name == "tokens" and method in {"POST", "DELETE"}:
            return self._tokens_response(method, body)
        message = f"no control endpoint {method} {PREFIX}{name}; there are tenancy, events, log, faults and tokens"
        raise ControlError(message)

    def stream_events(self, path_url: str) -> Iterator[bytes]:
        """Give the events of one place and time as parts of a JSON array, in the order of processing.

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
        """Write the array part by part."""
        position: int | None = START
        before = b"["
        while position is not None:
            part = self.source.read(target, span, position, _EVENTS_AT_ONCE)
            if part.events:
                yield before + b",".join(part.events)
                before = b","
            position = part.next_position
        yield b"[]" if before == b"[" else b"]"

    def _log_response(self, method: str) -> Response:
        """Answer the requests served so far, or forget them."""
        if method == "DELETE":
            self.log.clear()
            return json_response([])
        response = json_response(self.log.list_entries())
        return response.with_header("emulator-log-dropped", str(self.log.dropped_count))

    def _faults_response(self, method: str, body: bytes) -> Response:
        """Add faults, forget them, and answer those that are there."""
        if method == "DELETE":
            self.faults.clear()
        if method == "POST":
            try:
                self.faults.add(json.loads(body))
            except (ValueError, FaultRequestError) as error:
                raise ControlError(str(error)) from error
        return json_response(self.faults.describe())

    def _tokens_response(self, method: str, body: bytes) -> Response:
        """Issue a token for a public key, as Oracle would for who may hold one; or end those that were used."""
        if method == "DELETE":
            return json_response({"ended": self.key_ring.end_sessions()})
        try:
            asked = json.loads(body)
            kind, seconds = HolderKind(asked.get("kind", "user")), float(asked.get("seconds", 3600))
            public_key = read_public_key(asked["publicKey"].encode())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            message = f"write publicKey (PEM), kind ({', '.join(HolderKind)}) and seconds ({error})"
            raise ControlError(message) from error
        return json_response({"token": self.issuer.issue(public_key, kind, seconds)})

    def _describe_tenancy(self) -> Mapping[str, object]:
        """Describe everything that was made from the seed."""
        tenancy = self.tenancy
        return {
            "seed": self.seed,
            "now": self.present.read_ms(),
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
            "story": describe_scenario(self.seed, tenancy, self.present.read_minute()),
        }


def _read_minute(query: Mapping[str, str], name: str) -> int:
    """Read a time as a minute since 1970."""
    try:
        return parse_instant_ms(query.get(name, "")) // MS_PER_MINUTE
    except ValueError as error:
        message = f"{name} is {query.get(name, '')!r}; write it as 2025-12-01T00:00:00Z"
        raise ControlError(message) from error
