"""The endpoint that gives an instance a token for its certificate: `POST /v1/x509`.

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

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from ociaudit_emulator.answer import Answer, answer_json
from ociaudit_emulator.instance_metadata import InstanceMetadata
from ociaudit_emulator.service_error import ServiceError, not_authenticated
from ociaudit_emulator.session_token import HolderKind
from ociaudit_emulator.signature import SignedRequest, Signer, verify_signature
from ociaudit_emulator.tenancy import Tenancy
from ociaudit_emulator.token_issuer import TokenIssuer, read_public_key

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

    def answer(self, request: SignedRequest, now_seconds: float) -> Answer:
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
        return answer_json({"token": self._issuer.issue(session_key, HolderKind.INSTANCE, self._token_seconds)})


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
