import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from ociaudit.events.event import Event
from ociaudit.events.fields import instant_of_minute
from ociaudit.events.filters import EventFilter, TimeSpan
from ociaudit.events.page import read_event
from ociaudit.jobs.observer import Observer
from ociaudit.jobs.spool_sink import SpoolSink
from ociaudit.plan.shard import Shard
from ociaudit.store.journal import PageLine, decode_line
from support.drawn_shards import EPOCH, TENANCY, make_event, make_page, make_shard
from support.served_runs import open_run, read_output

SHARD = make_shard(0, 60)
ODD = [
    read_event(b'{"eventType":"\\ud800","data":{"eventName":"\\udfff","compartmentId":"ocid1.\\ud800"}}'),
    read_event(b'{"eventType":"%b","data":{"eventName":"%b"}}' % (b"x" * 900, b"y" * 900)),
    read_event(b"{}"),
]


class PageCounter(Observer):
    """Remembers the counts of pages."""

    def __init__(self) -> None:
        self.pages: list[tuple[int, int]] = []

    def on_page(self, shard: Shard, *, scanned: int, kept: int) -> None:
        self.pages.append((scanned, kept))


def take(
    folder: Path,
    events: Sequence[Event],
    *,
    patterns: Sequence[str] = (),
    span: TimeSpan | None = None,
    tally: str | None = None,
    listed: frozenset[str] | None = None,
    asked_at: datetime | None = None,
) -> tuple[PageLine, list[bytes]]:
    """Give a page to a sink, and return its line in the journal and the events in the spool."""
    observer = PageCounter()
    with (recovered := open_run(folder)).spool as spool:
        sink = SpoolSink(
            spool,
            event_filter=EventFilter(patterns),
            span=span,
            tally=tally,
            listed_compartments=listed,
            observer=observer,
        )

        async def take_and_close() -> None:
            await sink.take_page(make_page(SHARD, 1, list(events), asked_at=asked_at))
            await sink.close()

        asyncio.run(take_and_close())
        kept, _ = read_output(recovered.spool)
    lines = map(decode_line, (folder / "journal.ndjson").read_bytes().splitlines(keepends=True))
    (page,) = [line for line in lines if isinstance(line, PageLine)]
    assert observer.pages == [(page.scanned, page.kept)]
    return page, kept


def test_a_page_is_kept_with_what_was_answered(tmp_path: Path) -> None:
    """Shard, number, counts and request id stand in the journal, the events in the log."""
    events = [make_event(2), make_event(1)]
    page, kept = take(tmp_path, events)
    assert (page.shard, page.page, page.scanned, page.kept, page.is_last) == (SHARD, 1, 2, 2, True)
    assert page.request_id == "request-1"
    assert page.tally is None
    assert kept == [events[1].raw, events[0].raw]


def test_what_the_filter_drops_is_counted_and_tallied(tmp_path: Path) -> None:
    """Scanned counts all, kept those that pass; the tally is over everything scanned."""
    page, kept = take(tmp_path, [make_event(1), *ODD], patterns=["Made"], tally="event_name")
    assert (page.scanned, page.kept, len(kept)) == (4, 1, 1)
    assert page.tally == {"Made": 1, "\\udfff": 1, "y" * 200: 1, "(none)": 1}


def test_what_happened_outside_the_span_is_dropped_and_counted_apart(tmp_path: Path) -> None:
    """Events outside a range of event times are neither kept nor filtered; those without a time are kept."""
    span = TimeSpan(instant_of_minute(10), instant_of_minute(20))
    events = [make_event(number) for number in (9, 10, 19, 20)]
    page, kept = take(tmp_path, [*events, ODD[2]], span=span)
    assert (page.scanned, page.kept, page.outside) == (5, 3, 2)
    assert kept == [ODD[2].raw, events[1].raw, events[2].raw]


def test_no_name_keeps_the_journal_from_being_written(tmp_path: Path) -> None:
    """Lone surrogates and endless names, in types and compartments, are written as text that a file can hold."""
    page, kept = take(tmp_path, ODD, tally="event_type", listed=frozenset({TENANCY}))
    assert page.tally == {"\\ud800": 1, "x" * 200: 1, "(none)": 1}
    assert page.unlisted == ("ocid1.\\ud800",)
    assert sorted(kept) == sorted(event.raw for event in ODD)


def test_compartments_that_are_not_listed_are_noted(tmp_path: Path) -> None:
    """Each once, if there is a listing at all."""
    events = [make_event(1), make_event(2)]
    assert take(tmp_path, events, listed=frozenset({"ocid1.other"}))[0].unlisted == (TENANCY,)


def test_without_a_listing_nothing_is_unlisted(tmp_path: Path) -> None:
    """Places named by hand prove nothing about others."""
    assert take(tmp_path, [make_event(1)])[0].unlisted == ()


@pytest.mark.parametrize(
    ("minutes", "is_provisional"), [(-60, True), (0, True), (14.99, True), (15, False), (99, False)]
)
def test_a_page_asked_too_soon_is_provisional(tmp_path: Path, minutes: float, *, is_provisional: bool) -> None:
    """Fifteen minutes after the shard's end it is settled, and not a moment before."""
    asked_at = EPOCH + timedelta(minutes=SHARD.window.end + minutes)
    assert take(tmp_path, [], asked_at=asked_at)[0].is_provisional == is_provisional
