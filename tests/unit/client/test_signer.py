from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.client.signer import Claims, LoadedSigner, RefreshingSigner, read_claims
from ociaudit.errors import ConfigError


class Shop:
    """Gives out one signer after the other, and remembers when it was asked."""

    def __init__(self, signers: Iterable[LoadedSigner | Exception]) -> None:
        self.signers = list(signers)
        self.threads: list[threading.Thread] = []

    def load(self) -> LoadedSigner:
        """Give the next one."""
        self.threads.append(threading.current_thread())
        signer = self.signers.pop(0)
        if isinstance(signer, Exception):
            raise signer
        return signer


def make_signer(name: str, begin: float | None = None, end: float | None = None) -> LoadedSigner:
    """Make a signer that signs with its name."""
    return LoadedSigner(lambda request: request.append(name), token=name, claims=Claims(iat=begin, exp=end))


def read_name(signer: RefreshingSigner) -> str:
    """Return who signs."""
    request: list[str] = []
    signer(request)
    return request[0]


@pytest.mark.parametrize(
    ("begin", "end", "now", "is_renewed"),
    [
        (0, 3600, 3299, False),
        (0, 3600, 3300, True),
        (0, 3600, 9999, True),
        (0, 8, 5.9, False),
        (0, 8, 6, True),
        (None, 3600, 3300, True),
        (None, None, 1e12, False),
        (9, 8, 7.9, False),
        (9, 8, 8, True),
    ],
)
def test_a_token_is_renewed_before_it_ends(
    begin: float | None, end: float | None, now: float, *, is_renewed: bool
) -> None:
    """Five minutes before its end, or in the last quarter of a short life; never where the end is not known."""
    shop = Shop([make_signer("b", now, now + 3600)])
    signer = RefreshingSigner(make_signer("a", begin, end), shop.load)
    asyncio.run(signer.refresh_early(now))
    assert (read_name(signer), signer.number) == (("b", 1) if is_renewed else ("a", 0))


def test_loading_leaves_the_loop() -> None:
    """Loading may block, so it happens in another thread."""
    shop = Shop([make_signer("b")])
    asyncio.run(RefreshingSigner(make_signer("a"), shop.load).refresh_after(0))
    assert shop.threads[0] is not threading.current_thread()


def test_many_refusals_are_one_renewal() -> None:
    """Sixteen requests that were refused with the same signer share a new one, and all are told to try again."""
    shop = Shop([make_signer("b")])
    signer = RefreshingSigner(make_signer("a"), shop.load)

    async def refuse_all() -> list[bool]:
        return await asyncio.gather(*(signer.refresh_after(0) for _ in range(16)))

    assert asyncio.run(refuse_all()) == [True] * 16
    assert len(shop.threads) == 1
    assert read_name(signer) == "b"


def test_the_same_token_again_is_no_help() -> None:
    """When the file has not changed, asking again would be refused again."""
    signer = RefreshingSigner(make_signer("a"), Shop([make_signer("a")]).load)
    assert asyncio.run(signer.refresh_after(0)) is False
    assert signer.number == 0


def test_a_renewal_that_fails_keeps_the_signer_and_says_why() -> None:
    """The old signer goes on, the failure is remembered until one succeeds."""
    shop = Shop([ConfigError("no metadata"), make_signer("b")])
    signer = RefreshingSigner(make_signer("a"), shop.load)
    assert asyncio.run(signer.refresh_after(0)) is False
    assert (read_name(signer), signer.problem) == ("a", "no metadata")
    assert asyncio.run(signer.refresh_after(0)) is True
    assert (read_name(signer), signer.problem) == ("b", None)


def test_a_failed_renewal_is_not_repeated_at_once() -> None:
    """Before the next try some seconds pass, while the token still holds."""
    shop = Shop([ConfigError("x"), make_signer("b")])
    signer = RefreshingSigner(make_signer("a", 0, 3600), shop.load)

    async def ask(*moments: float) -> None:
        for moment in moments:
            await signer.refresh_early(moment)

    asyncio.run(ask(3400, 3401, 3409))
    assert len(shop.threads) == 1
    asyncio.run(ask(3410))
    assert read_name(signer) == "b"


def test_nobody_else_waits_while_the_token_holds() -> None:
    """While one request renews the token, the others are signed with the old one; after its end they wait."""
    rate_limiter = threading.Event()

    def load() -> LoadedSigner:
        assert rate_limiter.wait(10)
        return make_signer("b", 3500, 7200)

    signer = RefreshingSigner(make_signer("a", 0, 3600), load)

    async def ask() -> str:
        renewing = asyncio.create_task(signer.refresh_early(3400))
        await asyncio.sleep(0)
        await asyncio.wait_for(signer.refresh_early(3411), 5)
        meanwhile = read_name(signer)
        late = asyncio.create_task(signer.refresh_early(3601))
        await asyncio.sleep(0)
        assert not late.done()
        rate_limiter.set()
        await asyncio.gather(renewing, late)
        return meanwhile + read_name(signer)

    assert asyncio.run(ask()) == "ab"


