import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from ociaudit.client.audit import AuditReader, Page, PageLoop
from ociaudit.client.network import Endpoints
from ociaudit.errors import ConnectionFailed, InvalidResponse, RequestError, ServiceError
from ociaudit.planning.shard import PageCursor
from support.drawn_shards import TENANCY, make_shard
from support.scripted_transport import Reply, ScriptedTransport, SilentTransport

SHARD = make_shard(0, 90)
ENDPOINTS = Endpoints("http://127.0.0.1/{region}")


def body(*ids: str) -> bytes:
    """Write a page of events with these ids."""
    return b"[" + b",".join(b'{"eventId":"%b"}' % each.encode() for each in ids) + b"]"


def refuse(status: int, code: str = "PaginationTokenExpired") -> ServiceError:
    """Make a refusal of Oracle's."""
    return ServiceError(f"{status} {code}", status=status, code=code, is_oci=True)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run in a loop of its own and prove that no task is left."""

    async def watch() -> Any:
        result = await work
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
    """Follow a table of replies and return (chain, number, next token) of the pages, and the tokens asked."""
    transport = ScriptedTransport(replies)
    pages = run(follow(transport, cursor))
    return [(page.chain, page.number, page.next_token) for page in pages], transport.tokens


def test_pages_are_followed_to_the_one_without_a_token() -> None:
    """Every page comes, in order and numbered from 1, and empty ones do not end the shard."""
    pages, tokens = follow_replies({None: [(body("a"), "t1")], "t1": [(b"[]", "t2")], "t2": [(body("b"), None)]})
    assert pages == [(0, 1, "t1"), (0, 2, "t2"), (0, 3, None)]
    assert tokens == [None, "t1", "t2"]


def test_a_question_says_what_the_api_wants() -> None:
    """Compartment, start and end in whole minutes, and the token, encoded so that no part of it is lost."""
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


def test_a_bookmark_is_gone_on_from() -> None:
    """The first question has the bookmark's token, and numbers go on in its chain."""
    pages, tokens = follow_replies(
        {"t3": [(b"[]", "t4")], "t4": [(b"[]", None)]}, PageCursor(attempt=1, page=3, token="t3")
    )
    assert pages == [(1, 4, "t4"), (1, 5, None)]
    assert tokens == ["t3", "t4"]


def test_a_refused_token_begins_the_shard_anew() -> None:
    """When the service refuses a token the shard is asked from its first page, as the next chain."""
    pages, tokens = follow_replies({None: [(b"[]", "t1"), (b"[]", "u1")], "t1": [refuse(400)], "u1": [(b"[]", None)]})
    assert pages == [(0, 1, "t1"), (1, 1, "u1"), (1, 2, None)]
    assert tokens == [None, "t1", None, "u1"]


def test_a_refused_bookmark_begins_the_shard_anew() -> None:
    """The token of an earlier run may have expired: the shard begins again, in a chain of its own."""
    pages, _ = follow_replies({"old": [refuse(400)], None: [(b"[]", None)]}, PageCursor(2, 7, "old"))
    assert pages == [(3, 1, None)]


def test_a_shard_begins_anew_twice_at_most() -> None:
    """A token that is refused each time is an error in the end."""
    transport = ScriptedTransport({None: [(b"[]", "t")], "t": [refuse(400)]})
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
    """A service that goes round in circles is noticed, and no token is asked twice in one chain."""
    transport = ScriptedTransport(replies)
    with pytest.raises(PageLoop):
        run(follow(transport))
    first_chain = transport.tokens[: transport.tokens.index(None, 1)]
    assert len(first_chain) == len(set(first_chain))
    assert transport.tokens.count(None) == 3


def test_a_bookmark_that_leads_to_itself_is_a_loop() -> None:
    """The bookmark's own token counts as asked: when it comes back the shard begins anew."""
    pages, tokens = follow_replies({"t": [(b"[]", "t")], None: [(b"[]", None)]}, PageCursor(0, 4, "t"))
    assert tokens == ["t", None]
    assert pages == [(1, 1, None)]


@pytest.mark.parametrize(
    "error",
    [refuse(404, "NotAuthorizedOrNotFound"), refuse(401), refuse(400), ConnectionFailed("x"), InvalidResponse("x")],
)
def test_an_error_on_the_first_page_is_passed_on(error: RequestError) -> None:
    """Without a token there is nothing to begin anew, so the error comes out."""
    with pytest.raises(type(error)):
        run(follow(ScriptedTransport({None: [error]})))


@pytest.mark.parametrize("error", [refuse(404), ConnectionFailed("x"), InvalidResponse("x"), refuse(500)])
def test_only_a_refused_token_begins_anew(error: RequestError) -> None:
    """Any other error in the middle of a chain comes out at once."""
    transport = ScriptedTransport({None: [(b"[]", "t")], "t": [error]})
    with pytest.raises(type(error)):
        run(follow(transport))
    assert transport.tokens == [None, "t"]


def test_a_bad_body_is_an_error_and_no_page() -> None:
    """A page that is no array of objects never comes out."""
    with pytest.raises(InvalidResponse, match="element 1"):
        run(follow(ScriptedTransport({None: [(b"[1]", None)]})))


def test_one_page_is_asked_ahead_and_no_more() -> None:
    """While a page is worked on the next one is on its way, and the one behind it is not."""

    async def work_slowly() -> None:
        transport = ScriptedTransport({None: [(b"[]", "a")], "a": [(b"[]", "b")], "b": [(b"[]", None)]})
        pages = AuditReader(transport, ENDPOINTS).follow_shard(SHARD)
        await anext(pages)
        for _ in range(10):
            await asyncio.sleep(0)
        assert transport.tokens == [None, "a"]
        await pages.aclose()

    run(work_slowly())


def test_closing_early_ends_the_request_on_its_way() -> None:
    """A consumer that leaves in the middle leaves no task behind, not even one that has failed meanwhile."""

    async def leave() -> None:
        for ahead in ([(b"[]", "b")], [refuse(404)]):
            transport = ScriptedTransport({None: [(b"[]", "a")], "a": ahead, "b": [(b"[]", None)]})
            async with contextlib.aclosing(AuditReader(transport, ENDPOINTS).follow_shard(SHARD)) as pages:
                await anext(pages)
                await asyncio.sleep(0)
            assert transport.open_requests == 0

    run(leave())


def test_cancelling_ends_the_request_on_its_way() -> None:
    """A consumer that is cancelled while it waits cancels the request too."""

    async def cancel() -> SilentTransport:
        transport = SilentTransport()
        task = asyncio.ensure_future(anext(AuditReader(transport, ENDPOINTS).follow_shard(SHARD)))
        await transport.is_asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return transport

    assert run(cancel()).cancelled == 1


@pytest.mark.parametrize("served", [b"[]", b'{"retentionPeriodDays":"x"}', b"{}", b"null"])
def test_the_retention_is_a_number_or_a_bad_answer(served: bytes) -> None:
    """GetConfiguration gives days; a body without them is a bad answer."""
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
