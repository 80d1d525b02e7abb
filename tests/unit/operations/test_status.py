import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from ociaudit.errors import (
    ConfigError,
    CorruptRun,
    DiskError,
    Interrupted,
    OciAuditError,
    ServiceUnreachable,
    SignInRejected,
    UsageError,
)
from ociaudit.operations.context import Cancellation
from ociaudit.operations.status import Attempt, SyncLoop, describe_age, format_metrics

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOUR = 3600.0


class VirtualClock:
    """A clock whose waits take no time and move it; `draws` are its random numbers, the last one again and again."""

    def __init__(self, *draws: float) -> None:
        """Begin at zero."""
        self.seconds = 0.0
        self.waits: list[float] = []
        self._draws = list(draws) or [1.0]

    def now(self) -> datetime:
        """Return the virtual time."""
        return NOW + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        """Return the virtual seconds."""
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        """Move the time."""
        self.waits.append(seconds)
        self.seconds += seconds

    def draw(self) -> float:
        """Return the next number."""
        return self._draws.pop(0) if len(self._draws) > 1 else self._draws[0]


def make_cycles(clock: VirtualClock, *outcomes: OciAuditError | int, seconds: float = 60.0) -> Callable[[], int]:
    """Return a sync that takes some time and ends like this, the last one again and again."""
    left = list(outcomes)

    def sync() -> int:
        clock.seconds += seconds
        outcome = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(outcome, OciAuditError):
            raise outcome
        return outcome

    return sync


def make_loop(clock: VirtualClock, *, hours: float | None = None, every: float = HOUR, **more) -> SyncLoop:
    """Return a loop on a virtual clock."""
    for_seconds = None if hours is None else hours * HOUR
    cancellation = more.pop("cancellation", Cancellation())
    return SyncLoop(clock=clock, every_seconds=every, for_seconds=for_seconds, cancellation=cancellation, **more)


def test_syncs_begin_at_the_interval_whatever_they_take() -> None:
    """The wait is the interval without the time of the sync, and the loop ends with the last exit code."""
    clock = VirtualClock()
    assert make_loop(clock, hours=3.5).run(make_cycles(clock, 0, 0, 0, 10)) == 10
    assert clock.waits == [HOUR - 60] * 3


def test_a_sync_that_takes_longer_than_the_interval_is_followed_by_the_next() -> None:
    """There is no wait then, and no sync is skipped."""
    clock = VirtualClock()
    make_loop(clock, hours=5).run(make_cycles(clock, 0, seconds=2 * HOUR))
    assert clock.waits == [0.0, 0.0]


def test_failed_syncs_back_off_up_to_the_interval_and_a_good_one_resets_that() -> None:
    """Waits double from a minute to the interval, and begin at a minute again after a sync that succeeded."""
    clock = VirtualClock()
    error = ServiceUnreachable("no answer")
    outcomes = (*[error] * 8, 0, error, 0)
    make_loop(clock, hours=8).run(make_cycles(clock, *outcomes, seconds=0.0))
    assert clock.waits[:8] == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert clock.waits[8:10] == [3600, 60]


def test_the_backoff_has_jitter_and_the_time_of_the_next_try_is_reported() -> None:
    """A wait is between half of its length and its length; `on_failure` gets the error and when it ends."""
    clock = VirtualClock(0.0, 0.5, 1.0)
    reported: list[tuple[str, datetime]] = []
    loop = make_loop(clock, hours=2, on_failure=lambda error, at: reported.append((str(error), at)))
    error = SignInRejected("refused")
    assert loop.run(make_cycles(clock, error, error, error, 0, seconds=0.0)) == 0
    assert clock.waits[:3] == [30, 90, 240]
    assert reported == [("refused", NOW + timedelta(seconds=seconds)) for seconds in (30, 120, 360)]


