import pytest

from ociaudit.errors import Interrupted
from ociaudit.operations.context import Cancellation


def test_nobody_has_asked_yet() -> None:
    """Without a wish nothing is woken and nothing stops."""
    stop, woken = Cancellation(), []
    stop.attach(lambda: woken.append(1))
    stop.check()
    assert not woken


def test_a_wish_wakes_whoever_waits_and_stays() -> None:
    """Asking wakes, twice if asked twice; checking raises with the signal's number."""
    stop, woken = Cancellation(), []
    stop.attach(lambda: woken.append(1))
    stop.ask(15)
    stop.ask(2)
    assert woken == [1, 1]
    with pytest.raises(Interrupted) as caught:
        stop.check()
    assert caught.value.signal_number == 2


def test_a_wish_from_before_wakes_at_once() -> None:
    """Whoever attaches after the wish is woken immediately; detaching is always possible."""
    stop, woken = Cancellation(), []
    stop.ask(15)
    stop.attach(lambda: woken.append(1))
    stop.attach(None)
    assert woken == [1]
    stop.ask(15)
    assert woken == [1]
