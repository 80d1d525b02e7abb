"""The emulator's own endpoints below `/_emulator/`: truth, clock, changes, request log, scripted faults and tokens.

They are for tests, and are not signed; no client of the emulated services needs them.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import parse_qsl

from ociaudit_emulator.event_store import START, Span, Target
from ociaudit_emulator.events import (
    Appearance,
    HistoricEvent,
    RuleError,
    SelfAudit,
    ServiceClock,
    VisibleEvents,
    read_rule,
)
from ociaudit_emulator.faults import FaultRequestError, FaultTable
from ociaudit_emulator.federation import TokenIssuer
from ociaudit_emulator.http import ServerResponse, json_response
from ociaudit_emulator.object_api import make_namespace
from ociaudit_emulator.object_store import ByteRange, ObjectStore, StoredObject
from ociaudit_emulator.scenario import describe_scenario
from ociaudit_emulator.session_token import HolderKind
from ociaudit_emulator.signature import MAX_SKEW_SECONDS, DateCheck, KeyRing, load_public_key
from ociaudit_emulator.tenancy import HOME_REGION, ChangeError, Tenancy, Timeline
from ociaudit_emulator.time_formats import MS_PER_MINUTE, format_time_ms, parse_span_ms, parse_time_ms

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
    namespace: str | None = None
    bucket: str | None = None
    object: str | None = None
    uploadPartNum: str | None = None  # noqa: N815 -- the API's name
    receivedBytes: int = 0  # noqa: N815 -- as the other keys


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

    timeline: Timeline
    store: VisibleEvents | SelfAudit
    appearance: Appearance
    dates: DateCheck
    faults: FaultTable
    log: RequestLog
    clock: ServiceClock
    issuer: TokenIssuer
    key_ring: KeyRing
    seed: int
    objects: ObjectStore

    def respond(self, method: str, target: str, body: bytes) -> ServerResponse:
        """Respond to a control request, except for the streams of events.

        Raises: ControlError.
        """
        name, _, query = target.removeprefix(PREFIX).partition("?")
        if (method, name) == ("GET", "tenancy"):
            return json_response(self._describe_tenancy(self._read_instant(dict(parse_qsl(query)))))
        if name == "buckets" and method in {"GET", "POST"}:
            return self._respond_buckets(method, body)
        if name == "objects" and method in {"GET", "PUT", "DELETE"}:
            return self._respond_objects(method, dict(parse_qsl(query)), body)
        endpoints: Mapping[str, tuple[str, Callable[[str, bytes], ServerResponse]]] = {
            "log": ("GET DELETE", self._respond_log),
            "faults": ("GET POST DELETE", self._respond_faults),
            "tokens": ("POST DELETE", self._respond_tokens),
            "clock": ("GET POST DELETE", self._respond_clock),
            "changes": ("GET POST DELETE", self._respond_changes),
            "appearance": ("GET POST DELETE", self._respond_appearance),
        }
        methods, respond = endpoints.get(name, ("", self._respond_log))
        if method in methods.split():
            return respond(method, body)
        names = ("tenancy", "events", "truth", "buckets", "objects", *endpoints)
        message = f"no control endpoint {method} {PREFIX}{name}; there are {', '.join(names)}"
        raise ControlError(message)

    def stream_events(self, path_url: str) -> Iterator[bytes]:
        """Return the events of a target and a span, in processing order, as parts of a JSON array.

        For `truth`, each element says when its event appears, and holds the event.

        Raises: ControlError.
        """
        name, _, text = path_url.removeprefix(PREFIX).partition("?")
        query = dict(parse_qsl(text))
        start = self.timeline.start
        target = Target(query.get("region", HOME_REGION), query.get("compartmentId", start.id))
        if target.region not in start.region_by_name:
            message = f"unknown region {target.region}; {PREFIX}tenancy lists the regions"
            raise ControlError(message)
        if target.compartment_id not in start.compartment_by_id:
            message = f"unknown compartment {target.compartment_id}; {PREFIX}tenancy lists the compartments"
            raise ControlError(message)
        span = Span(_read_minute(query, "startTime"), _read_minute(query, "endTime"))
        if name == "truth":
            return self._join_history(target, span, self._read_instant(query))
        return self._join_events(target, span)

    def _join_history(self, target: Target, span: Span, at_ms: int | None) -> Iterator[bytes]:
        """Yield the parts of the array of events with the instants of their appearance."""
        separator = b"["
        for one in self.store.list_history(target, span, at_ms):
            yield separator + _write_historic(one)
            separator = b","
        yield b"[]" if separator == b"[" else b"]"

    def _read_instant(self, query: Mapping[str, str]) -> int | None:
        """Return the parameter `at`; None without it."""
        if "at" not in query:
            return None
        if query["at"] == "now":
            return self.clock.read_ms()
        return _parse_instant("at", query["at"])

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

    def _respond_log(self, method: str, _body: bytes) -> ServerResponse:
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

    def _respond_buckets(self, method: str, body: bytes) -> ServerResponse:
        """Add buckets, in the home region and the root compartment unless the request says otherwise; return all."""
        if method == "POST":
            try:
                for one in json.loads(body):
                    region = str(one.get("region", HOME_REGION))
                    compartment_id = str(one.get("compartmentId", self.timeline.start.id))
                    if self.objects.find_bucket(region, one["name"]) is None:
                        self.objects.create_bucket(region, one["name"], compartment_id)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                message = f"invalid buckets ({error}); send a JSON list of objects with name, region, compartmentId"
                raise ControlError(message) from error
        return json_response(
            [
                {"region": region, "name": one.name, "objects": len(one.objects), "uploads": len(one.uploads)}
                for region in self.timeline.start.region_by_name
                for one in self.objects.list_buckets(region)
            ]
        )

    def _respond_objects(self, method: str, query: Mapping[str, str], body: bytes) -> ServerResponse:
        """List a bucket's objects; or return, write or remove one, as another client would do it."""
        bucket = self.objects.find_bucket(query.get("region", HOME_REGION), query.get("bucket", ""))
        name = query.get("name")
        if bucket is None or (method != "PUT" and name is not None and name not in bucket.objects):
            message = f"no such bucket or object: {dict(query)}; {PREFIX}buckets lists the buckets"
            raise ControlError(message)
        if name is None:
            objects = [bucket.objects[raw.decode()] for raw in bucket.names]
            return json_response([_describe_object(one) for one in objects])
        if method == "PUT":
            writer = self.objects.start_blob()
            writer.write(body)
            bucket.put(self.objects.make_object(name, writer.finish(), {}))
        one = bucket.objects[name]
        if method == "GET":
            whole = ByteRange(0, one.size)
            return ServerResponse(b"", content_type="application/octet-stream", content=(one, whole))
        if method == "DELETE":
            bucket.delete(name)
        return json_response(_describe_object(one))

    def _respond_changes(self, method: str, body: bytes) -> ServerResponse:
        """Add or remove changes of the tenancy; a POST returns those it added, with their OCIDs."""
        if method == "DELETE":
            self.timeline.clear()
        if method == "POST":
            try:
                return json_response(self.timeline.add(json.loads(body), self.clock.read_ms()))
            except (ValueError, ChangeError) as error:
                raise ControlError(str(error)) from error
        return json_response(self.timeline.describe())

    def _respond_appearance(self, method: str, body: bytes) -> ServerResponse:
        """Replace the rules of the given keys, or all of them with none."""
        if method == "DELETE":
            self.appearance.delays, self.appearance.reserialised, self.appearance.is_expired_empty = (), (), False
        if method == "POST":
            content = _read_object(body, {"delays", "reserialised", "expired"})
            try:
                delays, reserialised = (
                    None if name not in content else [read_rule(one) for one in content[name]]
                    for name in ("delays", "reserialised")
                )
            except (RuleError, TypeError) as error:
                message = f"{error}; delays and reserialised are lists of rules"
                raise ControlError(message) from error
            if content.get("expired", "empty") not in {"empty", "error"}:
                message = f"expired is {content['expired']!r}; use empty or error"
                raise ControlError(message)
            self.appearance.delays = self.appearance.delays if delays is None else delays
            self.appearance.reserialised = self.appearance.reserialised if reserialised is None else reserialised
            if "expired" in content:
                self.appearance.is_expired_empty = content["expired"] == "empty"
        return json_response(
            {
                "delays": [asdict(one) for one in self.appearance.delays],
                "reserialised": [asdict(one) for one in self.appearance.reserialised],
                "expired": "empty" if self.appearance.is_expired_empty else "error",
            }
        )

    def _respond_clock(self, method: str, body: bytes) -> ServerResponse:
        """Set, advance, stop, start or reset the services' clock, and say what it shows."""
        if method == "DELETE":
            self.clock.reset()
            self._set_dates("machine", MAX_SKEW_SECONDS)
        if method == "POST":
            self._set_clock(
                _read_object(body, {"now", "advance", "isRunning", "skewToleranceSeconds", "signatureClock"})
            )
        is_service = self.dates.read_now_seconds == self._read_service_seconds
        return json_response(
            {
                "now": format_time_ms(self.clock.read_ms()),
                "isRunning": self.clock.is_running,
                "aheadSeconds": (self.clock.read_ms() - self.clock.read_machine_ms()) / 1000,
                "skewToleranceSeconds": self.dates.tolerance_seconds,
                "signatureClock": "service" if is_service else "machine",
            }
        )

    def _set_clock(self, content: Mapping[str, object]) -> None:
        """Do what the body of a clock request says; all of it, or nothing.

        Raises: ControlError.
        """
        seconds = content.get("skewToleranceSeconds", self.dates.tolerance_seconds)
        is_running = content.get("isRunning", self.clock.is_running)
        signature_clock = content.get("signatureClock")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds < 0:
            message = f"skewToleranceSeconds is {seconds!r}; it must be a number from 0"
            raise ControlError(message)
        if not isinstance(is_running, bool) or signature_clock not in {None, "machine", "service"}:
            message = "isRunning must be true or false, and signatureClock machine or service"
            raise ControlError(message)
        now_ms = self.clock.read_ms()
        time_ms = _parse_instant("now", content["now"]) if "now" in content else now_ms
        time_ms += _parse_span("advance", content["advance"]) if "advance" in content else 0
        if content.keys() & {"now", "advance", "isRunning"}:
            self.clock.set(time_ms, is_running=is_running)
        self._set_dates(signature_clock, seconds)

    def _set_dates(self, clock: object, tolerance_seconds: float) -> None:
        """Choose how the dates of signatures are checked; None keeps the clock."""
        self.dates.tolerance_seconds = tolerance_seconds
        if clock is not None:
            is_service = clock == "service"
            self.dates.read_now_seconds = self._read_service_seconds if is_service else self._read_machine_seconds

    def _read_service_seconds(self) -> float:
        return self.clock.read_ms() / 1000

    def _read_machine_seconds(self) -> float:
        return self.clock.read_machine_ms() / 1000

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

    def _describe_tenancy(self, at_ms: int | None) -> Mapping[str, object]:
        """Return the tenancy at an instant or now, and what was generated from the seed, as a JSON object."""
        tenancy: Tenancy = self.timeline.at(self.clock.read_ms() if at_ms is None else at_ms)
        return {
            "seed": self.seed,
            "now": self.clock.read_ms(),
            "id": tenancy.id,
            "name": tenancy.name,
            "namespace": make_namespace(tenancy),
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
                    "isReadable": one.is_readable,
                }
                for one in tenancy.compartments
            ],
            "principals": [
                {"id": one.id, "name": one.name, "authType": one.kind.value, "addresses": list(one.addresses)}
                for one in tenancy.principals
            ],
            "configUser": tenancy.config_user.id,
            "story": describe_scenario(self.seed, self.timeline.start, self.clock.read_minute()),
        }


