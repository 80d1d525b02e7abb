"""The Audit service: ListEvents and GetConfiguration.

Owns: what these two operations accept, refuse and answer.
Must not: know HTTP objects or where events come from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ociaudit_emulator.behaviour import DEFAULT_RETENTION_DAYS, Behaviour
from ociaudit_emulator.event_source import EventSource, Span, Target
from ociaudit_emulator.http import (
    Call,
    Cursor,
    Page,
    Response,
    TokenCodec,
    choose_page_size,
    invalid_parameter,
    json_response,
    not_found,
    shuffle_page,
)
from ociaudit_emulator.instants import MINUTES_PER_DAY, MS_PER_MINUTE, parse_instant_ms
from ociaudit_emulator.tenancy import Tenancy


@dataclass(frozen=True, slots=True)
class EventQuery:
    """One ListEvents question, checked: where and over which minutes."""

    target: Target
    span: Span

    @property
    def key(self) -> str:
        """Name the question, so that page tokens can be tied to it."""
        span = self.span
        return f"events {self.target.region} {self.target.compartment_id} {span.start_minute} {span.end_minute}"


class AuditApi:
    """Answers the Audit service's operations."""

    def __init__(
        self,
        tenancy: Tenancy,
        behaviour: Behaviour,
        source: EventSource,
        codec: TokenCodec,
        read_now_ms: Callable[[], int],
    ) -> None:
        """Keep the collaborators."""
        self._tenancy = tenancy
        self._behaviour = behaviour
        self._source = source
        self._codec = codec
        self._read_now_ms = read_now_ms

    def list_events(self, call: Call) -> Page:
        """Answer one page of events.

        Raises: ServiceError for parameters that are missing or wrong, and forbidden places.
        """
        query = self.read_query(call)
        token = call.parameters.get("page")
        cursor = self._codec.decode(token, query.key) if token else Cursor(query.key)
        return self.read_page(query, cursor)

    def read_query(self, call: Call) -> EventQuery:
        """Check the parameters of a ListEvents call.

        Raises: ServiceError.
        """
        compartment_id = call.require("compartmentId")
        start_minute = self._read_minute(call, "startTime")
        end_minute = self._read_minute(call, "endTime")
        if start_minute >= end_minute:
            message = "The value of 'startTime' must be before the value of 'endTime'."
            raise invalid_parameter(message)
        self._check_retention(start_minute)
        compartment = self._tenancy.compartment_by_id.get(compartment_id)
        if compartment is None or compartment.is_forbidden:
            raise not_found()
        return EventQuery(Target(call.region, compartment_id), Span(start_minute, end_minute))

    def read_page(self, query: EventQuery, cursor: Cursor) -> Page:
        """Read the page that begins at a cursor."""
        size = choose_page_size(self._behaviour.page_size, cursor)
        part = self._source.read(query.target, query.span, cursor.position, size)
        events = shuffle_page(part.events, cursor) if self._behaviour.is_shuffling else part.events
        if cursor.is_looping:
            return Page(events, cursor, cursor)
        if part.next_position is None:
            return Page(events, cursor, None)
        return Page(events, cursor, Cursor(query.key, part.next_position, cursor.page_number + 1))

    def get_configuration(self, call: Call) -> Response:
        """Answer how long events are kept.

        Raises: ServiceError.
        """
        if call.require("compartmentId") != self._tenancy.id:
            raise not_found()
        return json_response({"retentionPeriodDays": self._behaviour.kept_days or DEFAULT_RETENTION_DAYS})

    def _read_minute(self, call: Call, name: str) -> int:
        """Read a time parameter as a minute since 1970."""
        try:
            instant_ms = parse_instant_ms(call.require(name))
        except ValueError as error:
            message = f"The value of '{name}' is not a time in the RFC 3339 format."
            raise invalid_parameter(message) from error
        minute, rest_ms = divmod(instant_ms, MS_PER_MINUTE)
        if rest_ms and self._behaviour.is_strict_about_minutes:
            message = f"Seconds and milliseconds of '{name}' must be set to 0."
            raise invalid_parameter(message)
        return minute

    def _check_retention(self, start_minute: int) -> None:
        """Refuse a start before the first day that is still kept."""
        kept_days = self._behaviour.kept_days
        if kept_days is None:
            return
        first_day = self._read_now_ms() // (MS_PER_MINUTE * MINUTES_PER_DAY) - kept_days
        if start_minute < first_day * MINUTES_PER_DAY:
            message = f"The value of 'startTime' is older than the retention period of {kept_days} days."
            raise invalid_parameter(message)
