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
from ociaudit.client.transport import Transport, _describe, _read_request_id, _read_token
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
