"""Security tokens: the issuer that signs them, and the federation endpoint `POST /v1/x509` for instances.

A request to the federation endpoint is signed with the key of the certificate that it contains, and that
certificate is the one that the emulated metadata service returned.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable
from functools import cached_property

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from ociaudit_emulator.http import ApiError, ServerResponse, json_response, not_authenticated
from ociaudit_emulator.instance_metadata import InstanceMetadata
from ociaudit_emulator.session_token import HolderKind, find_holder, make_session_token
from ociaudit_emulator.signature import DateCheck, KeyRing, SignedRequest, Signer, load_public_key, verify_signature
from ociaudit_emulator.tenancy import Tenancy

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
