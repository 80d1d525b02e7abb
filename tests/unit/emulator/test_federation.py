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


def get_metadata(service, path, **headers):
    """Return the response of the metadata service."""
    headers = headers or {"authorization": "Bearer Oracle"}
    return service.serve(SignedRequest("GET", f"/opc/v2/{path}", headers))


def make_federation_request(service, *, key=None, key_id="", public_key=PEM, certificate=None, signed=SIGNED):
    """A request for a token as the SDK sends it, with some parts replaced."""
    identity = service.assembly.handler._parts.metadata.identity
    sent = certificate or identity.leaf
    body = json.dumps(
        {
            "certificate": base64.b64encode(sent.public_bytes(serialization.Encoding.DER)).decode(),
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


def request_with_token(service, token, key=KEY):
    """The status of a request for the regions with a token."""
    request = service.make_request(TARGET.format(service.tenancy.id), key=key, key_id=f"ST${token}")
    return service.serve(request).status


@pytest.mark.filterwarnings("ignore:Attribute's length")  # as with Oracle's certificates
def test_an_instance_reads_its_identity(service):
    """Region, id and certificates are returned as text, and the certificate names the instance and its tenancy."""
    assert get_metadata(service, "instance/region").body == b"us-ashburn-1"
    instance = get_metadata(service, "instance/id").body.decode()
    leaf = x509.load_pem_x509_certificate(get_metadata(service, "identity/cert.pem").body)
    issuer = x509.load_pem_x509_certificate(get_metadata(service, "identity/intermediate.pem").body)
    key = serialization.load_pem_private_key(get_metadata(service, "identity/key.pem").body, None)
    names = {attribute.value for attribute in leaf.subject}
    assert {instance, f"opc-instance:{instance}", f"opc-tenant:{service.tenancy.id}"} <= names
    leaf.verify_directly_issued_by(issuer)
    assert key.public_key() == leaf.public_key()


@pytest.mark.parametrize("headers", [{"x": "y"}, {"authorization": "Bearer Other"}])
def test_the_metadata_service_requires_its_header(service, headers):
    """Without the header of its second version, the metadata service returns no metadata."""
    assert get_metadata(service, "identity/key.pem", **headers).status == 401


def test_there_is_no_other_metadata(service):
    """A path that is not emulated gets 404."""
    assert get_metadata(service, "instance/shape").status == 404


def test_an_instance_gets_a_token_that_signs(service):
    """The federation endpoint's token belongs to the instance, and is valid with the session's key until it expires."""
    response = service.serve(make_federation_request(service))
    assert response.status == 200
    token = json.loads(response.body)["token"]
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert (claims["ptype"], claims["tenant"]) == ("instance", service.tenancy.id)
    assert claims["sub"] == claims["opc-instance"]
    assert (claims["iat"], claims["exp"]) == (NOW_SECONDS, NOW_SECONDS + 1200)
    assert request_with_token(service, token) == 200
    assert request_with_token(service, token, OTHER_KEY) == 401
    service.seconds += 1200
    assert request_with_token(service, token) == 401


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
        (lambda service: make_federation_request(service, certificate=get_other_certificate(service)), 401),
    ],
    ids=["other key", "other name", "unsigned body", "GET", "empty", "not text", "no key", "other certificate"],
)
def test_a_request_for_a_token_must_prove_its_sender(service, spoil, status):
    """Another key, name or certificate, an unsigned body, or a body without a key gets no token."""
    assert service.serve(spoil(service)).status == status


def get_other_certificate(service):
    """The intermediate certificate, which is valid but not the instance's."""
    return service.assembly.handler._parts.metadata.identity.intermediate


def request_tokens(service, method, body=b""):
    """The response of the control endpoint for tokens."""
    return json.loads(service.assembly.control.respond(method, "/_emulator/tokens", body).body)


@pytest.mark.parametrize("kind", list(HolderKind))
def test_the_control_endpoint_issues_tokens_of_each_kind(service, kind):
    """A token for a given key is accepted for the requested number of seconds."""
    content = {"publicKey": PEM.decode(), "kind": kind, "seconds": 60}
    token = request_tokens(service, "POST", json.dumps(content).encode())["token"]
    assert request_with_token(service, token) == 200
    service.seconds += 60
    assert request_with_token(service, token) == 401


def test_tokens_can_be_ended(service):
    """A used token is rejected from then on; one of the same key and second is valid, issued before or after."""
    body = json.dumps({"publicKey": PEM.decode()}).encode()
    token = request_tokens(service, "POST", body)["token"]
    unused = request_tokens(service, "POST", body)["token"]
    assert request_with_token(service, token) == 200
    assert request_tokens(service, "DELETE") == {"ended": 1}
    assert request_with_token(service, token) == 401
    assert request_with_token(service, unused) == 200
    assert request_with_token(service, request_tokens(service, "POST", body)["token"]) == 200


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"publicKey": "x"}', b'{"publicKey": 1}', b"\xff"])
def test_an_invalid_token_request_is_rejected_with_a_hint(service, body):
    """A request without a valid key is rejected with a message that names the expected fields."""
    with pytest.raises(ControlError, match="publicKey"):
        request_tokens(service, "POST", body)
