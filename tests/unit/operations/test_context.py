import pytest

from ociaudit.errors import Interrupted
from ociaudit.operations.context import Cancellation


def test_without_a_request_nothing_stops() -> None:
    """Without a request to stop, nothing is woken and nothing stops."""
    cancellation, woken = Cancellation(), []
    cancellation.attach(lambda: woken.append(1))
    cancellation.check()
    assert not woken


def test_a_cancellation_wakes_the_waiter_and_stays() -> None:
    """Each request wakes the waiter; checking raises with the number of the last signal."""
    cancellation, woken = Cancellation(), []
    cancellation.attach(lambda: woken.append(1))
    cancellation.cancel(15)
    cancellation.cancel(2)
    assert woken == [1, 1]
    with pytest.raises(Interrupted) as caught:
        cancellation.check()
    assert caught.value.signal_number == 2


def test_an_earlier_cancellation_wakes_immediately() -> None:
    """A waiter that attaches after the request is woken immediately; detaching is always possible."""
    cancellation, woken = Cancellation(), []
    cancellation.cancel(15)
    cancellation.attach(lambda: woken.append(1))
    cancellation.attach(None)
    assert woken == [1]
    cancellation.cancel(15)
    assert woken == [1]


@pytest.mark.parametrize(
    ("moment", "is_kept", "message", "hint"),
    [
        ("", True, "interrupted", "continue from here"),
        ("while writing; all is kept", True, "interrupted while writing; all is kept", "continue from here"),
        ("while reading", False, "interrupted while reading", "starts from the beginning"),
    ],
)
def test_an_interruption_says_what_the_same_command_does(moment: str, is_kept: bool, message: str, hint: str) -> None:
    """Where nothing is kept, the hint does not promise that the same command continues."""
    cancellation = Cancellation()
    cancellation.check(moment, is_kept=is_kept)
    cancellation.cancel(2)
    with pytest.raises(Interrupted) as caught:
        cancellation.check(moment, is_kept=is_kept)
    assert str(caught.value) == message
    assert hint in (caught.value.hint or "")
