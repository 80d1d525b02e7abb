from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.client.audit import Page
from ociaudit.client.rate_limiter import RateLimiter
from ociaudit.client.signer import Credentials
from ociaudit.errors import (
    ConnectionFailed,
    InvalidResponse,
    OciAuditError,
    RequestError,
    ServiceError,
    ServiceUnreachable,
    SignInRejected,
)
from ociaudit.events.event import Event, read_event
from ociaudit.events.fields import instant_of_minute
from ociaudit.events.filters import EventFilter, TimeSpan
from ociaudit.operations.context import Callbacks
from ociaudit.operations.fetcher import Fetcher, GapTracker, SpoolWriter
from ociaudit.planning.planner import FetchState, PlannedShard, plan_regions
from ociaudit.planning.shard import Coverage, Gap, PageCursor, Shard, Target, Window
from ociaudit.storage.journal import PageLine, decode_line
from support.clocks import NoWaitClock
from support.drawn_shards import EPOCH, TENANCY, make_event, make_page, make_shard
from support.served_runs import open_run, read_output

RANGE = Window(0, 40)
TARGETS = [Target(region, compartment) for region in ("r1", "r2") for compartment in ("a", "b")]
CREDENTIALS = Credentials("tenancy", "r1", "user", "ab", "DEFAULT", "api_key", _signer=lambda _: None)


def refuse(status: int, *, is_oci: bool = True) -> ServiceError:
    """Make a refusal."""
    return ServiceError(f"{status} Code: no", status=status, code="Code", is_oci=is_oci, request_id=f"id-{status}")


Answers = Mapping[tuple[Target, int], RequestError]


class ScriptedAudit:
    """Answers every shard with two pages, or fails where it was told to: before any page, or after the first."""

    def __init__(self, failures: Answers, rate_limiter: RateLimiter, *, is_late: bool = False) -> None:
        self._failures = failures
        self._rate_limiter = rate_limiter
        self._is_late = is_late
        self.asked: list[tuple[Shard, PageCursor | None]] = []
        self.closed = 0

    async def follow_shard(
        self, shard: Shard, *, cursor: PageCursor | None = None, should_stop: Callable[[Page], bool]
    ) -> AsyncGenerator[Page, None]:
        """Yield the pages."""
        self.asked.append((shard, cursor))
        try:
            async with self._rate_limiter.acquire(shard.target.region):
                await asyncio.sleep(0)
            failure = self._failures.get((shard.target, shard.window.start))
            if failure and not self._is_late:
                raise failure
            yield make_page(shard, 1, [make_event(1)], next_token="t")
            await asyncio.sleep(0)
            if failure:
                raise failure
            yield make_page(shard, 2, [])
        finally:
            self.closed += 1


class KeyCheck:
    """An identity service that accepts the key, or does not."""

    def __init__(self, *, is_accepted: bool) -> None:
        self.is_accepted = is_accepted
        self.asked = 0

    async def is_sign_in_accepted(self) -> bool:
        """Answer."""
        self.asked += 1
        return self.is_accepted


class PageCollector:
    """A sink that keeps pages in a list, or fails."""

    def __init__(self, fail: Callable[[], None] = lambda: None) -> None:
        self.pages: list[Page] = []
        self._fail = fail

    async def handle_page(self, page: Page) -> None:
        """Keep the page."""
        self._fail()
        self.pages.append(page)

    async def handle_split(self, shard: Shard, pieces: tuple[Window, ...]) -> None:
        """Nothing is cut without a policy."""
        raise AssertionError("cut")


class GapCollector(Callbacks):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.gaps: list[Gap] = []
        self.done: list[Shard] = []
        self.has_two = asyncio.Event()

    def on_gap(self, gap: Gap) -> None:
        self.gaps.append(gap)

    def on_shard_done(self, shard: Shard) -> None:
        self.done.append(shard)
        if len(self.done) == 2:
            self.has_two.set()


