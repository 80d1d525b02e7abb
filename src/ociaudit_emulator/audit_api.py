"""The Audit service: ListEvents and GetConfiguration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ociaudit_emulator.event_store import EventStore, Span, Target
from ociaudit_emulator.events import Appearance
from ociaudit_emulator.http import (
    ApiCall,
    Cursor,
    ItemPage,
    ServerResponse,
    TokenCodec,
    choose_page_size,
    invalid_parameter,
    json_response,
    not_found,
    shuffle_page,
)
from ociaudit_emulator.settings import DEFAULT_RETENTION_DAYS, Settings
from ociaudit_emulator.tenancy import Timeline
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