def test_everybody_waits_for_a_token_once_the_old_one_has_ended() -> None:
    """Requests that leave together after a long pause are signed by the next token, which was asked for once."""
    may_load = threading.Event()
    loadings: list[float] = []

    def load() -> LoadedSigner:
        loadings.append(1)
        assert may_load.wait(5)
        return make_signer("b", 100, 3600)

    async def scene() -> list[str]:
        signer = RefreshingSigner(make_signer("a", 0, 8), load)

        async def ask() -> str:
            await signer.refresh_early(100)
            return read_name(signer)

        asking = [asyncio.ensure_future(ask()) for _ in range(5)]
        await asyncio.sleep(0.05)
        assert not any(one.done() for one in asking)
        may_load.set()
        return await asyncio.wait_for(asyncio.gather(*asking), 5)

    assert asyncio.run(scene()) == ["b"] * 5
    assert len(loadings) == 1


def test_an_end_is_told_once_it_is_over() -> None:
    """When the latest request came after the end, that is known; before, there is nothing to tell."""
    signer = RefreshingSigner(make_signer("a", 0, 100), Shop([make_signer("a", 0, 100)]).load)
    assert signer.ended_at is None
    asyncio.run(signer.refresh_early(50))
    assert signer.ended_at is None
    asyncio.run(signer.refresh_early(100))
    assert signer.ended_at == 100


@given(
    life=st.floats(0.1, 1e6),
    steps=st.lists(st.floats(0.001, 0.2), min_size=1, max_size=80),
)
def test_a_token_never_ends_while_requests_come(life: float, steps: list[float]) -> None:
    """However requests are spread, at most a fifth of a life apart, none is signed with a token that has ended."""
    now = 0.0
    issued = iter(range(10_000))

    def load() -> LoadedSigner:
        return make_signer(f"t{next(issued)}", now, now + life)

    signer = RefreshingSigner(load(), load)

    async def ask() -> None:
        nonlocal now
        for step in steps:
            now += step * life
            await signer.refresh_early(now)
            assert signer.ended_at is None

    asyncio.run(ask())


def test_nothing_of_a_token_is_shown() -> None:
    """A signer's repr has neither token nor claims."""
    shown = repr(make_signer("secret-token", 0, 1))
    assert "secret" not in shown
    assert "exp" not in shown


def make_token(claims: object) -> str:
    """Make a token that nobody signed."""
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{body}.c2ln"


def test_the_claims_of_a_token_are_read() -> None:
    """Who, where, until when, and the key are read; what is not known is left aside."""
    key = json.dumps({"kty": "RSA", "n": base64.urlsafe_b64encode((65537).to_bytes(3, "big")).decode(), "e": "AQAB"})
    claims = read_claims(
        make_token({"sub": "ocid1.user.oc1..a", "tenant": "t", "exp": 9, "iat": 1, "jwk": key, "x": []})
    )
    assert (claims.principal, claims.tenancy, claims.exp, claims.iat) == ("ocid1.user.oc1..a", "t", 9.0, 1.0)
    assert claims.key_modulus == 65537


def test_a_resource_is_at_home_in_its_own_tenancy() -> None:
    """The tenancy of the resource goes before that of the sign-in."""
    assert read_claims(make_token({"tenant": "a", "res_tenant": "b"})).tenancy == "b"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "token",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "é.é.é",
        "a." + "[" * 100_000 + ".c",
        make_token([]),
        make_token({"exp": "x"}),
    ],
)
def test_what_is_no_token_has_no_claims(token: str) -> None:
    """A text of another form is no error: the service will judge it."""
    assert read_claims(token) == Claims()


@pytest.mark.parametrize("jwk", [None, "", "{}", "[]", '{"n": 1}', '{"n": "é"}', "{" * 100_000])
def test_a_token_without_a_readable_key_is_bound_to_none(jwk: str | None) -> None:
    """A key that cannot be read tells nothing."""
    assert Claims(jwk=jwk).key_modulus is None


@pytest.mark.parametrize("name", ["\x1b[31m", "two words", "ü", "a" * 300, '"', ""])
def test_a_name_that_cannot_be_printed_is_none(name: str) -> None:
    """Only a plain name gets into a manifest or onto a screen."""
    assert Claims(sub=name, tenant=name).principal is None
    assert Claims(sub=name, tenant=name).tenancy is None


@given(st.text(max_size=60) | st.builds(make_token, st.recursive(st.none() | st.text(), st.lists, max_leaves=4)))
def test_no_text_is_too_odd(token: str) -> None:
    """Whatever stands in a token's file, reading it ends with claims or none."""
    assert isinstance(read_claims(token), Claims)
