"""The services with pages: Audit (ListEvents, GetConfiguration), Logging Search over it, and Identity.

Logging Search selects the events of a compartment's audit log by event time and writes them as CloudEvents.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ociaudit_emulator.event_store import START, EventStore, RawEvent, Span, Target
from ociaudit_emulator.events import Appearance
from ociaudit_emulator.http import (
    ApiCall,
    Cursor,
    ItemPage,
    ServerResponse,
    TokenCodec,
    choose_page_size,
    invalid_parameter,
    items_response,
    json_response,
    not_found,
    shuffle_page,
)
from ociaudit_emulator.settings import DEFAULT_RETENTION_DAYS, Settings
from ociaudit_emulator.tenancy import Compartment, Tenancy, Timeline
from ociaudit_emulator.time_formats import MINUTES_PER_DAY, MS_PER_MINUTE, parse_time_ms


@dataclass(frozen=True, slots=True)
class EventQuery:
    """The validated parameters of a ListEvents call."""

    target: Target
    span: Span

    @property
    def key(self) -> str:
        """Return the text that identifies the query; page tokens are bound to it."""
        span = self.span
        return f"events {self.target.region} {self.target.compartment_id} {span.start_minute} {span.end_minute}"


class AuditApi:
    """The operations of the Audit service."""

    def __init__(
        self,
        timeline: Timeline,
        settings: Settings,
        store: EventStore,
        codec: TokenCodec,
        read_now_ms: Callable[[], int],
        *,
        appearance: Appearance,
    ) -> None:
        """Keep the collaborators."""
        self._timeline = timeline
        self._appearance = appearance
        self._settings = settings
        self._store = store
        self._codec = codec
        self._read_now_ms = read_now_ms

    def list_events(self, call: ApiCall) -> ItemPage:
        """Return one page of events.

        Raises: ApiError for missing or invalid parameters, and for forbidden or unknown compartments.
        """
        query = self.read_query(call)
        token = call.parameters.get("page")
        cursor = self._codec.decode(token, query.key) if token else Cursor(query.key)
        return self.read_page(query, cursor)

    def read_query(self, call: ApiCall) -> EventQuery:
        """Validate the parameters of a ListEvents call.

        Raises: ApiError.
        """
        compartment_id = call.require("compartmentId")
        start_minute = self._read_minute(call, "startTime")
        end_minute = self._read_minute(call, "endTime")
        if start_minute >= end_minute:
            message = "The value of 'startTime' must be before the value of 'endTime'."
            raise invalid_parameter(message)
        self._check_retention(start_minute)
        compartment = self._timeline.at(self._read_now_ms()).compartment_by_id.get(compartment_id)
        if compartment is None or not compartment.is_readable:
            raise not_found()
        return EventQuery(Target(call.region, compartment_id), Span(start_minute, end_minute))

    def read_page(self, query: EventQuery, cursor: Cursor) -> ItemPage:
        """Return the page at a cursor."""
        size = choose_page_size(self._settings.page_size, cursor)
        found = self._store.read(query.target, query.span, cursor.position, size)
        events = shuffle_page(found.events, cursor) if self._settings.is_shuffling else found.events
        if cursor.is_looping:
            return ItemPage(events, cursor, cursor)
        if found.next_position is None:
            return ItemPage(events, cursor, None)
        return ItemPage(events, cursor, Cursor(query.key, found.next_position, cursor.page_number + 1))

    def get_configuration(self, call: ApiCall) -> ServerResponse:
        """Return the retention period.

        Raises: ApiError.
        """
        if call.require("compartmentId") != self._timeline.start.id:
            raise not_found()
        kept_days = self._timeline.find_kept_days(self._read_now_ms())
        return json_response({"retentionPeriodDays": kept_days or DEFAULT_RETENTION_DAYS})

    def _read_minute(self, call: ApiCall, name: str) -> int:
        """Return a time parameter as a minute since 1970."""
        try:
            time_ms = parse_time_ms(call.require(name))
        except ValueError as error:
            message = f"The value of '{name}' is not a time in the RFC 3339 format."
            raise invalid_parameter(message) from error
        minute, rest_ms = divmod(time_ms, MS_PER_MINUTE)
        if rest_ms and self._settings.is_strict_about_minutes:
            message = f"Seconds and milliseconds of '{name}' must be set to 0."
            raise invalid_parameter(message)
        return minute

    def _check_retention(self, start_minute: int) -> None:
        """Reject a start before the first day inside the retention period, unless such windows are empty."""
        now_ms = self._read_now_ms()
        kept_days = self._timeline.find_kept_days(now_ms)
        if kept_days is None or self._appearance.is_expired_empty:
            return
        first_day = now_ms // (MS_PER_MINUTE * MINUTES_PER_DAY) - kept_days
        if start_minute < first_day * MINUTES_PER_DAY:
            message = f"The value of 'startTime' is older than the retention period of {kept_days} days."
            raise invalid_parameter(message)


_SEARCH = re.compile(
    r'\s*search\s+"(?P<compartment>[^"/]+)/(?P<log>_Audit|_Audit_Include_Subcompartment)"\s*'
    r"(?:\|\s*sort\s+by\s+datetime(?:\s+(?P<order>asc|desc))?\s*)?"
)
_DEFAULT_RESULTS, _MAX_RESULTS = 500, 1000
_MAX_SEARCH_MS = 14 * MINUTES_PER_DAY * MS_PER_MINUTE
_EARLY_MINUTES = 60
"""How long before its event time an event may have been processed."""
_EVENTS_PER_READ = 5_000
_SEARCHES_KEPT = 8
_CLOUD_NAMES: Mapping[str, str] = {
    "eventType": "type",
    "cloudEventsVersion": "specversion",
    "eventTypeVersion": "dataschema",
    "eventId": "id",
    "eventTime": "time",
    "contentType": "datacontenttype",
}


def read_search(body: bytes) -> dict[str, str]:
    """Return what the body of a SearchLogs call says, as parameters.

    Raises: ApiError.
    """
    try:
        details = json.loads(body)
        values = {name: details[name] for name in ("timeStart", "timeEnd", "searchQuery")}
    except (ValueError, TypeError, KeyError) as error:
        message = "The body must be a JSON object with timeStart, timeEnd and searchQuery."
        raise invalid_parameter(message) from error
    match = _SEARCH.fullmatch(str(values["searchQuery"]))
    if match is None:
        message = "The search query cannot be parsed; this service knows the audit logs of a compartment."
        raise invalid_parameter(message)
    return {
        "compartmentId": match["compartment"],
        "log": match["log"],
        "order": match["order"] or "asc",
        "startTime": str(values["timeStart"]),
        "endTime": str(values["timeEnd"]),
    }


def encode_results(items: Sequence[RawEvent], token: str | None) -> ServerResponse:
    """Return the response of a search: its results, their number, and the token of the next page."""
    plain = items_response(items, token)
    body = b'{"fields":[],"results":%b,"summary":{"fieldCount":0,"resultCount":%d}}' % (plain.body, len(items))
    return replace(plain, body=body)


class LoggingSearchApi:
    """The operation SearchLogs, for audit logs."""

    def __init__(
        self,
        timeline: Timeline,
        settings: Settings,
        store: EventStore,
        codec: TokenCodec,
        read_now_ms: Callable[[], int],
    ) -> None:
        """Keep the collaborators."""
        self._timeline = timeline
        self._settings = settings
        self._store = store
        self._codec = codec
        self._read_now_ms = read_now_ms
        self._found: dict[tuple[str, int], list[bytes]] = {}

    def search(self, call: ApiCall) -> ItemPage:
        """Return one page of results.

        Raises: ApiError for invalid times and limits, and for forbidden or unknown compartments.
        """
        start_ms, end_ms = (_read_time(call, name) for name in ("startTime", "endTime"))
        if not 0 < end_ms - start_ms <= _MAX_SEARCH_MS:
            message = "timeStart must be before timeEnd, by 14 days at most."
            raise invalid_parameter(message)
        targets = self._find_targets(call)
        key = " ".join([call.region, *(call.parameters[name] for name in ("compartmentId", "log", "order"))])
        key = f"search {key} {start_ms} {end_ms}"
        token = call.parameters.get("page")
        cursor = self._codec.decode(token, key) if token else Cursor(key)
        results = self._read(key, targets, start_ms, end_ms, is_descending=call.parameters["order"] == "desc")
        first = max(cursor.position, 0)
        end = first + self._read_limit(call)
        following = Cursor(key, end, cursor.page_number + 1) if end < len(results) else None
        return ItemPage(results[first:end], cursor, cursor if cursor.is_looping else following)

    def _find_targets(self, call: ApiCall) -> list[tuple[Target, str]]:
        """Return the targets whose logs are searched, with the tenancy's id."""
        tenancy = self._timeline.at(self._read_now_ms())
        asked = tenancy.compartment_by_id.get(call.parameters["compartmentId"])
        if asked is None or not asked.is_readable:
            raise not_found()
        chosen = [asked.id]
        if call.parameters["log"] != "_Audit":
            chosen = [one.id for one in tenancy.compartments if one.is_readable and _is_below(tenancy, one, asked)]
        return [(Target(call.region, ocid), tenancy.id) for ocid in chosen]

    def _read(
        self, key: str, targets: Sequence[tuple[Target, str]], start_ms: int, end_ms: int, *, is_descending: bool
    ) -> list[bytes]:
        """Return all results of a search in order, up to the cap; those of the latest searches are kept."""
        now_minute = self._read_now_ms() // MS_PER_MINUTE
        found = self._found.get((key, now_minute))
        if found is None:
            late = _EARLY_MINUTES + self._settings.late_minutes
            span = Span(start_ms // MS_PER_MINUTE - _EARLY_MINUTES, -(-end_ms // MS_PER_MINUTE) + late)
            rows = sorted(
                (row for target, tenancy in targets for row in self._make_rows(target, span, tenancy)),
                reverse=is_descending,
            )
            found = [result for time_ms, result in rows if start_ms <= time_ms < end_ms][: self._settings.search_cap]
            while len(self._found) >= _SEARCHES_KEPT:
                del self._found[next(iter(self._found))]
            self._found[key, now_minute] = found
        return found

    def _make_rows(self, target: Target, span: Span, tenancy_id: str) -> Iterator[tuple[int, bytes]]:
        """Yield the events of a target as results, each with its time; without a readable one, that of processing."""
        position: int | None = START
        while position is not None:
            found = self._store.read(target, span, position, _EVENTS_PER_READ)
            for minute, event in zip(found.minutes, found.events, strict=True):
                yield _make_result(bytes(event), minute, target, tenancy_id)
            position = found.next_position

    def _read_limit(self, call: ApiCall) -> int:
        """Return the number of results on a page; more than the greatest is the greatest."""
        text = call.parameters.get("limit", str(_DEFAULT_RESULTS))
        if not text.isascii() or not text.isdigit() or int(text) < 1:
            message = f"The value of 'limit' must be a number from 1 to {_MAX_RESULTS}."
            raise invalid_parameter(message)
        return min(int(text), _MAX_RESULTS)


def _read_time(call: ApiCall, name: str) -> int:
    try:
        return parse_time_ms(call.parameters[name])
    except ValueError as error:
        message = f"The value of '{name}' is not a time in the RFC 3339 format."
        raise invalid_parameter(message) from error


def _is_below(tenancy: Tenancy, one: Compartment, top: Compartment) -> bool:
    """Return whether a compartment is another one, or below it."""
    while one.id != top.id:
        parent = tenancy.compartment_by_id.get(one.parent_id)
        if parent is None:
            return False
        one = parent
    return True


def _make_result(event: bytes, minute: int, target: Target, tenancy_id: str) -> tuple[int, bytes]:
    """Return the time of an event in milliseconds, and the event as a search gives it."""
    members = json.loads(event)
    try:
        time_ms = parse_time_ms(str(members.get("eventTime")))
    except ValueError:
        time_ms = minute * MS_PER_MINUTE
    content = {_CLOUD_NAMES.get(name, name): value for name, value in members.items()}
    content["specversion"] = "1.0"
    content["oracle"] = {
        "compartmentid": target.compartment_id,
        "ingestedtime": members.get("eventTime"),
        "loggroupid": "_Audit",
        "tenantid": tenancy_id,
    }
    result = {"data": {"datetime": time_ms, "logContent": content}}
    return time_ms, json.dumps(result, separators=(",", ":")).encode()


_DEFAULT_LIMIT, _MAX_LIMIT = 100, 1000
_CREATED = "2019-03-25T21:10:29.600Z"
_STATES = frozenset({"CREATING", "ACTIVE", "INACTIVE", "DELETING", "DELETED"})


class IdentityApi:
    """The operations of the Identity service."""

    def __init__(self, read_tenancy: Callable[[], Tenancy], codec: TokenCodec) -> None:
        """Keep the collaborators; the tenancy is read with each call, because it changes with time."""
        self._read_tenancy = read_tenancy
        self._codec = codec

    @property
    def _tenancy(self) -> Tenancy:
        """Return the tenancy as it is now."""
        return self._read_tenancy()

    def list_region_subscriptions(self, call: ApiCall) -> ServerResponse:
        """Return the regions that the tenancy is subscribed to; the operation has no pages.

        Raises: ApiError for another tenancy's id.
        """
        self._check_tenancy(call)
        return json_response(
            [
                {
                    "regionKey": region.key,
                    "regionName": region.name,
                    "status": region.status,
                    "isHomeRegion": region.is_home,
                }
                for region in self._tenancy.regions
            ]
        )

    def get_tenancy(self, call: ApiCall) -> ServerResponse:
        """Return the tenancy's name and home region.

        Raises: ApiError for another tenancy's id.
        """
        self._check_tenancy(call)
        home = next(region for region in self._tenancy.regions if region.is_home)
        return json_response(
            {
                "id": self._tenancy.id,
                "name": self._tenancy.name,
                "description": self._tenancy.name,
                "homeRegionKey": home.key,
                "upiIdcsCompatibilityLayerEndpoint": None,
                "freeformTags": {},
                "definedTags": {},
            }
        )

    def get_compartment(self, call: ApiCall) -> ServerResponse:
        """Return one compartment, root included.

        Raises: ApiError for an unknown or forbidden compartment.
        """
        compartment = self._tenancy.compartment_by_id.get(call.resource_id)
        if compartment is None or compartment.is_forbidden:
            raise not_found()
        return ServerResponse(_write_compartment(compartment))

    def list_compartments(self, call: ApiCall) -> ItemPage:
        """Return a page of compartments: the children of one compartment, or the whole tree.

        Raises: ApiError for invalid parameters, and for an unknown or forbidden parent.
        """
        chosen = self._choose_compartments(call)
        limit = _read_limit(call)
        names = ("compartmentId", "compartmentIdInSubtree", "accessLevel", "lifecycleState", "name")
        key = " ".join(["compartments", *(call.parameters.get(name, "") for name in names)])
        token = call.parameters.get("page")
        cursor = self._codec.decode(token, key) if token else Cursor(key)
        start = max(cursor.position, 0)
        end = start + limit
        following = Cursor(key, end, cursor.page_number + 1) if end < len(chosen) else None
        items = [_write_compartment(compartment) for compartment in chosen[start:end]]
        return ItemPage(items, cursor, cursor if cursor.is_looping else following)

    def _choose_compartments(self, call: ApiCall) -> Sequence[Compartment]:
        """Return the compartments that match the parameters of a call."""
        parent = self._tenancy.compartment_by_id.get(call.require("compartmentId"))
        if parent is None or parent.is_forbidden:
            raise not_found()
        is_subtree = call.parameters.get("compartmentIdInSubtree", "false").lower() == "true"
        if is_subtree and parent is not self._tenancy.root:
            message = "compartmentIdInSubtree can only be true when compartmentId is the tenancy."
            raise invalid_parameter(message)
        is_any = _read_choice(call, "accessLevel", "ANY", frozenset({"ANY", "ACCESSIBLE"})) == "ANY"
        state = _read_choice(call, "lifecycleState", "", _STATES)
        name = call.parameters.get("name")
        return [
            one
            for one in self._tenancy.compartments[1:]
            if (is_subtree or one.parent_id == parent.id)
            and (is_any or not one.is_forbidden)
            and (not state or one.state == state)
            and (not name or one.name == name)
        ]

    def _check_tenancy(self, call: ApiCall) -> None:
        """Reject another tenancy's id."""
        if call.resource_id != self._tenancy.id:
            raise not_found()


def _read_choice(call: ApiCall, name: str, default: str, allowed: frozenset[str]) -> str:
    """Return a parameter that has a fixed set of values."""
    value = call.parameters.get(name, default)
    if value != default and value not in allowed:
        message = f"The value of '{name}' must be one of {', '.join(sorted(allowed))}."
        raise invalid_parameter(message)
    return value


def _read_limit(call: ApiCall) -> int:
    """Return the largest number of items on a page."""
    text = call.parameters.get("limit", str(_DEFAULT_LIMIT))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _MAX_LIMIT:
        message = f"The value of 'limit' must be a number from 1 to {_MAX_LIMIT}."
        raise invalid_parameter(message)
    return int(text)


def _write_compartment(compartment: Compartment) -> bytes:
    """Return a compartment as the service's JSON."""
    content: dict[str, object] = {
        "id": compartment.id,
        "compartmentId": compartment.parent_id or None,
        "name": compartment.name,
        "description": f"Everything of {compartment.name}",
        "timeCreated": _CREATED,
        "lifecycleState": compartment.state,
        "inactiveStatus": None,
        "isAccessible": not compartment.is_forbidden,
        "freeformTags": {},
        "definedTags": {},
    }
    return json.dumps(content, separators=(",", ":")).encode()
