import ssl
from pathlib import Path

import pytest

from ociaudit.errors import ConfigError
from ociaudit.source.certificates import Bundle, choose_bundle, explain_certificate, make_ssl_context
from support.private_ca import make_private_ca

ALL = {"OCI_CLI_CERT_BUNDLE": "/1", "REQUESTS_CA_BUNDLE": "/2", "SSL_CERT_FILE": "/3"}


@pytest.mark.parametrize(
    ("path", "names", "expected"),
    [
        (Path("/0"), list(ALL), "/0"),
        (None, list(ALL), "/1"),
        (None, ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"], "/2"),
        (None, ["SSL_CERT_FILE"], "/3"),
    ],
)
def test_the_option_and_then_the_variables_name_the_bundle(path: Path | None, names: list[str], expected: str) -> None:
    """What was named by hand goes first, then each variable in its order."""
    bundle = choose_bundle(path, {name: ALL[name] for name in names})
    assert bundle is not None
    assert bundle.path == Path(expected)


def test_without_a_name_there_is_no_bundle() -> None:
    """Nothing, or an empty variable, means the system's authorities."""
    assert choose_bundle(None, {"SSL_CERT_FILE": ""}) is None


def test_a_context_checks_names_and_certificates(tmp_path: Path) -> None:
    """What is made of a bundle trusts it alone, and cannot be had without checks."""
    context = make_ssl_context(Bundle(make_private_ca(tmp_path).bundle, "--ca-bundle"))
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) == 1


@pytest.mark.parametrize("path", ["missing", "nul\0", "x" * 5000])
def test_a_bundle_that_cannot_be_read_is_named(path: str, tmp_path: Path) -> None:
    """Whatever is wrong with the path, it is a configuration error with the name of who gave it."""
    with pytest.raises(ConfigError, match="SSL_CERT_FILE"):
        make_ssl_context(Bundle(tmp_path / path, "SSL_CERT_FILE"))


def test_a_certificate_that_is_not_trusted_is_not_asked_again() -> None:
    """Asking again would not help; the hint names the option."""
    error = explain_certificate("h:1", "self-signed")
    assert not error.retryable
    assert "--ca-bundle" in error.hint
