"""Events as they arrive, for a program that reads them in a plain loop.

Owns: the thread that asks, and the bounded way from it to the reader. Must not: keep events.

Invariants
- At most `_PAGES_AHEAD` pages wait for the reader; a slow reader slows the questions.
- Works inside a running event loop, because its own loop runs in a thread of its own.
- Closing it, or forgetting it, ends the requests that are under way.
- Within one shard a record that comes again byte for byte is given once.

Events as Python's own objects, for whoever iterates.

Owns: turning the lines of a stream into dictionaries. Must not: ask.
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
from typing import Any, Literal, NoReturn, Self

from ociaudit.client.audit import Page, ParsePage
from ociaudit.errors import IncompleteExport, ServiceUnreachable
from ociaudit.events.event import Event
from ociaudit.events.field_naming import Shape, choose_shape
from ociaudit.events.filters import EventFilter, TimeSpan
from ociaudit.operations.context import ExportOrder, RunContext, connect
from ociaudit.operations.fetcher import Fetcher, GapTracker
from ociaudit.operations.scope_resolution import SETTLE_MINUTES, check_scope, make_plan, make_span, resolve_times
from ociaudit.planning.planner import plan_regions
from ociaudit.planning.shard import Gap, Shard
from ociaudit.planning.window import MINUTES_PER_DAY, Window, floor_minute

_PAGES_AHEAD = 4
OnGap = Literal["raise", "collect"]


@dataclass(frozen=True, slots=True)
class _End:
    """The last thing in a channel: nothing more comes, and why, if not because everything has come."""

    error: BaseException | None


class _Channel:
    """The bounded way from the thread that asks to the one that reads."""

    def __init__(self) -> None:
        self._pages: queue.SimpleQueue[list[bytes] | _End] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_cancelled = False
        self._room = asyncio.Semaphore(_PAGES_AHEAD)

    def work(self, ask: Callable[[], Coroutine[None, None, None]]) -> None:
        """Run `ask` to its end, in the asking thread, and pass on how it ended."""
        error: BaseException | None = None
        try:
            error = asyncio.run(self._run(ask))
        except OSError as refusal:
            error = ServiceUnreachable(
                f"no connection can be opened from here: {refusal.strerror}",
                hint="close files or connections of this process, or raise its limit (ulimit -n)",
            )
        finally:
            self._pages.put(_End(error))

    async def put(self, events: list[bytes]) -> None:
        """Hand a page over, when there is room."""
        await self._room.acquire()
        self._pages.put(events)

    def read(self) -> Iterator[list[bytes]]:
        """Yield the pages, in the reading thread, and raise what the asking one raised."""
        while not isinstance(page := self._pages.get(), _End):
            yield page
            self._call(self._room.release)
        if page.error is not None:
            raise page.error

    def cancel(self) -> None:
        """End the asking, at once or as soon as it has begun."""
        self._is_cancelled = True
        if self._task is not None:
            self._call(self._task.cancel)

    async def _run(self, ask: Callable[[], Coroutine[None, None, None]]) -> BaseException | None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.ensure_future(ask())
        if self._is_cancelled:
            self._task.cancel()
        await asyncio.wait([self._task])
        return None if self._task.cancelled() else self._task.exception()

    def _call(self, work: Callable[[], object]) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(work)


class EventStream:
    """Events of a range as lines of JSON, in the order of arrival. Iterate once; close early at will.

    `gaps` is complete when the iteration has ended.
    """

    def __init__(self, order: ExportOrder, context: RunContext, *, on_gap: OnGap = "raise") -> None:
        """Check the arguments; nothing is asked before the first event is wanted.

        Raises:
            UsageError: the arguments cannot be carried out.
        """
        arguments = order.arguments
        self.gaps: tuple[Gap, ...] = ()
        self._thread: threading.Thread | None = None
        self._channel = _Channel()
        time_range = resolve_times(arguments, now=context.clock.now())
        self._window = time_range.window
        self._filter = EventFilter(arguments.whole_filter)
        check_scope(arguments, context.endpoints)
        # The thread must not hold on to this object, or forgetting it could not end the thread.
        sink = _ChannelWriter(self._channel, self._filter, make_span(time_range.event_window))
        self._ask = functools.partial(_ask, order, context, self._window, sink, self._filter.parse_page)
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
            IncompleteExport: all else has been given, and there are gaps.
            OciAuditError: the run could not go on.
        """
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
        """Close it when it is forgotten."""
        if hasattr(self, "_thread"):  # construction may have failed
            self.close()

    def close(self) -> None:
        """End the requests under way and the thread; may be called again."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._channel.cancel()
            if thread is not threading.current_thread():  # where a collection of garbage may come to run
                thread.join()

    def _begin(self) -> Iterator[list[bytes]]:
        ask, found = self._ask, self._found
        self._thread = threading.Thread(
            target=self._channel.work, args=(lambda: ask(found),), name="ociaudit-stream", daemon=True
        )
        self._thread.start()
        self._pages = self._channel.read()
        return self._pages

    def _end(self) -> NoReturn:
        """Say how it ended; said once, it is over."""
        gaps, self._found = tuple(self._found), []
        self.gaps = self.gaps or gaps
        if gaps and self._on_gap == "raise":
            raise IncompleteExport(f"{len(gaps)} gaps; the first: {gaps[0].reason}", gaps=gaps)
        raise StopIteration


async def _ask(  # noqa: PLR0917 - bound one by one where the thread starts
    order: ExportOrder,
    context: RunContext,
    window: Window,
    sink: _ChannelWriter,
    cut: ParsePage,
    gaps: list[Gap],
) -> None:
    """Ask for everything, put the pages into the channel, and leave the gaps behind."""
    async with connect(context, cut=cut) as service:
        plan = await make_plan(
            order.arguments,
            window=window,
            service=service,
            now=context.clock.now(),
            may_replace=False,
            callbacks=context.callbacks,
        )
        # No shard is cut: what was read before a cut would be given twice.
        sweep = Fetcher(
            audit=service.audit,
            rate_limiter=service.rate_limiter,
            gap_tracker=GapTracker(
                identity=service.identity,
                credentials=service.credentials,
                callbacks=context.callbacks,
                has_responded_before=False,
            ),
            sink=sink,
            targets=plan.targets,
            window=plan.window,
            covered={},
            callbacks=context.callbacks,
        )
        regions = plan_regions(
            plan.targets,
            plan.window,
            max_minutes=order.max_window_days * MINUTES_PER_DAY,
            settled_until=floor_minute(context.clock.now()) - SETTLE_MINUTES,
        )
        gaps += await sweep.run(regions)


class _ChannelWriter:
    """Puts filtered pages into the channel, each record of a shard once."""

    def __init__(self, channel: _Channel, event_filter: EventFilter, span: TimeSpan | None) -> None:
        self._channel = channel
        self._filter = event_filter
        self._span = span
        self._seen: dict[Shard, set[bytes]] = {}

    async def handle_page(self, page: Page) -> None:
        """Wait for room and hand the page over."""
        seen = self._seen.pop(page.shard, set())
        if not page.is_last:
            self._seen[page.shard] = seen
        inside = self._span.select(page.events) if self._span else page.events
        await self._channel.put([event.raw for event in self._filter.select(inside) if _is_new(event, seen)])

    async def handle_split(self, shard: Shard, pieces: tuple[Window, ...]) -> None:
        """Nothing is cut here."""
        raise AssertionError(f"{shard} was cut into {pieces} without a policy")


def _is_new(event: Event, seen: set[bytes]) -> bool:
    digest = hashlib.blake2b(event.raw, digest_size=16).digest()
    is_new = digest not in seen
    seen.add(digest)
    return is_new


class Events:
    """The events of `stream`: an iterator of dictionaries, which can be closed early."""

    def __init__(self, lines: EventStream, shape: Shape) -> None:
        """Read from `lines` and spell as `shape` says."""
        self._lines = lines
        self._reshape = choose_shape(shape)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Return itself."""
        return self

    def __next__(self) -> dict[str, Any]:
        """Return the next event; see `stream` for what is raised."""
        event: dict[str, Any] = json.loads(self._reshape(next(self._lines)), parse_int=_parse_int)
        return event

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """Return what did not come back complete; final when the iteration has ended."""
        return self._lines.gaps

    def close(self) -> None:
        """End the requests under way."""
        self._lines.close()


def _parse_int(text: str) -> int | str:
    """Numbers of thousands of digits, which Python will not convert, stay text."""
    try:
        return int(text)
    except ValueError:
        return text
