import asyncio
import errno
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from ociaudit.client.signer import Credentials
from ociaudit.client.transport import MemoryBudget, Transport, _describe, _read_request_id, _read_token
from ociaudit.errors import ServiceError

NOW = datetime(2025, 12, 10, 12, 0, tzinfo=UTC)
NOT_TEXT = b"\xff\xfe".decode("utf-8", "surrogateescape")
"""How aiohttp represents bytes that are not UTF-8 in the value of a header."""


class StoppedClock:
    """A clock that always shows the same moment."""

    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("no test here waits")

    def draw(self) -> float:
        return 0.0


class ReceivedHead:
    """The status and headers of a response, as aiohttp represents them."""

    def __init__(self, status: int = 200, **headers: str) -> None:
        self.status = status
        self.url = URL("http://127.0.0.1/x?secret=1")
        pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
        self.headers = CIMultiDictProxy(CIMultiDict(pairs))


def make_transport() -> Transport:
    """Make a transport that opens no connection."""
    credentials = Credentials("tenancy", "region", "principal", None, "DEFAULT", "api_key", _signer=lambda _: None)
    return Transport(credentials, clock=StoppedClock())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        (" 0 ", 0.0),
        ("9" * 400, float("inf")),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0.0),
        ("-7", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("nan", None),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        ("Mon, 01 Jan 2024 00:00:00 +999999999999999999999", None),
        ("Mon, 01 Jan 2024 00:00:00 -0000", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str | None, seconds: float | None) -> None:
    """Both forms of the standard are parsed; anything else counts as absent."""
    assert make_transport()._parse_retry_after(text) == seconds


@given(st.text(max_size=40) | st.text("0123456789 ,:+-JanMonGMT", max_size=40))
def test_any_date_of_a_server_is_handled(text: str) -> None:
    """Any text in Retry-After or Date is parsed or ignored."""
    transport = make_transport()
    seconds = transport._parse_retry_after(text)
    assert seconds is None or seconds >= 0
    transport._latest_dates = (NOW, text)
    assert transport.skew_seconds is None or isinstance(transport.skew_seconds, float)


@pytest.mark.parametrize(
    ("date", "skew"),
    [
        (format_datetime(NOW - timedelta(seconds=400), usegmt=True), 400.0),
        (format_datetime(NOW + timedelta(seconds=1), usegmt=True), -1.0),
        (None, None),
        ("", None),
        ("yesterday", None),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
    ],
)
def test_the_skew_is_how_far_the_local_clock_is_ahead(date: str | None, skew: float | None) -> None:
    """A service whose Date is 400 s behind means a skew of 400 s; an invalid Date means none."""
    transport = make_transport()
    assert transport.skew_seconds is None
    transport._latest_dates = (NOW, date)
    assert transport.skew_seconds == skew


@pytest.mark.parametrize(
    ("body", "is_oci"),
    [
        (b'{"code":"NotAuthenticated","message":"no"}', True),
        (b'{"code":"X"}', True),
        (b'{"code":"X","message":"m","more":{"a":[1]}}', True),
        (b'{"code":""}', False),
        (b'{"message":"no"}', False),
        (b'{"code":1}', False),
        (b"[]", False),
        (b"", False),
        (b"<html>502</html>", False),
        (b"\xff\xfe", False),
        (b'{"code":"\\ud800"}', False),
        (b'{"code":"X","more":' + b"[" * 100_000 + b"]" * 100_000 + b"}", False),
    ],
)
def test_an_error_is_oracles_or_not(body: bytes, *, is_oci: bool) -> None:
    """Only a body `{"code", "message"}` counts as Oracle's error; any other is shown in part."""
    error = make_transport()._make_service_error(ReceivedHead(404, opc_request_id="r-1"), body)
    assert isinstance(error, ServiceError)
    assert (error.is_oci, error.status, error.request_id) == (is_oci, 404, "r-1")
    assert len(str(error)) < 300
    assert "secret" not in str(error)
    str(error).encode()


def test_an_empty_token_is_the_end() -> None:
    """An empty page token counts as an absent one."""
    assert _read_token(ReceivedHead()) is None
    assert _read_token(ReceivedHead(opc_next_page="")) is None
    assert _read_token(ReceivedHead(opc_next_page="a b/+=")) == "a b/+="


def test_a_token_that_is_not_ascii_is_an_error() -> None:
    """A page token that could not be sent back unchanged is an error, not the end of the shard."""
    with pytest.raises(ValueError, match="not ASCII"):
        _read_token(ReceivedHead(opc_next_page=NOT_TEXT))


ADDRESS = ConnectionKey("audit.example.com", 443, True, ssl.create_default_context(), None, None, None)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (aiohttp.ClientConnectorError(ADDRESS, OSError(111, "Connection refused")), "Connection refused"),
        (
            aiohttp.ClientConnectorError(ADDRESS, OSError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 1)")),
            "Connection refused (127.0.0.1, port 1)",
        ),
        (
            aiohttp.ClientConnectorError(
                ADDRESS,
                OSError(
                    f"Multiple exceptions: [Errno {errno.ECONNREFUSED}] Connect call failed ('::1', 1, 0, 0), "
                    f"[Errno {errno.EHOSTUNREACH}] Connect call failed ('10.0.0.1', 1)"
                ),
            ),
            "Connection refused (::1, port 1), No route to host (10.0.0.1, port 1)",
        ),
        (aiohttp.ClientConnectorDNSError(ADDRESS, OSError(-2, "Name or service not known")), "not known"),
        (aiohttp.ClientConnectorSSLError(ADDRESS, ssl.SSLError(1, "wrong version number")), "wrong version"),
        (aiohttp.ClientProxyConnectionError(ADDRESS, OSError(111, "Connection refused")), "Connection refused"),
        (aiohttp.ClientConnectorCertificateError(ADDRESS, ssl.CertificateError("expired")), "expired"),
        (aiohttp.ServerDisconnectedError(ADDRESS), "closed"),
        (aiohttp.ServerDisconnectedError(), "closed"),
        (aiohttp.ClientOSError(104, "Connection reset by peer"), "reset"),
        (aiohttp.ClientPayloadError(object()), "ClientPayloadError"),
        (ValueError(object()), "ValueError"),
    ],
)
def test_no_python_object_is_in_a_message(error: Exception, words: str) -> None:
    """An error of a connection is described by its cause, without the objects that aiohttp prints."""
    shown = _describe(error)
    assert words in shown
    assert "object" not in shown
    assert "ssl:" not in shown