class Scene:
    """A sweep with everything around it."""

    def __init__(
        self,
        failures: Answers,
        *,
        is_accepted: bool = True,
        is_late: bool = False,
        covered: Mapping[Target, Coverage] | None = None,
        sink: PageCollector | None = None,
        max_in_flight: int = 1,
    ) -> None:
        self.rate_limiter = RateLimiter(clock=NoWaitClock(), max_in_flight=max_in_flight)
        self.audit = ScriptedAudit(failures, self.rate_limiter, is_late=is_late)
        self.identity = KeyCheck(is_accepted=is_accepted)
        self.callbacks = GapCollector()
        self.covered = covered or {}
        self.sink = sink or PageCollector()
        self.coverage: Mapping[Target, Coverage] = {}

    def run(self) -> tuple[Gap, ...]:
        """Sweep windows of ten minutes."""
        return asyncio.run(self.sweep(lambda sweep: sweep.run(self.plan())))

    def plan(self) -> Mapping[str, Iterator[PlannedShard]]:
        """Plan windows of ten minutes, in every region."""
        return plan_regions(
            TARGETS, RANGE, max_minutes=10, settled_until=100, progress=FetchState(covered=self.covered)
        )

    async def sweep(self, work: Callable[[Fetcher], Awaitable[tuple[Gap, ...]]]) -> tuple[Gap, ...]:
        """Do some work with a sweep, inside a loop."""
        gap_tracker = GapTracker(
            identity=self.identity,
            credentials=CREDENTIALS,
            callbacks=self.callbacks,
            has_responded_before=bool(self.covered),
        )
        sweep = Fetcher(
            audit=self.audit,
            rate_limiter=self.rate_limiter,
            gap_tracker=gap_tracker,
            handler=self.sink,
            targets=TARGETS,
            window=RANGE,
            covered=self.covered,
            callbacks=self.callbacks,
            records_empty=True,
        )
        self.coverage = sweep.coverage
        return await work(sweep)


def list_minutes(windows: Sequence[Window]) -> list[int]:
    """Every minute, once for each window that has it."""
    return sorted(minute for window in windows for minute in range(window.start, window.end))


def check_adds_up(scene: Scene, gaps: Sequence[Gap], targets: Sequence[Target] = TARGETS) -> None:
    """Check that coverage and gaps together are the plan, in every place, each minute once."""
    for target in targets:
        covered = scene.coverage.get(target, Coverage()).windows
        missing = [gap.window for gap in gaps if gap.target == target]
        assert list_minutes([*covered, *missing]) == list_minutes([RANGE])
    assert list(gaps) == sorted(gaps, key=lambda gap: (gap.target, gap.window))


ERRORS = [
    refuse(404),
    refuse(403),
    refuse(400),
    refuse(409),
    refuse(500),
    refuse(404, is_oci=False),
    refuse(401, is_oci=False),
    ConnectionFailed("reset"),
    InvalidResponse("html"),
]
failures = st.dictionaries(
    st.tuples(st.sampled_from(TARGETS), st.sampled_from([0, 10, 20, 30])), st.sampled_from([*ERRORS, refuse(401)])
)
coverages = st.dictionaries(
    st.sampled_from(TARGETS),
    st.lists(st.sampled_from([Window(0, 5), Window(10, 20), Window(15, 40), Window(38, 40)]), max_size=2).map(Coverage),
)


@given(told=failures, covered=coverages, is_late=st.booleans(), is_accepted=st.booleans())
def test_coverage_and_gaps_make_up_the_plan(
    told: Answers, covered: dict[Target, Coverage], *, is_late: bool, is_accepted: bool
) -> None:
    """Whatever fails, every minute of every place ends covered or in a gap, or the run stops."""
    scene = Scene(told, is_late=is_late, is_accepted=is_accepted, covered=covered)
    try:
        gaps = scene.run()
    except OciAuditError as error:
        assert isinstance(error, SignInRejected | ServiceUnreachable)  # noqa: PT017 - stopping is one of two answers
        return
    finally:
        assert scene.audit.closed == len(scene.audit.asked)
    check_adds_up(scene, gaps)


def test_everything_answered_has_no_gap() -> None:
    """All pages reach the sink and every shard is told as done."""
    sink = PageCollector()
    scene = Scene({}, sink=sink)
    assert scene.run() == ()
    assert len(sink.pages) == 2 * len(scene.callbacks.done) == 32
    check_adds_up(scene, ())