def test_the_loop_ends_as_its_last_sync_ended() -> None:
    """If the time is over after a failure, its error is raised."""
    clock = VirtualClock()
    with pytest.raises(ServiceUnreachable):
        make_loop(clock, hours=0.01).run(make_cycles(clock, ServiceUnreachable("no answer")))
    assert clock.waits == []


@pytest.mark.parametrize(
    ("error", "is_lasting_first", "is_lasting_later"),
    [
        (CorruptRun("damaged"), True, True),
        (OciAuditError("a bug"), True, True),
        (UsageError("wrong"), True, False),
        (DiskError("full"), True, False),
        (SignInRejected("refused"), False, False),
        (ServiceUnreachable("no answer"), False, False),
    ],
)
def test_what_time_does_not_heal_ends_the_loop(error: OciAuditError, is_lasting_first, is_lasting_later) -> None:
    """Damage ends it always, wrong options only before the first success, and the service's failures never."""
    for outcomes, is_lasting in (((error, 0), is_lasting_first), ((0, error, 0), is_lasting_later)):
        clock = VirtualClock()
        loop = make_loop(clock, hours=2.5)
        if is_lasting:
            with pytest.raises(type(error)):
                loop.run(make_cycles(clock, *outcomes))
        else:
            assert loop.run(make_cycles(clock, *outcomes)) == 0


class HangingClock(VirtualClock):
    """A clock whose waits do not end."""

    def __init__(self, begun: threading.Event) -> None:
        """Set `begun` when a wait begins."""
        super().__init__()
        self._begun = begun

    async def sleep(self, seconds: float) -> None:
        """Wait for ever."""
        self._begun.set()
        await asyncio.Event().wait()


def test_a_stop_ends_a_wait() -> None:
    """A request to stop that arrives between two syncs ends the loop with its signal."""
    begun, cancellation = threading.Event(), Cancellation()

    def stop() -> None:
        begun.wait()
        cancellation.cancel(15)

    thread = threading.Thread(target=stop)
    thread.start()
    clock = HangingClock(begun)
    with pytest.raises(Interrupted) as caught:
        make_loop(clock, cancellation=cancellation).run(make_cycles(clock, 0))
    thread.join()
    assert caught.value.signal_number == 15


def test_a_stop_in_a_sync_is_not_a_failure_to_try_again() -> None:
    """An interrupted sync ends the loop."""
    clock = VirtualClock()
    with pytest.raises(Interrupted):
        make_loop(clock).run(make_cycles(clock, Interrupted("stopped", signal_number=15)))


@pytest.mark.parametrize(
    ("error", "value"),
    [(SignInRejected("no"), 1), (ConfigError("no key"), 1), (ServiceUnreachable("no answer"), 0), (None, 0)],
)
def test_a_sign_in_that_fails_here_or_there_is_a_metric(error: OciAuditError | None, value: int) -> None:
    """A key that cannot be read and a signature that is refused count; a network that fails does not."""
    text = format_metrics(Attempt(exit_status=0, error=error), None, now=NOW)
    assert f"oci_audit_sign_in_failed {value}\n" in text


def test_metrics_without_an_archive_are_those_of_the_attempt() -> None:
    """What is not known is absent."""
    text = format_metrics(Attempt(exit_status=3, error=SignInRejected("no"), seconds=1.5), None, now=NOW)
    assert "oci_audit_sign_in_failed 1\n" in text
    assert "oci_audit_last_attempt_duration_seconds 1.5\n" in text
    assert "last_success" not in text


@pytest.mark.parametrize(
    ("minutes", "words"), [(0, "0 min ago"), (89, "89 min ago"), (90, "1.5 h ago"), (2880, "2.0 days ago")]
)
def test_an_age_has_the_unit_that_suits_it(minutes: int, words: str) -> None:
    """Minutes, hours, days."""
    assert describe_age(timedelta(minutes=minutes)) == words


def test_an_archive_without_a_sync_has_no_age() -> None:
    """`never` is the age of a sync that did not happen."""
    assert describe_age(None) == "never"
