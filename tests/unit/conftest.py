"""Unit tests have no sockets: what needs one is tested in `tests/integration` against a real server."""

import socket
from typing import NoReturn

import pytest

CLOSED_METHODS = ("bind", "connect", "connect_ex", "sendto")
CLOSED_FUNCTIONS = ("getaddrinfo", "gethostbyname")


class SocketInUnitTestError(AssertionError):
    """A unit test reached for the network; no OSError, so that no code under test can swallow it."""


@pytest.fixture(autouse=True)
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Close every way to an address; `socketpair`, which event loops need, has none and stays open."""

    def refuse(*_args: object, **_options: object) -> NoReturn:
        raise SocketInUnitTestError("a unit test has no sockets: hand in a fake or move it to tests/integration")

    for name in CLOSED_METHODS:
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in CLOSED_FUNCTIONS:
        monkeypatch.setattr(socket, name, refuse)
