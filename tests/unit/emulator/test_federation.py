import base64
import hashlib
import json
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from ociaudit_emulator.control import ControlError
from ociaudit_emulator.session_token import HolderKind
from ociaudit_emulator.signature import SignedRequest
from support.emulated_service import KEY, NOW_SECONDS, OTHER_KEY

SIGNED = ("date", "(request-target)", "content-length", "content-type", "x-content-sha256")
PEM = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
TARGET = "/20160918/tenancies/{}/regionSubscriptions"


def ask_metadata(service, path, **headers):
    """Ask the metadata service."""
    headers = headers or {"authorization": "Bearer Oracle"}
    return service.serve(SignedRequest("GET", f"/opc/v2/{path}", headers))


def make_federation_request(service, *, key=None, key_id="", public_key=PEM, certificate=None, signed=SIGNED):
    """Ask for a token as the SDK does, with some things otherwise."""
    identity = service.assembly.handler._parts.metadata.identity
    shown = certificate or identity.leaf
    body = json.dumps(
        {
            "certificate": base64.b64encode(shown.public_bytes(serialization.Encoding.DER)).decode(),
            "publicKey": "".join(public_key.decode().splitlines()[1:-1]),
        }
    ).encode()
    fingerprint = identity.leaf.fingerprint(hashes.SHA1()).hex(":").upper()
    headers = {
        "content-length": str(len(body)),
        "content-type": "application/json",
        "x-content-sha256": base64.b64encode(hashlib.sha256(body).digest()).decode(),
    }
    return service.make_request(
        "/v1/x509",
        method="POST",
        body=body,
        headers=headers,
        signed=signed,
        key=key or identity.leaf_key,
        key_id=key_id or f"{service.tenancy.id}/fed-x509/{fingerprint}",
    )


def ask_with_token(service, token, key=KEY):
    """Ask for the regions with a token; give the status."""
    request = service.make_request(TARGET.format(service.tenancy.id), key=key, key_id=f"ST${token}")
    return service.serve(request).status


@pytest.mark.filterwarnings("ignore:Attribute's length")  # of Oracle's certificates, too
def test_an_instance_learns_who_it_is(service):
    """Region, id and certificates are answered as text; the certificate names the instance and its tenancy."""
    assert ask_metadata(service, "instance/region").body == b"us-ashburn-1"
    instance = ask_metadata(service, "instance/id").body.decode()
    leaf = x509.load_pem_x509_certificate(ask_metadata(service, "identity/cert.pem").body)
    issuer = x509.load_pem_x509_certificate(ask_metadata(service, "identity/intermediate.pem").body)
    key = serialization.load_pem_private_key(ask_metadata(service, "identity/key.pem").body, None)
    names = {attribute.value for attribute in leaf.subject}
    assert {instance, f"opc-instance:{instance}", f"opc-tenant:{service.tenancy.id}"} <= names
    leaf.verify_directly_issued_by(issuer)
    assert key.public_key() == leaf.public_key()


@pytest.mark.parametrize("headers", [{"x": "y"}, {"authorization": "Bearer Other"}])
def test_the_metadata_wants_its_header(service, headers):
    """Without the header of its second version the metadata service answers nothing."""
    assert ask_metadata(service, "identity/key.pem", **headers).status == 401


def test_there_is_no_other_metadata(service):
    """A path that is not emulated is 404."""
    assert ask_metadata(service, "instance/shape").status == 404


def test_an_instance_gets_a_token_that_signs(service):
    """The token of the federation endpoint is the instance's, and signs with the session's key until it ends."""
    response = service.serve(make_federation_request(service))
    assert response.status == 200
    token = json.loads(response.body)["token"]
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert (claims["ptype"], claims["tenant"]) == ("instance", service.tenancy.id)
    assert claims["sub"] == claims["opc-instance"]
    assert (claims["iat"], claims["exp"]) == (NOW_SECONDS, NOW_SECONDS + 1200)
    assert ask_with_token(service, token) == 200
    assert ask_with_token(service, token, OTHER_KEY) == 401
    service.seconds += 1200
    assert ask_with_token(service, token) == 401


@pytest.mark.parametrize(
    ("spoil", "status"),
    [
        (lambda service: make_federation_request(service, key=OTHER_KEY), 401),
        (lambda service: make_federation_request(service, key_id="someone/fed-x509/else"), 401),
        (lambda service: make_federation_request(service, signed=SIGNED[:-1]), 401),
        (lambda service: replace(make_federation_request(service), method="GET"), 405),
        (lambda service: replace(make_federation_request(service), body=b"{}"), 400),
        (lambda service: replace(make_federation_request(service), body=b"\xff"), 400),
        (lambda service: make_federation_request(service, public_key=b"-\nAAAA\n-"), 400),
        (lambda service: make_federation_request(service, certificate=make_stranger(service)), 401),
    ],
    ids=["other key", "other name", "body not signed", "GET", "empty", "no text", "no key", "other certificate"],
)
def test_a_request_for_a_token_must_prove_who_asks(service, spoil, status):
    """Another key, name or certificate, an unsigned body, or one without a key, gets no token."""
    assert service.serve(spoil(service)).status == status


def make_stranger(service):
    """The intermediate's certificate: real, and not the instance's."""
    return service.assembly.handler._parts.metadata.identity.intermediate


def ask_control(service, method, body=b""):
    """Ask the control endpoint for tokens."""
    return json.loads(service.assembly.control.respond(method, "/_emulator/tokens", body).body)


@pytest.mark.parametrize("kind", list(HolderKind))
def test_tests_can_have_tokens_of_each_kind(service, kind):
    """A token for a given key is accepted until the second that was asked for."""
    asked = {"publicKey": PEM.decode(), "kind": kind, "seconds": 60}
    token = ask_control(service, "POST", json.dumps(asked).encode())["token"]
    assert ask_with_token(service, token) == 200
    service.seconds += 60
    assert ask_with_token(service, token) == 401


def test_tokens_can_be_ended(service):
    """Tokens that were used are refused from then on; those that come later are good."""
    asked = json.dumps({"publicKey": PEM.decode()}).encode()
    token = ask_control(service, "POST", asked)["token"]
    assert ask_with_token(service, token) == 200
    assert ask_control(service, "DELETE") == {"ended": 1}
    assert ask_with_token(service, token) == 401
    service.seconds += 1
    assert ask_with_token(service, ask_control(service, "POST", asked)["token"]) == 200


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"publicKey": "x"}', b'{"publicKey": 1}', b"\xff"])
def test_a_wrong_wish_for_a_token_is_told_so(service, body):
    """What has no key or another kind is refused with what would be right."""
    with pytest.raises(ControlError, match="publicKey"):
        ask_control(service, "POST", body)
