import asyncio
import json
from urllib.parse import parse_qs, urlsplit

import pytest

from ociaudit.client.identity import IdentityReader, explain_rejection
from ociaudit.client.network import Endpoints
from ociaudit.client.signer import AuthKind, Credentials
from ociaudit.errors import (
    ConnectionFailed,
    InvalidResponse,
    OciAuditError,
    RequestError,
    ScopeUnreadable,
    ServiceError,
    ServiceUnreachable,
    SignInRejected,
)
from support.drawn_shards import REGION, TENANCY
from support.scripted_transport import Reply, ScriptedTransport


def make_credentials(kind: AuthKind = "api_key") -> Credentials:
    """Make credentials that never sign."""
    return Credentials(
        TENANCY, REGION, "ocid1.user.oc1..me", "ab:cd", "PROD", kind, _signer=lambda _: None, rejection_hint="renew it"
    )


def make_reader(replies: dict[str | None, list[Reply]]) -> tuple[IdentityReader, ScriptedTransport]:
    """Make a reader that gets its responses from a table."""
    transport = ScriptedTransport(replies)
    return IdentityReader(transport, Endpoints("http://127.0.0.1/{service}"), make_credentials()), transport


def reject(status: int, *, is_oci: bool = True, skew_seconds: float | None = None) -> ServiceError:
    """Make an error response."""
    return ServiceError(
        f"{status} Code: no",
        status=status,
        code="Code",
        is_oci=is_oci,
        request_id="request-7",
        skew_seconds=skew_seconds,
    )


def write_compartments(*ids: str) -> bytes:
    """Write a page of the listing, with fields that the program does not know."""
    return json.dumps(
        [{"id": i, "compartmentId": TENANCY, "lifecycleState": "DELETED", "name": i, "timeCreated": None} for i in ids]
    ).encode()


def test_every_page_of_the_compartments_is_read() -> None:
    """The listing contains every page, each compartment once, and the request id of every page."""
    reader, transport = make_reader(
        {
            None: [(write_compartments("a", "b"), "p2")],
            "p2": [(b"[]", "p3")],
            "p3": [(write_compartments("b", "c"), None)],
        }
    )
    listing = asyncio.run(reader.list_compartments())
    assert [item.id for item in listing.items] == ["a", "b", "c"]
    assert {item.state for item in listing.items} == {"DELETED"}
    assert listing.request_ids == ("request-1", "request-2", "request-3")
    assert parse_qs(urlsplit(transport.urls[0]).query) == {
        "compartmentId": [TENANCY],
        "accessLevel": ["ANY"],
        "compartmentIdInSubtree": ["true"],
        "limit": ["1000"],
    }


def test_a_listing_that_loops_stops_the_run() -> None:
    """A page token that is repeated is an error, never a shortened listing."""
    reader, _ = make_reader({None: [(b"[]", "p")], "p": [(b"[]", "p")]})
    with pytest.raises(ServiceUnreachable, match=r"compartments .* same page token twice .*request-2"):
        asyncio.run(reader.list_compartments())


def test_the_regions_are_read() -> None:
    """A region has its name, its status and whether it is the home region, as listed."""
    ready = b'{"regionName":"eu-x-1","status":"READY","isHomeRegion":true,"regionKey":"X"}'
    served = b"[" + ready + b',{"regionName":"eu-y-1","status":"I"}]'
    reader, transport = make_reader({None: [(served, None)]})
    listing = asyncio.run(reader.list_regions())
    assert [(item.name, item.status, item.is_home) for item in listing.items] == [
        ("eu-x-1", "READY", True),
        ("eu-y-1", "I", False),
    ]
    assert transport.urls == [f"http://127.0.0.1/identity/20160918/tenancies/{TENANCY}/regionSubscriptions"]


def test_a_region_with_an_invalid_name_is_rejected() -> None:
    """A region name that could lead to another host stops the run."""
    served = b'[{"regionName":"evil.example/","status":"READY"}]'
    reader, _ = make_reader({None: [(served, None)]})
    with pytest.raises(ServiceUnreachable, match="is not the name of a region"):
        asyncio.run(reader.list_regions())


@pytest.mark.parametrize("what", ["regions", "compartments"])
@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (reject(404), ScopeUnreadable, "cannot be read"),
        (reject(403), ScopeUnreadable, "cannot be read"),
        (reject(401), SignInRejected, "does not accept"),
        (reject(500), ServiceUnreachable, "could not be fetched"),
        (reject(429), ServiceUnreachable, "could not be fetched"),
        (reject(404, is_oci=False), ServiceUnreachable, "could not be fetched"),
        (reject(401, is_oci=False), ServiceUnreachable, "could not be fetched"),
        (ConnectionFailed("reset"), ServiceUnreachable, "could not be fetched"),
        (InvalidResponse("html", request_id="request-7"), ServiceUnreachable, "could not be fetched"),
    ],
)
@pytest.mark.parametrize("is_late", [False, True])
def test_a_failed_listing_stops_the_run(
    what: str, error: RequestError, kind: type[OciAuditError], words: str, *, is_late: bool
) -> None:
    """Any failure, on the first page or later, is the error of its family and never a shorter listing."""
    late: dict[str | None, list[Reply]] = {None: [(write_compartments("a"), "p")], "p": [error]}
    reader, _ = make_reader(late if is_late and what == "compartments" else {None: [error]})
    with pytest.raises(kind, match=words) as caught:
        asyncio.run(reader.list_regions() if what == "regions" else reader.list_compartments())
    assert type(caught.value) is kind
    assert ("request-7" in str(caught.value)) == (error.request_id is not None)
    if kind is ScopeUnreadable:
        assert "--region" in caught.value.hint if what == "regions" else "--no-subtree" in caught.value.hint
        assert "inspect" in caught.value.hint


@pytest.mark.parametrize(
    "served", [b"{}", b"[1]", b'[{"id":"a"}]', b'[{"id":1,"compartmentId":"","lifecycleState":""}]']
)
def test_an_invalid_listing_stops_the_run(served: bytes) -> None:
    """A body that is not a listing is an error, never an empty listing."""
    reader, _ = make_reader({None: [(served, None)]})
    with pytest.raises(ServiceUnreachable):
        asyncio.run(reader.list_compartments())
    with pytest.raises(ServiceUnreachable):
        asyncio.run(reader.list_regions())


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ((b"{}", None), True),
        ((b"whatever", None), True),
        (reject(404), True),
        (reject(401), False),
        (reject(500), True),
        (ConnectionFailed("reset"), True),
    ],
)
def test_only_a_401_means_that_the_key_is_rejected(reply: Reply, *, expected: bool) -> None:
    """With any other response, or none, the key counts as accepted."""
    reader, _ = make_reader({None: [reply]})
    assert asyncio.run(reader.is_sign_in_accepted()) == expected


@pytest.mark.parametrize(
    ("skew", "words", "hint"),
    [
        (301.0, "301 s ahead of", "set the clock"),
        (-4000.0, "4000 s behind", "set the clock"),
        (300.0, "does not accept", "renew it"),
        (None, "does not accept", "renew it"),
    ],
)
def test_a_rejection_names_the_likely_reason(skew: float | None, words: str, hint: str) -> None:
    """The reason is the clock if it is off by more than five minutes, else the sign-in, with the request id."""
    error = explain_rejection(reject(401, skew_seconds=skew), make_credentials())
    assert words in str(error)
    assert "request-7" in str(error)
    assert hint in error.hint
