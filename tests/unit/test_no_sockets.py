import asyncio
import socket

import pytest


@pytest.mark.parametrize("way", ["bind", "connect", "connect_ex"])
def test_a_unit_test_cannot_reach_an_address(way: str) -> None:
    """Every way of a socket to an address is closed in unit tests."""
    with socket.socket() as closed, pytest.raises(AssertionError, match="no sockets"):
        getattr(closed, way)(("127.0.0.1", 1))


def test_a_unit_test_cannot_look_up_a_name() -> None:
    """Names are not resolved in unit tests."""
    with pytest.raises(AssertionError, match="no sockets"):
        socket.create_connection(("localhost", 1))


def test_an_event_loop_still_runs() -> None:
    """The closed sockets leave the event loop's own wake-up pair alone."""

    async def wait_for_thread() -> str:
        return await asyncio.to_thread(lambda: "done")

    assert asyncio.run(wait_for_thread()) == "done"