def _read_minute(query: Mapping[str, str], name: str) -> int:
    """Return a time parameter as a minute since 1970."""
    try:
        return parse_time_ms(query.get(name, "")) // MS_PER_MINUTE
    except ValueError as error:
        message = f"{name} is {query.get(name, '')!r}; write it as 2025-12-01T00:00:00Z"
        raise ControlError(message) from error


def _parse_instant(name: str, value: object) -> int:
    """Return a time in milliseconds since 1970."""
    try:
        return parse_time_ms(str(value))
    except ValueError as error:
        message = f"{name} is {value!r}; write it as 2025-12-01T00:00:00Z"
        raise ControlError(message) from error


def _parse_span(name: str, value: object) -> int:
    """Return a span in milliseconds, negative ones included."""
    try:
        return parse_span_ms(str(value))
    except ValueError as error:
        message = f"{name} is {value!r}; write it as 3h, 1d12h or -90s"
        raise ControlError(message) from error


def _read_object(body: bytes, allowed: set[str]) -> dict[str, Any]:
    """Return the JSON object of a request, after a check that its keys are known."""
    try:
        content = json.loads(body)
    except ValueError as error:
        raise ControlError(str(error)) from error
    if not isinstance(content, dict) or content.keys() - allowed:
        message = f"send a JSON object with keys of {', '.join(sorted(allowed))}"
        raise ControlError(message)
    return content


def _describe_object(one: StoredObject) -> dict[str, object]:
    """Return an object as a JSON object."""
    headers = dict(one.headers)
    return {"name": one.name, "size": one.size, "etag": one.etag, "md5": one.md5, "headers": headers}


def _write_historic(one: HistoricEvent) -> bytes:
    """Return an event with the instants of its appearance; its own bytes are the last member."""
    shown = {
        "minute": format_time_ms(one.minute * MS_PER_MINUTE),
        "visibleFrom": None if one.visible_ms is None else format_time_ms(one.visible_ms),
        "visibleUntil": None if one.hidden_ms is None else format_time_ms(one.hidden_ms),
    }
    return json.dumps(shown, separators=(",", ":")).encode()[:-1] + b',"event":' + bytes(one.event) + b"}"