@pytest.mark.parametrize("status", [403, 404])
@pytest.mark.parametrize("is_late", [False, True])
def test_a_place_denied_once_is_not_asked_again(status: int, *, is_late: bool) -> None:
    """Its gap is one, all that is not covered, with the reason and the request id."""
    target = TARGETS[1]
    scene = Scene({(target, 10): refuse(status)}, is_late=is_late)
    gaps = scene.run()
    assert gaps == (Gap(target, Window(10, 40), "denied", f"{status} Code: no", f"id-{status}"),)
    assert [shard.window.start for shard, _ in scene.audit.asked if shard.target == target] == [0, 10]
    check_adds_up(scene, gaps)


def test_a_place_that_failed_and_was_then_denied_has_both_gaps() -> None:
    """The failed window keeps its own reason, and no minute is told twice."""
    target = TARGETS[0]
    scene = Scene({(target, 10): ConnectionFailed("reset"), (target, 20): refuse(404)})
    gaps = scene.run()
    assert [(gap.window, gap.kind) for gap in gaps] == [(Window(10, 20), "failed"), (Window(20, 40), "denied")]
    check_adds_up(scene, gaps)


@pytest.mark.parametrize(
    "error", [e for e in ERRORS if not (isinstance(e, ServiceError) and e.is_oci and e.status < 405)]
)
def test_a_window_that_failed_is_a_gap_of_its_own(error: RequestError) -> None:
    """The windows behind it are asked all the same; a page of a proxy is no denial of Oracle's."""
    scene = Scene({(TARGETS[0], 10): error})
    gaps = scene.run()
    assert [(gap.target, gap.window, gap.kind) for gap in gaps] == [(TARGETS[0], Window(10, 20), "failed")]
    assert scene.callbacks.gaps == list(gaps)
    assert scene.identity.asked == 0


def test_a_401_of_one_region_is_a_gap_of_that_region() -> None:
    """A region that never answered, with a key that is good elsewhere: all its places, each asked no more."""
    scene = Scene({(target, start): refuse(401) for target in TARGETS[:2] for start in (0, 10, 20, 30)})
    gaps = scene.run()
    assert [(gap.target, gap.window, gap.kind) for gap in gaps] == [(target, RANGE, "denied") for target in TARGETS[:2]]
    assert len([shard for shard, _ in scene.audit.asked if shard.target.region == "r1"]) == 1
    assert scene.identity.asked == 1
    check_adds_up(scene, gaps)


def test_a_401_with_a_key_that_is_refused_stops_the_run() -> None:
    """When Identity says no as well, the sign-in is over."""
    with pytest.raises(SignInRejected):
        Scene({(TARGETS[0], 0): refuse(401)}, is_accepted=False).run()


@pytest.mark.parametrize("is_late", [False, True])
def test_a_401_from_a_region_that_has_answered_stops_the_run(*, is_late: bool) -> None:
    """The key was good a moment ago and is not any more."""
    scene = Scene({(TARGETS[0], 10): refuse(401)}, is_late=is_late)
    with pytest.raises(SignInRejected):
        scene.run()
    assert scene.coverage[TARGETS[0]].windows == (Window(0, 10),)


@pytest.mark.parametrize(
    "error", [ConnectionFailed("reset"), InvalidResponse("html"), refuse(500), refuse(404, is_oci=False)]
)
def test_when_nothing_answers_the_run_stops(error: RequestError) -> None:
    """A service that fails everywhere is no list of gaps but exit 4."""
    told = {(target, start): error for target in TARGETS for start in (0, 10, 20, 30)}
    with pytest.raises(ServiceUnreachable) as caught:
        Scene(told).run()
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("error", [refuse(404), refuse(400)])
def test_a_no_everywhere_is_an_answer(error: RequestError) -> None:
    """When Oracle refuses everything, that is gaps."""
    told = {(target, start): error for target in TARGETS for start in (0, 10, 20, 30)}
    scene = Scene(told)
    check_adds_up(scene, scene.run())


def test_what_was_covered_before_is_not_touched() -> None:
    """The coverage handed in stays as it was; the sweep's own grows."""
    known = {TARGETS[0]: Coverage([Window(0, 30)])}
    scene = Scene({}, covered=known)
    assert scene.run() == ()
    assert known[TARGETS[0]].windows == (Window(0, 30),)
    assert scene.coverage[TARGETS[0]].windows == (RANGE,)
    assert [shard.window for shard, _ in scene.audit.asked if shard.target == TARGETS[0]] == [Window(30, 40)]


