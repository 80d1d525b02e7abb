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
    """Somebody whose sign-in is never asked to sign."""
    return Credentials(
        TENANCY, REGION, "ocid1.user.oc1..me", "ab:cd", "PROD", kind, _signer=lambda _: None, rejection_hint="renew it"
    )


def make_reader(replies: dict[str | None, list[Reply]]) -> tuple[IdentityReader, ScriptedTransport]:
    """Make a reader over a table of replies."""
    transport = ScriptedTransport(replies)
    return IdentityReader(transport, Endpoints("http://127.0.0.1/{service}"), make_credentials()), transport


def refuse(status: int, *, is_oci: bool = True, skew_seconds: float | None = None) -> ServiceError:
    """Make a refusal."""
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
    """The listing goes to its last page, each compartment once, with the request id of every page."""
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
    """A token that comes twice is an error, never a listing cut short."""
    reader, _ = make_reader({None: [(b"[]", "p")], "p": [(b"[]", "p")]})
    with pytest.raises(ServiceUnreachable, match="circles"):
        asyncio.run(reader.list_compartments())


def test_the_regions_are_read() -> None:
    """Name, status and which one is home, as listed."""
    ready = b'{"regionName":"eu-x-1","status":"READY","isHomeRegion":true,"regionKey":"X"}'
    served = b"[" + ready + b',{"regionName":"eu-y-1","status":"I"}]'
    reader, transport = make_reader({None: [(served, None)]})
    listing = asyncio.run(reader.list_regions())
    assert [(item.name, item.status, item.is_home) for item in listing.items] == [
        ("eu-x-1", "READY", True),
        ("eu-y-1", "I", False),
    ]
    assert transport.urls == [f"http://127.0.0.1/identity/20160918/tenancies/{TENANCY}/regionSubscriptions"]


def test_a_region_that_is_no_name_is_refused() -> None:
    """The names of regions become hosts: one that could lead elsewhere stops the run."""
    served = b'[{"regionName":"evil.example/","status":"READY"}]'
    reader, _ = make_reader({None: [(served, None)]})
    with pytest.raises(ServiceUnreachable, match="is not the name of a region"):
        asyncio.run(reader.list_regions())


@pytest.mark.parametrize("what", ["regions", "compartments"])
@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (refuse(404), ScopeUnreadable, "cannot be read"),
        (refuse(403), ScopeUnreadable, "cannot be read"),
        (refuse(401), SignInRejected, "does not accept"),
        (refuse(500), ServiceUnreachable, "did not come"),
        (refuse(429), ServiceUnreachable, "did not come"),
        (refuse(404, is_oci=False), ServiceUnreachable, "did not come"),
        (refuse(401, is_oci=False), ServiceUnreachable, "did not come"),
        (ConnectionFailed("reset"), ServiceUnreachable, "did not come"),
        (InvalidResponse("html", request_id="request-7"), ServiceUnreachable, "did not come"),
    ],
)
@pytest.mark.parametrize("is_late", [False, True])
def test_a_failed_listing_stops_the_run(
    what: str, error: RequestError, kind: type[OciAuditError], words: str, *, is_late: bool
) -> None:
    """Whatever goes wrong, on the first page or later, is the error of its family and never a shorter listing."""
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
def test_a_listing_of_another_form_stops_the_run(served: bytes) -> None:
    """A body that is no listing is an error, never an empty one."""
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
        (refuse(404), True),
        (refuse(401), False),
        (refuse(500), True),
        (ConnectionFailed("reset"), True),
    ],
)
def test_only_a_401_says_that_the_key_is_refused(reply: Reply, *, expected: bool) -> None:
    """Any other answer, and none, leave the key in good standing."""
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
def test_a_rejection_says_the_likely_reason(skew: float | None, words: str, hint: str) -> None:
    """The clock when it is off by more than five minutes, else what this sign-in may lack, with the request id."""
    error = explain_rejection(refuse(401, skew_seconds=skew), make_credentials())
    assert words in str(error)
    assert "request-7" in str(error)
    assert hint in error.hint
