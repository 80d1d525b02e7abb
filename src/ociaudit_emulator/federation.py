"""Security tokens: the issuer that signs them, and the federation endpoint `POST /v1/x509` for instances.

A request to the federation endpoint is signed with the key of the certificate that it contains, and that
certificate is the one that the emulated metadata service returned. That service is here, too: the region, the id and
the identity certificate of the instance, below `/opc/v2/`; certificates are generated with the first request for one.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.x509.oid import NameOID

from ociaudit_emulator.http import ApiError, ServerResponse, json_response, not_authenticated
from ociaudit_emulator.session_token import HolderKind, find_holder, make_session_token
from ociaudit_emulator.signature import DateCheck, KeyRing, SignedRequest, Signer, load_public_key, verify_signature
from ociaudit_emulator.tenancy import HOME_REGION, Tenancy

_PREFIX = "/opc/v2/"
_LOGIN = "Bearer Oracle"
_DAY = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class InstanceIdentity:
    """The instance's certificate with its key, and the certificate of its issuer."""

    leaf: x509.Certificate
    leaf_key: RSAPrivateKey
    intermediate: x509.Certificate


def is_metadata(request: SignedRequest) -> bool:
    """Return whether a request is for the metadata service."""
    return request.target.startswith(_PREFIX)


class InstanceMetadata:
    """The metadata service."""

    def __init__(self, tenancy: Tenancy) -> None:
        """Keep the tenancy that the instance belongs to."""
        self._tenancy = tenancy

    @cached_property
    def identity(self) -> InstanceIdentity:
        """Return the instance's certificates, which stay the same while the emulator runs."""
        issuer_key, leaf_key = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
        issuer_name = _make_name("emulated PKISVC Identity Intermediate")
        holder = find_holder(self._tenancy, HolderKind.INSTANCE)
        name = _make_name(
            holder.id,
            "opc-certtype:instance",
            f"opc-instance:{holder.id}",
            f"opc-compartment:{holder.compartment_id}",
            f"opc-tenant:{holder.tenancy_id}",
        )
        intermediate = _certify(issuer_name, issuer_name, issuer_key, issuer_key)
        return InstanceIdentity(_certify(name, issuer_name, leaf_key, issuer_key), leaf_key, intermediate)

    def respond(self, request: SignedRequest) -> ServerResponse:
        """Return the value of one path as text.

        Raises: ApiError for a request without the header that version 2 requires, or for an unknown path.
        """
        if request.method != "GET" or request.headers.get("authorization") != _LOGIN:
            raise ApiError(401, "Unauthorized", "The metadata service accepts GET with its Authorization header.")
        path = request.target.removeprefix(_PREFIX).partition("?")[0]
        match path:
            case "instance/region":
                return _text_response(HOME_REGION.encode())
            case "instance/id":
                return _text_response(find_holder(self._tenancy, HolderKind.INSTANCE).id.encode())
            case "identity/cert.pem":
                return _text_response(self.identity.leaf.public_bytes(serialization.Encoding.PEM))
            case "identity/intermediate.pem":
                return _text_response(self.identity.intermediate.public_bytes(serialization.Encoding.PEM))
            case "identity/key.pem":
                return _text_response(_encode_key(self.identity.leaf_key))
            case _:
                raise ApiError(404, "NotFound", f"The emulated instance has no metadata {path}.")


def _text_response(text: bytes) -> ServerResponse:
    return ServerResponse(text, content_type="text/plain")


def _make_name(common_name: str, *units: str) -> x509.Name:
    """Return a name whose parts may be longer than the X.509 standard allows, as Oracle's are."""
    attributes = [(NameOID.COMMON_NAME, common_name), *((NameOID.ORGANIZATIONAL_UNIT_NAME, unit) for unit in units)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return x509.Name([x509.NameAttribute(kind, value, _validate=False) for kind, value in attributes])


def _certify(name: x509.Name, issuer: x509.Name, key: RSAPrivateKey, issuer_key: RSAPrivateKey) -> x509.Certificate:
    """Return a certificate that is valid from yesterday to tomorrow."""
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - _DAY)
    return builder.not_valid_after(now + _DAY).sign(issuer_key, hashes.SHA256())


def _encode_key(key: RSAPrivateKey) -> bytes:
    """Return a private key in the PEM form of the metadata service."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


_PATH = "/v1/x509"


class TokenIssuer:
    """An issuer of tokens that the emulated services accept until they expire."""

    def __init__(self, tenancy: Tenancy, key_ring: KeyRing, read_clock_seconds: Callable[[], float]) -> None:
        """Keep the collaborators; the signing key is generated with the first token."""
        self._tenancy = tenancy
        self._key_ring = key_ring
        self._read_clock_seconds = read_clock_seconds

    def issue(self, public_key: RSAPublicKey, kind: HolderKind, seconds: float) -> str:
        """Return a token for a key, valid from now for this many seconds."""
        start = self._read_clock_seconds()
        span = (math.floor(start), math.ceil(start + seconds))
        return make_session_token(self._key, public_key, holder=find_holder(self._tenancy, kind), span=span)

    @cached_property
    def _key(self) -> RSAPrivateKey:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._key_ring.trust_issuer(key.public_key())
        return key


def is_federation(request: SignedRequest) -> bool:
    """Return whether a request is for the federation endpoint."""
    return request.target == _PATH


class Federation:
    """The federation endpoint, which issues tokens to the emulated instance."""

    def __init__(self, tenancy: Tenancy, metadata: InstanceMetadata, issuer: TokenIssuer, token_seconds: float) -> None:
        """Keep the collaborators, and the lifetime of a token in seconds."""
        self._tenancy = tenancy
        self._metadata = metadata
        self._issuer = issuer
        self._token_seconds = token_seconds

    def respond(self, request: SignedRequest, dates: DateCheck) -> ServerResponse:
        """Return a token for the session key in the request's body.

        Raises: ApiError.
        """
        if request.method != "POST":
            raise ApiError(405, "MethodNotAllowed", f"{_PATH} accepts POST.")
        certificate, session_key = _parse_body(request.body)
        if certificate != self._metadata.identity.leaf:
            raise not_authenticated("the certificate is not that of the instance")
        key_id = f"{self._tenancy.id}/fed-x509/{certificate.fingerprint(hashes.SHA1()).hex(':').upper()}"  # noqa: S303
        public_key = certificate.public_key()

        def find_signer(name: str) -> Signer | None:
            return Signer("instance", public_key) if name == key_id and isinstance(public_key, RSAPublicKey) else None

        verify_signature(request, find_signer, dates, is_host_signed=False)
        return json_response({"token": self._issuer.issue(session_key, HolderKind.INSTANCE, self._token_seconds)})


def _parse_body(body: bytes) -> tuple[x509.Certificate, RSAPublicKey]:
    """Return the certificate and the session's public key, both sent without the delimiter lines of PEM.

    Raises: ApiError (400).
    """
    try:
        content = json.loads(body)
        certificate = x509.load_der_x509_certificate(base64.b64decode(content["certificate"], validate=True))
        key = f"-----BEGIN PUBLIC KEY-----\n{content['publicKey']}\n-----END PUBLIC KEY-----\n"
        return certificate, load_public_key(key.encode())
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise ApiError(400, "InvalidParameter", "The body has no certificate and publicKey.") from error
