import pytest

from ociaudit.errors import UsageError
from ociaudit.source.endpoints import Endpoints, is_safe_url


@pytest.mark.parametrize(
    ("override", "url"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/20190901"),
        ("http://127.8.9.10/", "http://127.8.9.10/20190901"),
        ("http://[::1]:80/x/", "http://[::1]:80/x/20190901"),
        ("http://localhost:1/{service}/{region}", "http://localhost:1/audit/uk-london-1/20190901"),
        ("HTTP://LOCALHOST", "HTTP://LOCALHOST/20190901"),
        ("https://{service}.{region}.example.internal", "https://audit.uk-london-1.example.internal/20190901"),
        ("https://example.internal:8443/{other}", "https://example.internal:8443/{other}/20190901"),
    ],
)
def test_an_override_is_filled_in(override: str, url: str) -> None:
    """Service and region are replaced where they stand, and the version goes behind."""
    assert Endpoints(override).locate("audit", "uk-london-1") == url


@pytest.mark.parametrize(
    "override",
    [
        "http://example.com",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "http://evil.example/127.0.0.1",
        "http://{region}",
        "http://{service}.localhost",
        "http://127.1",
        "http://2130706433",
        "http://0x7f000001",
        "http://0177.0.0.1",
        "http://0.0.0.0",
        "http://10.0.0.1",
        "http://[::]",
        "http://[::ffff:10.0.0.1]",
        "http://[fe80::1]",
        "http://localhost.",
        "http://\N{CIRCLED LATIN SMALL LETTER L}ocalhost",
        "http://127\N{IDEOGRAPHIC FULL STOP}0\N{IDEOGRAPHIC FULL STOP}0\N{IDEOGRAPHIC FULL STOP}1",
        "HTTP://EXAMPLE.COM",
    ],
)
def test_plain_http_leads_to_loopback_only(override: str) -> None:
    """Any other host, and any odd spelling of this machine, is refused for plain http."""
    with pytest.raises(UsageError, match="in the clear"):
        Endpoints(override)


@pytest.mark.parametrize(
    "override",
    [
        "http://127.0.0.1@evil.example",
        "http://127.0.0.1:80@evil.example",
        "http://evil.example\\@127.0.0.1",
        "http://:secret@127.0.0.1",
        "https://user:secret@example.internal",
        "https://example.internal/?a=b",
        "https://example.internal/?",
        "https://example.internal/#",
        "http://evil.example#@127.0.0.1",
        "http://evil.example?@127.0.0.1",
    ],
)
def test_an_override_is_a_plain_base_url(override: str) -> None:
    """A user, a query or a fragment is refused, and a password in it is not shown."""
    with pytest.raises(UsageError) as caught:
        Endpoints(override)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "override",
    [
        "example.com",
        "//example.com",
        "ftp://127.0.0.1",
        "https://",
        "https:///path",
        "http://[::1",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:{region}",
        "http://127.0.0.1:x",
        "http://127.0.0.1:-1",
        " http://127.0.0.1",
        "http://127.0.0.1\n/x",
        "https://exa\tmple.com",
        "https://a b",
        "http://127.0.0.1\r\nHost: x",
    ],
)
def test_what_is_no_url_is_refused(override: str) -> None:
    """A usage error, not a failure at the first request, for whatever is no http(s) URL."""
    with pytest.raises(UsageError, match=r"not an http\(s\) URL"):
        Endpoints(override)


@pytest.mark.parametrize(
    ("region", "audit", "identity"),
    [
        ("eu-frankfurt-1", "audit.eu-frankfurt-1.oraclecloud.com", "identity.eu-frankfurt-1.oci.oraclecloud.com"),
        (
            "us-gov-ashburn-1",
            "audit.us-gov-ashburn-1.oraclegovcloud.com",
            "identity.us-gov-ashburn-1.oci.oraclegovcloud.com",
        ),
    ],
)
def test_oracles_own_addresses(region: str, audit: str, identity: str) -> None:
    """Without an override it is https at the region's address, in its own realm."""
    assert Endpoints().locate("audit", region) == f"https://{audit}/20190901"
    assert Endpoints().locate("identity", region) == f"https://{identity}/20160918"


@pytest.mark.parametrize("region", ["", "fra", "eu-frankfurt-1/", "eu-frankfurt-1.evil.example", "x y", "xx-nowhere-9"])
def test_an_unknown_region_is_refused(region: str) -> None:
    """A region that the SDK does not know, or that is malformed, is a usage error with Oracle's addresses."""
    with pytest.raises(UsageError, match="no region"):
        Endpoints().check_region(region)


def test_an_override_may_serve_a_new_region() -> None:
    """With an address of one's own only the form of a region's name is checked."""
    Endpoints("http://127.0.0.1").check_region("xx-nowhere-9")
    with pytest.raises(UsageError):
        Endpoints("http://127.0.0.1").check_region("nowhere")


@pytest.mark.parametrize(
    ("url", "is_safe"),
    [
        ("https://auth.example.com/v1/x509", True),
        ("http://127.0.0.1:1/v1/x509", True),
        ("http://localhost/x", True),
        ("http://auth.example.com/v1/x509", False),
        ("https://", False),
        ("http://[::1", False),
        ("ftp://127.0.0.1", False),
        ("", False),
    ],
)
def test_only_loopback_is_asked_in_the_clear(url: str, *, is_safe: bool) -> None:
    """A URL is safe when it is encrypted, or does not leave the machine."""
    assert is_safe_url(url) is is_safe