class EmptyAudit(ScriptedAudit):
    """Answers every shard with one empty page, and fails where it was told to when it is asked again."""

    async def follow_shard(
        self, shard: Shard, *, cursor: PageCursor | None = None, should_stop: Callable[[Page], bool]
    ) -> AsyncGenerator[Page, None]:
        """Yield the page."""
        self.asked.append((shard, cursor))
        async with self._rate_limiter.acquire(shard.target.region):
            await asyncio.sleep(0)
        if cursor is not None and (failure := self._failures.get((shard.target, shard.window.start))):
            raise failure
        yield make_page(shard, 1, [])


@pytest.mark.parametrize("error", [None, refuse(404), ConnectionFailed("reset")])
def test_an_emptiness_that_is_not_confirmed_is_a_gap(error: RequestError | None) -> None:
    """Asked once more, a window is empty again, or it is a gap and covered no longer."""
    told = {(TARGETS[0], 10): error} if error else {}
    scene = Scene(told)
    scene.audit = EmptyAudit(told, scene.rate_limiter)
    counts: list[int] = []

    async def work(sweep: Fetcher) -> tuple[Gap, ...]:
        assert await sweep.run(scene.plan()) == ()
        counts.append(len(sweep.empty))
        return await sweep.confirm_empty(sorted(sweep.empty))

    gaps = asyncio.run(scene.sweep(work))
    assert counts == [16]
    check_adds_up(scene, gaps)
    assert bool(gaps) == bool(error)


def test_an_error_of_the_sink_ends_the_sweep_and_its_request() -> None:
    """A disk that is full is no gap: it comes out, and the shard's pages are closed."""

    def fail() -> None:
        raise RuntimeError("full")

    scene = Scene({}, sink=PageCollector(fail))
    with pytest.raises(RuntimeError, match="full"):
        scene.run()
    assert (len(scene.audit.asked), scene.audit.closed) == (1, 1)


def test_a_cancelled_sweep_closes_its_request() -> None:
    """A stop from outside leaves no request behind, and what was complete stays covered."""
    scene = Scene({})

    async def cancel_in_the_middle(sweep: Fetcher) -> tuple[Gap, ...]:
        task = asyncio.ensure_future(sweep.run(scene.plan()))
        await scene.callbacks.has_two.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return ()

    asyncio.run(scene.sweep(cancel_in_the_middle))
    assert scene.audit.closed == len(scene.audit.asked)
    assert sum(window.minutes for coverage in scene.coverage.values() for window in coverage.windows) >= 20


SHARD = make_shard(0, 60)
ODD = [
    read_event(b'{"eventType":"\\ud800","data":{"eventName":"\\udfff","compartmentId":"ocid1.\\ud800"}}'),
    read_event(b'{"eventType":"%b","data":{"eventName":"%b"}}' % (b"x" * 900, b"y" * 900)),
    read_event(b"{}"),
]


class PageCounter(Callbacks):
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
    callbacks = PageCounter()
    with (recovered := open_run(folder)).spool as spool:
        sink = SpoolWriter(
            spool,
            event_filter=EventFilter(patterns),
            span=span,
            tally=tally,
            listed_compartments=listed,
            callbacks=callbacks,
        )

        async def take_and_close() -> None:
            await sink.handle_page(make_page(SHARD, 1, list(events), asked_at=asked_at))
            await sink.close()

        asyncio.run(take_and_close())
        kept, _ = read_output(recovered.spool)
    lines = map(decode_line, (folder / "journal.ndjson").read_bytes().splitlines(keepends=True))
    (page,) = [line for line in lines if isinstance(line, PageLine)]
    assert callbacks.pages == [(page.scanned, page.kept)]
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


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (b'"compartmentName":"old-payments"', {"ocid1.gone": "old-payments"}),
        (b'"compartmentName":null', {}),
        (b'"x":1', {}),
        (b'"compartmentName":5', {}),
        (b'"compartmentName":"\\ud800"', {}),
    ],
)
def test_an_unlisted_compartment_has_the_name_in_its_event(tmp_path: Path, data: bytes, names: dict[str, str]) -> None:
    """The journal keeps the name that an event states for a compartment that is not listed, if it is text."""
    event = read_event(b'{"eventId":"1","data":{"compartmentId":"ocid1.gone",' + data + b"}}")
    page, _ = take(tmp_path, [event], listed=frozenset({TENANCY}))
    assert page.unlisted == ("ocid1.gone",)
    assert page.unlisted_names == names


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
