"""Events as they arrive, for a program that reads them in a plain loop.

A thread with an event loop of its own fetches; the reader takes events from a bounded channel.

Invariants
- At most `_PAGES_AHEAD` pages wait for the reader: a slow reader slows the requests.
- Works inside a running event loop.
- Closing or garbage-collecting a stream ends its requests and its thread.
- Within one shard, a record that arrives again byte for byte is returned once.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
import queue
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, Self, get_args

from ociaudit.client.audit import Page, ParsePage
from ociaudit.errors import IncompleteExport, ServiceUnreachable, UsageError, format_count
from ociaudit.events.event import Event
from ociaudit.events.field_naming import Shape, choose_shape
from ociaudit.events.filters import EventFilter, TimeSpan
from ociaudit.operations.context import (
    ExportOptions,
    RunContext,
    check_scope,
    connect,
    make_plan,
    make_span,
    resolve_times,
    settled_until,
)
from ociaudit.operations.fetcher import Fetcher, GapTracker
from ociaudit.planning.planner import plan_regions
from ociaudit.planning.shard import MINUTES_PER_DAY, Gap, Shard, Window
from ociaudit.storage.run_dir import ExportArguments

STREAM_HINT = "a stream keeps nothing: stream the windows of `gaps` again, or use `export`, which resumes"
"""What to do about gaps once everything else has been returned."""
_PAGES_AHEAD = 4
OnGap = Literal["raise", "collect"]


@dataclass(frozen=True, slots=True)
class _End:
    """The last item of a channel, with the error that ended it, if any."""

    error: BaseException | None


class _Channel:
    """The bounded channel from the fetching thread to the reading one."""

    def __init__(self) -> None:
        self._pages: queue.SimpleQueue[list[bytes] | _End] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_cancelled = False
        self._room = asyncio.Semaphore(_PAGES_AHEAD)

    def work(self, fetch: Callable[[], Coroutine[None, None, None]]) -> None:
        """Run `fetch` to its end, in the fetching thread, and pass on how it ended."""
        error: BaseException | None = None
        try:
            error = asyncio.run(self._run(fetch))
        except OSError as refusal:
            error = ServiceUnreachable(
                f"no connection can be opened from here: {refusal.strerror}",
                hint="close files or connections of this process, or raise its limit (ulimit -n)",
            )
        finally:
            self._pages.put(_End(error))

    async def put(self, events: list[bytes]) -> None:
        """Hand over a page when there is room."""
        await self._room.acquire()
        self._pages.put(events)

    def read(self) -> Iterator[list[bytes]]:
        """Yield the pages, in the reading thread, and raise what the fetching thread raised."""
        while not isinstance(page := self._pages.get(), _End):
            yield page
            self._call(self._room.release)
        if page.error is not None:
            raise page.error

    def cancel(self) -> None:
        """End the fetching, immediately or as soon as it has started."""
        self._is_cancelled = True
        if self._task is not None:
            self._call(self._task.cancel)

    async def _run(self, fetch: Callable[[], Coroutine[None, None, None]]) -> BaseException | None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.ensure_future(fetch())
        if self._is_cancelled:
            self._task.cancel()
        await asyncio.wait([self._task])
        return None if self._task.cancelled() else self._task.exception()

    def _call(self, work: Callable[[], object]) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has already ended
                self._loop.call_soon_threadsafe(work)


class EventStream:
    """The events of a range as lines of JSON, in the order of arrival. Iterate once; may be closed early.

    `gaps` is final when the iteration has ended.
    """

    def __init__(self, options: ExportOptions, context: RunContext, *, on_gap: OnGap = "raise") -> None:
        """Check the options; nothing is requested before the first event is read.

        Raises:
            UsageError: the options cannot be used.
        """
        if on_gap not in get_args(OnGap):
            raise UsageError(f"on_gap is {on_gap!r}", hint=f"choose {' or '.join(get_args(OnGap))}")
        now = context.clock.now()
        arguments = options.to_arguments(context.credentials, now=now)
        self.gaps: tuple[Gap, ...] = ()
        self._has_ended = self._is_closed = False
        self._thread: threading.Thread | None = None
        self._channel = _Channel()
        time_range = resolve_times(arguments, now=now)
        self._window = time_range.window
        self._filter = EventFilter(arguments.whole_filter)
        check_scope(arguments, context.endpoints)
        # The thread holds no reference to this object: otherwise garbage collection could not end the thread.
        writer = _ChannelWriter(self._channel, self._filter, make_span(time_range.event_window))
        self._fetch = functools.partial(
            _fetch, arguments, context, self._window, options.max_window_days, writer, self._filter.parse_page
        )
        self._found: list[Gap] = []
        self._on_gap = on_gap
        self._pages: Iterator[list[bytes]] | None = None
        self._page: Iterator[bytes] = iter(())

    def __iter__(self) -> Self:
        """Return itself."""
        return self

    def __next__(self) -> bytes:
        """Return the next event.

        Raises:
            StopIteration: there are no more.
            UsageError: it was closed before its end: what follows would be missing without a word.
            IncompleteExport: all events have been returned, and there are gaps.
            OciAuditError: the run could not continue.
        """
        if self._is_closed:
            raise UsageError("the events were closed before their end", hint="begin again with another stream")
        for event in self._page:
            return event
        pages = self._begin() if self._pages is None else self._pages
        for page in pages:
            self._page = iter(page)
            for event in self._page:
                return event
        return self._end()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def __del__(self) -> None:
        """Close it when it is garbage-collected."""
        if hasattr(self, "_thread"):  # construction may have failed
            self.close()

    def close(self) -> None:
        """End the requests in flight and the thread; may be called more than once. No event follows."""
        self._is_closed = not self._has_ended
        thread, self._thread = self._thread, None
        if thread is not None:
            self._channel.cancel()
            if thread is not threading.current_thread():  # garbage collection may run there
                thread.join()

    def _begin(self) -> Iterator[list[bytes]]:
        fetch, found = self._fetch, self._found
        self._thread = threading.Thread(
            target=self._channel.work, args=(lambda: fetch(found),), name="ociaudit-stream", daemon=True
        )
        self._thread.start()
        self._pages = self._channel.read()
        return self._pages

    def _end(self) -> NoReturn:
        """Raise how it ended; gaps are raised once."""
        self._has_ended = True
        gaps, self._found = tuple(self._found), []
        self.gaps = self.gaps or gaps
        if gaps and self._on_gap == "raise":
            count = format_count(len(gaps), "gap")
            raise IncompleteExport(f"{count}; the first: {gaps[0].reason}", gaps=gaps, hint=STREAM_HINT)
        raise StopIteration


async def _fetch(  # noqa: PLR0917 - bound one by one where the thread starts
    arguments: ExportArguments,
    context: RunContext,
    window: Window,
    max_window_days: int,
    writer: _ChannelWriter,
    parse: ParsePage,
    gaps: list[Gap],
) -> None:
    """Fetch everything, put the pages into the channel, and add the gaps to `gaps`."""
    async with connect(context, parse=parse) as service:
        plan = await make_plan(
            arguments,
            window=window,
            service=service,
            now=context.clock.now(),
            may_replace=False,
            callbacks=context.callbacks,
        )
        # No shard is split: what was read before a split would be returned twice.
        fetcher = Fetcher(
            audit=service.audit,
            rate_limiter=service.rate_limiter,
            gap_tracker=GapTracker(
                identity=service.identity,
                credentials=service.credentials,
                callbacks=context.callbacks,
                has_responded_before=False,
            ),
            handler=writer,
            targets=plan.targets,
            window=plan.window,
            covered={},
            callbacks=context.callbacks,
        )
        regions = plan_regions(
            plan.targets,
            plan.window,
            max_minutes=max_window_days * MINUTES_PER_DAY,
            settled_until=settled_until(context.clock.now()),
        )
        gaps += await fetcher.run(regions)


class _ChannelWriter:
    """A page handler that puts filtered pages into the channel, each record of a shard once."""

    def __init__(self, channel: _Channel, event_filter: EventFilter, span: TimeSpan | None) -> None:
        self._channel = channel
        self._filter = event_filter
        self._span = span
        self._seen: dict[Shard, set[bytes]] = {}

    async def handle_page(self, page: Page) -> None:
        """Wait for room and hand over the page."""
        seen = self._seen.pop(page.shard, set())
        if not page.is_last:
            self._seen[page.shard] = seen
        inside = self._span.select(page.events) if self._span else page.events
        await self._channel.put([event.raw for event in self._filter.select(inside) if _is_new(event, seen)])

    async def handle_split(self, shard: Shard, pieces: tuple[Window, ...]) -> None:
        """Never called: there is no split policy."""
        raise AssertionError(f"{shard} was split into {pieces} without a policy")


def _is_new(event: Event, seen: set[bytes]) -> bool:
    digest = hashlib.blake2b(event.raw, digest_size=16).digest()
    is_new = digest not in seen
    seen.add(digest)
    return is_new


class Events:
    """The events of `stream`: an iterator of dictionaries that may be closed early."""

    def __init__(self, lines: EventStream, shape: Shape) -> None:
        """Read from `lines` and convert each event to `shape`."""
        self._lines = lines
        self._convert = choose_shape(shape)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Return itself."""
        return self

    def __next__(self) -> dict[str, Any]:
        """Return the next event; see `stream` for what is raised."""
        return decode_event(self._convert(next(self._lines)))

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """Return the gaps; final when the iteration has ended."""
        return self._lines.gaps

    def close(self) -> None:
        """End the requests in flight."""
        self._lines.close()


def decode_event(raw: bytes) -> dict[str, Any]:
    """Return an event as a dictionary; a number of thousands of digits is text."""
    event: dict[str, Any] = json.loads(raw, parse_int=_parse_int)
    return event


def _parse_int(text: str) -> int | str:
    """Read a number; one of thousands of digits, which Python does not convert, stays text."""
    try:
        return int(text)
    except ValueError:
        return text