def test_text_of_a_server_can_be_stored() -> None:
    """Bytes that are not text, in a request id or an error, become escapes that a journal can store."""
    assert _read_request_id(ReceivedHead(opc_request_id="r" + NOT_TEXT)) == "r\\udcff\\udcfe"
    assert _read_request_id(ReceivedHead()) is None
    assert _describe(aiohttp.ClientPayloadError(NOT_TEXT)) == "\\udcff\\udcfe"
    assert _describe(TimeoutError()) == "TimeoutError"


@given(st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=6), min_size=1, max_size=8), st.integers(1, 100))
def test_the_limit_holds_and_every_response_finishes(responses: list[list[int]], limit: int) -> None:
    """Only the oldest reservation exceeds the limit, and every response is processed in the end."""
    budget = MemoryBudget(limit, max_responses=8)
    finished: list[int] = []

    async def read(number: int, chunks: list[int]) -> None:
        reservation = budget.reserve()
        for chunk in chunks:
            await reservation.acquire(chunk)
            is_oldest = next(iter(budget._reservations)) is reservation
            assert (
                budget.reserved_bytes <= limit
                or is_oldest
                or budget.reserved_bytes - reservation.reserved_bytes > limit - chunk
            )
            await asyncio.sleep(0)
        reservation.release()
        reservation.release()
        finished.append(number)

    async def read_all() -> None:
        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            for number, chunks in enumerate(responses):
                tasks.create_task(read(number, chunks))

    asyncio.run(read_all())
    assert sorted(finished) == list(range(len(responses)))
    assert budget.reserved_bytes == 0


def test_a_cancelled_wait_blocks_nothing() -> None:
    """When a reservation whose wait was cancelled is released, the others get their bytes."""

    async def scene() -> list[str]:
        budget = MemoryBudget(10, max_responses=8)
        first, second, third = budget.reserve(), budget.reserve(), budget.reserve()
        await first.acquire(10)
        waiting = asyncio.ensure_future(second.acquire(5))
        last = asyncio.ensure_future(third.acquire(5))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        second.release()
        first.release()
        await asyncio.wait_for(last, 5)
        return [str(waiting.cancelled()), str(third.reserved_bytes)]

    assert asyncio.run(scene()) == ["True", "5"]


def test_a_response_larger_than_the_budget_is_read() -> None:
    """The only reservation gets what it needs, even above the limit."""

    async def scene() -> int:
        reservation = MemoryBudget(10, max_responses=8).reserve()
        await reservation.acquire(1_000)
        await reservation.acquire(1_000)
        return reservation.reserved_bytes

    assert asyncio.run(scene()) == 2_000


def test_no_request_is_sent_while_enough_responses_wait() -> None:
    """A third request waits until one of two complete responses is processed; an incomplete one blocks nothing."""

    async def scene() -> None:
        budget = MemoryBudget(10, max_responses=2)
        first, second, third = budget.reserve(), budget.reserve(), budget.reserve()
        for reservation in (first, second, third):
            await reservation.acquire(1)
        first.mark_complete()
        await asyncio.wait_for(budget.wait_for_room(), 5)
        second.mark_complete()
        waiting = asyncio.ensure_future(budget.wait_for_room())
        await asyncio.sleep(0)
        third.release()
        await asyncio.sleep(0)
        assert not waiting.done()
        first.release()
        await asyncio.wait_for(waiting, 5)

    asyncio.run(scene())
