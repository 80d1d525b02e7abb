"""The metadata service of the emulated instance: its region, its id and its identity certificate.

It serves the paths below `/opc/v2/`. The certificates are generated with the first request for one.
"""

from __future__ import annotations

import datetime as dt
import warnings
from dataclasses import dataclass
from functools import cached_property

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.x509.oid import NameOID

from ociaudit_emulator.http import ApiError, ServerResponse
from ociaudit_emulator.session_token import HolderKind, find_holder
from ociaudit_emulator.signature import SignedRequest
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
