import base64
import hashlib
from dataclasses import replace

import pytest

from ociaudit_emulator.session_token import Holder, HolderKind, make_session_token
from ociaudit_emulator.time_formats import format_http_date
from support.emulated_service import KEY, NOW_SECONDS, OTHER_KEY, USER

REGIONS = "/20160918/tenancies/{}/regionSubscriptions"


@pytest.fixture
def target(service):
    """A request target with a query."""
    return REGIONS.format(service.tenancy.id) + "?a=%3A&b=1"


def change_header(request, name, value):
    """The same request with one header changed, or removed when the value is None."""
    headers = {**request.headers, name: value}
    return replace(request, headers={key: text for key, text in headers.items() if text is not None})


def test_a_valid_signature_is_accepted(service, target):
    """A request signed with a trusted key over date, target and host is accepted."""
    response = service.serve(service.make_request(target))
    assert response.status == 200
    assert service.last_entry.key == service.key_id.rpartition("/")[2]


def test_the_parts_of_the_header_can_be_in_any_order(service, target):
    """The Authorization header is read by the names of its parts."""
    request = service.make_request(target)
    scheme, _, parts = request.headers["authorization"].partition(" ")
    reordered = f"{scheme} {','.join(reversed(parts.split(',')))}"
    assert service.serve(change_header(request, "authorization", reordered)).status == 200


def test_x_date_replaces_date(service, target):
    """A signed x-date takes precedence over an unsigned and wrong date."""
    right, wrong = format_http_date(NOW_SECONDS), format_http_date(0)
    signed = ("x-date", "(request-target)", "host")
    request = service.make_request(target, signed=signed, headers={"x-date": right, "date": wrong})
    assert service.serve(request).status == 200


@pytest.mark.parametrize(
    "spoil",
    [
        lambda request: change_header(request, "authorization", None),
        lambda request: change_header(request, "authorization", "Bearer abc"),
        lambda request: change_header(request, "host", "elsewhere"),
        lambda request: change_header(request, "date", None),
        lambda request: change_header(request, "date", "yesterday"),
        lambda request: change_header(request, "x-date", request.headers["date"]),
        lambda request: replace(request, target=request.target.replace("b=1", "b=2")),
        lambda request: replace(request, target=request.target.replace("%3A", ":")),
        lambda request: replace(request, method="HEAD"),
        lambda request: change_header(
            request, "authorization", request.headers["authorization"].replace("rsa-sha256", "hmac-sha256")
        ),
        lambda request: change_header(
            request, "authorization", request.headers["authorization"].replace('signature="', 'signature="!')
        ),
    ],
    ids=[
        "unsigned",
        "other scheme",
        "other host",
        "no date",
        "unreadable date",
        "unsigned x-date",
        "altered query",
        "query encoded differently",
        "other method",
        "other algorithm",
        "malformed signature",
    ],
)
def test_a_request_other_than_the_signed_one_is_rejected(service, target, spoil):
    """A request that differs from the signed one in any part gets 401 NotAuthenticated."""
    response = service.serve(spoil(service.make_request(target)))
    assert response.status == 401
    assert b'"code":"NotAuthenticated"' in response.body
    assert service.last_entry.code == "NotAuthenticated"


def test_an_unknown_key_is_rejected(service, target):
    """A keyId that is not trusted gets 401."""
    assert service.serve(service.make_request(target, key_id=f"{service.key_id}:00")).status == 401


def test_a_known_key_id_with_another_key_is_rejected(service, target):
    """A trusted keyId with a signature of another key gets 401."""
    assert service.serve(service.make_request(target, key=OTHER_KEY)).status == 401


@pytest.mark.parametrize("missing", ["date", "(request-target)", "host"])
def test_date_target_and_host_must_be_signed(service, target, missing):
    """A signature without date, target or host gets 401."""
    signed = [name for name in ("date", "(request-target)", "host") if name != missing]
    assert service.serve(service.make_request(target, signed=signed)).status == 401


@pytest.mark.parametrize(("skew", "status"), [(-301, 401), (-299, 200), (299, 200), (301, 401)])
def test_the_clock_can_be_five_minutes_off(service, target, skew, status):
    """A date more than five minutes before or after the service's clock gets 401."""
    request = service.make_request(target)
    service.seconds += skew
    assert service.serve(request).status == status


def test_a_body_is_signed_with_its_length_type_and_hash(service):
    """A POST whose signature omits the body's headers, or whose body differs, gets 401."""
    body = b'{"a":1}'
    headers = {
        "content-length": str(len(body)),
        "content-type": "application/json",
        "x-content-sha256": base64.b64encode(hashlib.sha256(body).digest()).decode(),
    }
    usual = ("date", "(request-target)", "host")
    full = service.make_request(
        "/20160918/compartments", method="POST", body=body, headers=headers, signed=(*usual, *headers)
    )
    short = service.make_request("/20160918/compartments", method="POST", body=body, headers=headers, signed=usual)
    # A request with a valid signature reaches the operation, which does not exist.
    assert service.serve(full).status == 405
    assert service.serve(replace(full, body=b'{"a":2}')).status == 401
    assert service.serve(short).status == 401


def make_session_key_id(service, *, issuer=OTHER_KEY, seconds=600):
    """The keyId of a session with the test's key."""
    token = make_session_token(
        issuer,
        KEY.public_key(),
        holder=Holder(HolderKind.USER, USER, service.tenancy.id, service.tenancy.id),
        span=(NOW_SECONDS, NOW_SECONDS + seconds),
    )
    return f"ST${token}"


def test_a_session_token_is_valid_until_it_expires(service, target):
    """A session's key is accepted until the token's expiry time, and not after it."""
    service.assembly.key_ring.trust_issuer(OTHER_KEY.public_key())
    key_id = make_session_key_id(service)
    assert service.serve(service.make_request(target, key_id=key_id)).status == 200
    service.seconds += 600
    assert service.serve(service.make_request(target, key_id=key_id)).status == 401


def test_a_session_token_of_another_issuer_is_rejected(service, target):
    """A token of an untrusted issuer gets 401, and so does a malformed one."""
    service.assembly.key_ring.trust_issuer(OTHER_KEY.public_key())
    own = make_session_key_id(service, issuer=KEY)
    assert service.serve(service.make_request(target, key_id=own)).status == 401
    assert service.serve(service.make_request(target, key_id="ST$a.b.c")).status == 401


def test_the_log_never_holds_a_token_or_a_signature(service, target):
    """The entry of a request names the key's fingerprint, and nothing that could be reused."""
    service.assembly.key_ring.trust_issuer(OTHER_KEY.public_key())
    key_id = make_session_key_id(service)
    request = service.make_request(target, key_id=key_id)
    service.serve(request)
    text = str(service.last_entry)
    assert service.last_entry.key is not None
    assert service.last_entry.key.startswith("session ")
    assert key_id not in text
    assert key_id.rpartition(".")[2] not in text
    assert "signature" not in text
