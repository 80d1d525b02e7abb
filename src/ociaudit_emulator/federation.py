"""Tokens given out while the emulator runs.

Owns: the key that signs them, made when the first is wanted.
Must not: decide who may have one.

The endpoint that gives an instance a token for its certificate: `POST /v1/x509`.

Owns: what such a request must prove.
Must not: make certificates or tokens.

Invariants:
- the request is signed with the key of the certificate that it shows;
- the certificate is the one that the metadata service gave out.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable
from functools import cached_property

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from ociaudit_emulator.http import Response, ServiceError, json_response, not_authenticated
from ociaudit_emulator.instance_metadata import InstanceMetadata
from ociaudit_emulator.session_token import HolderKind, find_holder, make_session_token
from ociaudit_emulator.signature import KeyRing, SignedRequest, Signer, verify_signature
from ociaudit_emulator.tenancy import Tenancy


class TokenIssuer:
    """Gives out tokens that the emulator's services accept until they end."""

    def __init__(self, tenancy: Tenancy, key_ring: KeyRing, read_clock_seconds: Callable[[], float]) -> None:
        """Keep the collaborators."""
        self._tenancy = tenancy
        self._key_ring = key_ring
        self._read_clock_seconds = read_clock_seconds

    def issue(self, public_key: RSAPublicKey, kind: HolderKind, seconds: float) -> str:
        """Give a token for a key, from now on for so many seconds."""
        start = self._read_clock_seconds()
        span = (math.floor(start), math.ceil(start + seconds))
        return make_session_token(self._key, public_key, holder=find_holder(self._tenancy, kind), span=span)

    @cached_property
    def _key(self) -> RSAPrivateKey:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._key_ring.trust_issuer(key.public_key())
        return key


def read_public_key(pem: bytes) -> RSAPublicKey:
    """Read a public key; ValueError when it is something else."""
    key = serialization.load_pem_public_key(pem)
    if not isinstance(key, RSAPublicKey):
        message = "no RSA key"
        raise ValueError(message)  # noqa: TRY004 -- what was sent is wrong, not the call
    return key


_PATH = "/v1/x509"


def is_federation(request: SignedRequest) -> bool:
    """Say whether a request asks for a token."""
    return request.target == _PATH


class Federation:
    """Gives tokens to the made instance."""

    def __init__(self, tenancy: Tenancy, metadata: InstanceMetadata, issuer: TokenIssuer, token_seconds: float) -> None:
        """Keep the collaborators, and how long a token lasts."""
        self._tenancy = tenancy
        self._metadata = metadata
        self._issuer = issuer
        self._token_seconds = token_seconds

    def response(self, request: SignedRequest, now_seconds: float) -> Response:
        """Answer a token for the session key that the request names.

        Raises: ServiceError.
        """
        if request.method != "POST":
            raise ServiceError(405, "MethodNotAllowed", f"{_PATH} is asked with POST.")
        certificate, session_key = _read_body(request.body)
        if certificate != self._metadata.identity.leaf:
            raise not_authenticated("the certificate is not that of the instance")
        key_id = f"{self._tenancy.id}/fed-x509/{certificate.fingerprint(hashes.SHA1()).hex(':').upper()}"  # noqa: S303
        public_key = certificate.public_key()

        def find_signer(name: str) -> Signer | None:
            return Signer("instance", public_key) if name == key_id and isinstance(public_key, RSAPublicKey) else None

        verify_signature(request, find_signer, now_seconds, is_host_signed=False)
        return json_response({"token": self._issuer.issue(session_key, HolderKind.INSTANCE, self._token_seconds)})


def _read_body(body: bytes) -> tuple[x509.Certificate, RSAPublicKey]:
    """Read the certificate and the session's public key, both written without the lines around PEM.

    Raises: ServiceError (400).
    """
    try:
        asked = json.loads(body)
        certificate = x509.load_der_x509_certificate(base64.b64decode(asked["certificate"], validate=True))
        key = f"-----BEGIN PUBLIC KEY-----\n{asked['publicKey']}\n-----END PUBLIC KEY-----\n"
        return certificate, read_public_key(key.encode())
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise ServiceError(400, "InvalidParameter", "The body has no certificate and publicKey.") from error
