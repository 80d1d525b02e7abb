import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from ociaudit.client.audit import AuditReader, Page
from ociaudit.client.network import Endpoints
from ociaudit.client.transport import PageLoop
from ociaudit.errors import ConnectionFailed, InvalidResponse, RequestError, ServiceError
from ociaudit.planning.shard import PageCursor
from support.drawn_shards import TENANCY, make_shard
from support.scripted_transport import Reply, ScriptedTransport, SilentTransport

SHARD = make_shard(0, 90)
ENDPOINTS = Endpoints("http://127.0.0.1/{region}")


def body(*ids: str) -> bytes:
    """Write a page of events with these ids."""
    return b"[" + b",".join(b'{"eventId":"%b"}' % each.encode() for each in ids) + b"]"


def reject(status: int, code: str = "PaginationTokenExpired") -> ServiceError:
    """Make an error of Oracle's."""
    return ServiceError(f"{status} {code}", status=status, code=code, is_oci=True)


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run in an event loop of its own, and assert that no task is left."""

    async def watch() -> Any:
        result = await main
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return result

    return asyncio.run(watch())


async def follow(transport: ScriptedTransport, cursor: PageCursor | None = None) -> list[Page]:
    """Follow the shard to its end."""
    reader = AuditReader(transport, ENDPOINTS)
    return [page async for page in reader.follow_shard(SHARD, cursor=cursor)]


def follow_replies(
    replies: dict[str | None, list[Reply]], cursor: PageCursor | None = None
) -> tuple[list[tuple[int, int, str | None]], list[str | None]]:
    """Follow a table of replies and return (attempt, number, next token) of the pages, and the tokens requested."""
    transport = ScriptedTransport(replies)
    pages = run(follow(transport, cursor))
    return [(page.attempt, page.number, page.next_token) for page in pages], transport.tokens


def test_pages_are_followed_to_the_one_without_a_token() -> None:
    """Every page arrives, in order and numbered from 1, and an empty page does not end the shard."""
    pages, tokens = follow_replies({None: [(body("a"), "t1")], "t1": [(b"[]", "t2")], "t2": [(body("b"), None)]})
    assert pages == [(0, 1, "t1"), (0, 2, "t2"), (0, 3, None)]
    assert tokens == [None, "t1", "t2"]


def test_a_request_has_the_parameters_of_the_api() -> None:
    """A request has compartment, start and end in whole minutes, and the token, encoded without loss."""
    token = "a/b+c=&d e%20\N{SNOWMAN}"
    transport = ScriptedTransport({None: [(b"[]", token)], token: [(b"[]", None)]})
    run(follow(transport))
    parts = urlsplit(transport.urls[1])
    assert parts.path == "/eu-frankfurt-1/20190901/auditEvents"
    assert parse_qs(parts.query) == {
        "compartmentId": [TENANCY],
        "startTime": ["1970-01-01T00:00:00Z"],
        "endTime": ["1970-01-01T01:30:00Z"],
        "page": [token],
    }
    assert "+" not in parts.query.replace("%2B", "")


def test_a_page_cursor_is_where_reading_continues() -> None:
    """The first request has the cursor's token, and page numbers continue in its attempt."""
    pages, tokens = follow_replies(
        {"t3": [(b"[]", "t4")], "t4": [(b"[]", None)]}, PageCursor(attempt=1, page=3, token="t3")
    )
    assert pages == [(1, 4, "t4"), (1, 5, None)]
    assert tokens == ["t3", "t4"]


def test_a_rejected_token_starts_the_next_attempt() -> None:
    """When the service rejects a token, the shard is read from its first page, as the next attempt."""
    pages, tokens = follow_replies({None: [(b"[]", "t1"), (b"[]", "u1")], "t1": [reject(400)], "u1": [(b"[]", None)]})
    assert pages == [(0, 1, "t1"), (1, 1, "u1"), (1, 2, None)]
    assert tokens == [None, "t1", None, "u1"]


def test_a_rejected_page_cursor_starts_the_next_attempt() -> None:
    """When the token of a previous run has expired, the shard is read again in an attempt of its own."""
    pages, _ = follow_replies({"old": [reject(400)], None: [(b"[]", None)]}, PageCursor(2, 7, "old"))
    assert pages == [(3, 1, None)]


def test_a_shard_has_three_attempts_at_most() -> None:
    """A token that is rejected in every attempt is an error after the third."""
    transport = ScriptedTransport({None: [(b"[]", "t")], "t": [reject(400)]})
    with pytest.raises(ServiceError):
        run(follow(transport))
    assert transport.tokens == [None, "t"] * 3


