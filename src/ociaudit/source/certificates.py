"""Which certificate authorities are trusted.

Owns: finding the bundle that was named, and reading it. Must not: offer a way to check nothing.

Invariants
- A bundle that was named is read or refused; it is never left aside in silence.
- What was named by hand beats a variable.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ociaudit.errors import ConfigError, ConnectionFailed

_OPTION = "--ca-bundle"
_VARIABLES = ("OCI_CLI_CERT_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
_HINT = "name a PEM file with the certificates of the authorities to trust"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A file or folder of CA certificates, and who named it: the option or a variable."""

    path: Path
    named_by: str


def choose_bundle(path: Path | None, environment: Mapping[str, str]) -> Bundle | None:
    """Return the bundle that is named by `path`, or else by the first variable that is set; None for the system's."""
    if path is not None:
        return Bundle(path.expanduser(), _OPTION)
    for name in _VARIABLES:
        if environment.get(name):
            return Bundle(Path(environment[name]).expanduser(), name)
    return None


def make_ssl_context(bundle: Bundle) -> ssl.SSLContext:
    """Return a context that checks names and certificates, and trusts what is in the bundle alone.

    Raises:
        ConfigError: the bundle cannot be read, or holds no certificate.
    """
    named = f"{bundle.named_by} {bundle.path}"
    try:
        is_folder = bundle.path.is_dir()
        context = ssl.create_default_context(
            cafile=None if is_folder else str(bundle.path), capath=str(bundle.path) if is_folder else None
        )
    except ssl.SSLError as error:
        raise ConfigError(f"{named} holds no certificate that could be read", hint=_HINT) from error
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        reason = getattr(error, "strerror", None) or "no path of a file"
        raise ConfigError(f"{named} cannot be read: {reason}", hint=_HINT) from error
    if not is_folder and not context.get_ca_certs():
        raise ConfigError(f"{named} holds no certificate of an authority", hint=_HINT)
    return context


def explain_certificate(host: str, reason: str) -> ConnectionFailed:
    """Return the failure of a connection to a host whose certificate is not trusted; asking again would not help."""
    failure = ConnectionFailed(
        f"the certificate of {host} is not trusted: {reason}",
        hint=f"behind a proxy that opens TLS, or where the service has a private CA: {_HINT}, with {_OPTION} FILE "
        "(or REQUESTS_CA_BUNDLE, SSL_CERT_FILE)",
    )
    failure.retryable = False
    return failure