@pytest.mark.parametrize(
    "replies",
    [
        pytest.param({None: [(b"[]", "t1")], "t1": [(b"[]", "t1")]}, id="itself"),
        pytest.param({None: [(b"[]", "t1")], "t1": [(b"[]", "t2")], "t2": [(b"[]", "t1")]}, id="earlier"),
    ],
)
def test_a_loop_of_tokens_ends(replies: dict[str | None, list[Reply]]) -> None:
    """A service that repeats its tokens is detected, and no token is requested twice in one attempt."""
    transport = ScriptedTransport(replies)
    with pytest.raises(PageLoop):
        run(follow(transport))
    first_attempt = transport.tokens[: transport.tokens.index(None, 1)]
    assert len(first_attempt) == len(set(first_attempt))
    assert transport.tokens.count(None) == 3


def test_a_page_cursor_that_leads_to_itself_is_a_loop() -> None:
    """The cursor's own token counts as requested: when the service repeats it, the next attempt starts."""
    pages, tokens = follow_replies({"t": [(b"[]", "t")], None: [(b"[]", None)]}, PageCursor(0, 4, "t"))
    assert tokens == ["t", None]
    assert pages == [(1, 1, None)]


@pytest.mark.parametrize(
    "error",
    [reject(404, "NotAuthorizedOrNotFound"), reject(401), reject(400), ConnectionFailed("x"), InvalidResponse("x")],
)
def test_an_error_on_the_first_page_is_raised(error: RequestError) -> None:
    """An error without a token leads to no other attempt."""
    with pytest.raises(type(error)):
        run(follow(ScriptedTransport({None: [error]})))


@pytest.mark.parametrize("error", [reject(404), ConnectionFailed("x"), InvalidResponse("x"), reject(500)])
def test_only_a_rejected_token_starts_the_next_attempt(error: RequestError) -> None:
    """Any other error in the middle of an attempt is raised immediately."""
    transport = ScriptedTransport({None: [(b"[]", "t")], "t": [error]})
    with pytest.raises(type(error)):
        run(follow(transport))
    assert transport.tokens == [None, "t"]


def test_an_invalid_body_is_an_error() -> None:
    """A body that is not an array of objects is never yielded as a page."""
    with pytest.raises(InvalidResponse, match="element 1"):
        run(follow(ScriptedTransport({None: [(b"[1]", None)]})))


def test_one_page_is_requested_ahead() -> None:
    """While a page is processed, the next one is requested, and the one behind it is not."""

    async def process_slowly() -> None:
        transport = ScriptedTransport({None: [(b"[]", "a")], "a": [(b"[]", "b")], "b": [(b"[]", None)]})
        pages = AuditReader(transport, ENDPOINTS).follow_shard(SHARD)
        await anext(pages)
        for _ in range(10):
            await asyncio.sleep(0)
        assert transport.tokens == [None, "a"]
        await pages.aclose()

    run(process_slowly())


def test_closing_early_cancels_the_request_in_flight() -> None:
    """A consumer that stops in the middle leaves no task behind, not even one that has failed meanwhile."""

    async def stop_early() -> None:
        for ahead in ([(b"[]", "b")], [reject(404)]):
            transport = ScriptedTransport({None: [(b"[]", "a")], "a": ahead, "b": [(b"[]", None)]})
            async with contextlib.aclosing(AuditReader(transport, ENDPOINTS).follow_shard(SHARD)) as pages:
                await anext(pages)
                await asyncio.sleep(0)
            assert transport.open_requests == 0

    run(stop_early())


def test_cancelling_ends_the_request_in_flight() -> None:
    """A consumer that is cancelled while it waits cancels the request as well."""

    async def cancel() -> SilentTransport:
        transport = SilentTransport()
        task = asyncio.ensure_future(anext(AuditReader(transport, ENDPOINTS).follow_shard(SHARD)))
        await transport.has_request.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return transport

    assert run(cancel()).cancelled == 1


@pytest.mark.parametrize("served", [b"[]", b'{"retentionPeriodDays":"x"}', b"{}", b"null"])
def test_the_retention_is_a_number_or_an_error(served: bytes) -> None:
    """GetConfiguration returns days, and a body without them is an error."""
    good = ScriptedTransport({None: [(b'{"retentionPeriodDays":365,"x":1}', None)]})
    reader = AuditReader(good, ENDPOINTS)
    assert run(reader.read_retention_days(region="uk-london-1", tenancy=TENANCY)) == 365
    assert good.urls == [f"http://127.0.0.1/uk-london-1/20190901/configuration?compartmentId={TENANCY}"]
    with pytest.raises(InvalidResponse):
        run(
            AuditReader(ScriptedTransport({None: [(served, None)]}), ENDPOINTS).read_retention_days(
                region="uk-london-1", tenancy=TENANCY
            )
        )
