from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.client.config_file import resolve_region as resolve_profile_region
from ociaudit.client.network import (
    CaBundle,
    Endpoints,
    check_proxies,
    choose_bundle,
    choose_proxy,
    explain_certificate,
    is_safe_url,
    make_ssl_context,
    read_realm,
    resolve_region,
    show_proxy,
    split_regions,
    try_proxy,
)
from ociaudit.errors import ConfigError, ConnectionFailed, UsageError

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
    """The option beats the variables, which apply in their order."""
    bundle = choose_bundle(path, {name: ALL[name] for name in names})
    assert bundle is not None
    assert bundle.path == Path(expected)


def test_there_is_no_bundle_unless_it_is_named() -> None:
    """Without a variable, or with an empty one, the system's authorities apply."""
    assert choose_bundle(None, {"SSL_CERT_FILE": ""}) is None
    assert choose_bundle(None, {"SSL_CERT_FILE": " \n"}) is None


def test_white_space_around_the_name_of_a_bundle_does_not_count() -> None:
    """A variable may come from a file that ends with a line break."""
    assert choose_bundle(None, {"OCI_CLI_CERT_BUNDLE": " /1\n"}) == CaBundle(Path("/1"), "OCI_CLI_CERT_BUNDLE")


def test_a_context_checks_names_and_certificates(tmp_path: Path) -> None:
    """The context of a bundle trusts only that bundle, and always verifies."""
    bundle = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(bundle))
    context = make_ssl_context(CaBundle(bundle, "--ca-bundle"))
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) == 1


@pytest.mark.parametrize("path", ["missing", "nul\0", "x" * 5000])
def test_a_bundle_that_cannot_be_read_is_named(path: str, tmp_path: Path) -> None:
    """Any problem with the path is a configuration error that says what named it."""
    with pytest.raises(ConfigError, match="SSL_CERT_FILE"):
        make_ssl_context(CaBundle(tmp_path / path, "SSL_CERT_FILE"))


def test_an_untrusted_certificate_is_not_retried() -> None:
    """The error is not retryable, and its hint names the option."""
    error = explain_certificate("h:1", "self-signed")
    assert not error.retryable
    assert "--ca-bundle" in error.hint


PROXIES = {"https": "http://user:secret@proxy:3128", "no": "internal.example,127.0.0.1"}
NO_PROXIES = ["socks5://p:1", "http://", "http://u:secret@", "http://[::1", "p:port", "http://p:0", "a\nb"]


@pytest.mark.parametrize(
    ("given_proxies", "checked"),
    [
        ({}, {}),
        ({"no": "a,b"}, {"no": "a,b"}),
        ({"https": "http://p:1"}, {"https": "http://p:1"}),
        ({"https": "p:1"}, {"https": "http://p:1"}),
        ({"https": "https://u:w@p"}, {"https": "https://u:w@p"}),
        ({"all": "http://p:1"}, {"https": "http://p:1", "http": "http://p:1"}),
        ({"all": "http://p:1", "https": "http://q:2"}, {"https": "http://q:2", "http": "http://p:1"}),
        ({"all": "socks5://p:1", "https": "http://q:2"}, {"https": "http://q:2"}),
        ({"ftp": "ftp://p:1"}, {}),
        ({"https": ""}, {}),
    ],
)
def test_proxies_are_urls(given_proxies: dict[str, str], checked: dict[str, str]) -> None:
    """Each scheme has its own proxy or that of `all`; other schemes are ignored."""
    assert check_proxies(given_proxies) == checked


@pytest.mark.parametrize("name", ["https", "http", "all"])
@pytest.mark.parametrize("url", NO_PROXIES)
def test_an_invalid_proxy_is_rejected(name: str, url: str) -> None:
    """An unusable proxy is an error with the name of the variable and without its value."""
    with pytest.raises(ConfigError, match=f"{name.upper()}_PROXY") as caught:
        check_proxies({name: url})
    assert "secret" not in str(caught.value)


@given(st.dictionaries(st.sampled_from(["https", "http", "all", "no"]), st.text(max_size=20)))
def test_any_proxy_variable_is_handled(proxies: dict[str, str]) -> None:
    """Any text in the variables is used as an http(s) URL or rejected."""
    try:
        checked = check_proxies(proxies)
    except ConfigError:
        return
    assert {urlsplit(url).scheme for name, url in checked.items() if name != "no"} <= {"http", "https"}


@pytest.mark.parametrize(
    ("url", "proxies", "proxy"),
    [
        ("https://audit.example/x", PROXIES, PROXIES["https"]),
        ("https://audit.internal.example/x", PROXIES, None),
        ("http://audit.example/x", PROXIES, None),
        ("https://127.0.0.1:8080/x", PROXIES, None),
        ("https://audit.example/x", {}, None),
        ("http://audit.example/x", {"all": "http://p"}, "http://p"),
    ],
)
def test_a_url_goes_through_the_proxy_of_its_scheme(url: str, proxies: dict[str, str], proxy: str | None) -> None:
    """A URL goes through the proxy of its scheme, or of `all`, unless its host is excepted."""
    assert choose_proxy(url, proxies) == proxy


@pytest.mark.parametrize(
    ("proxy", "shown"),
    [
        ("http://user:se@cret@proxy:3128", "http://proxy:3128"),
        ("http://proxy", "http://proxy"),
        ("proxy:3128", "http://proxy:3128"),
    ],
)
def test_a_proxy_is_shown_without_its_password(proxy: str, shown: str) -> None:
    """A proxy is shown as host and port, even if the password contains an @."""
    assert show_proxy(proxy) == shown


@pytest.mark.parametrize("proxy", ["socks5://user:secret@proxy:1080", "http://user:secret@proxy:99999"])
def test_a_proxy_that_is_not_an_http_url_is_an_error(proxy: str) -> None:
    """The error for a proxy of another scheme or port does not contain the password."""
    with pytest.raises(ConnectionFailed, match="not an http") as caught:
        asyncio.run(try_proxy(proxy, timeout_seconds=1.0))
    assert "secret" not in str(caught.value)


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
    """Service and region are replaced, and the API version is appended."""
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
    """Plain http to any other host, or to an unusual notation of this machine, is rejected."""
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
    """A user, a query or a fragment is rejected, and a password is not shown."""
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
def test_an_override_that_is_not_a_url_is_rejected(override: str) -> None:
    """Anything but an http(s) URL is a usage error, not a failure of the first request."""
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
    """Without an override, the address is https in the realm of the region."""
    assert Endpoints().locate("audit", region) == f"https://{audit}/20190901"
    assert Endpoints().locate("identity", region) == f"https://{identity}/20160918"


@pytest.mark.parametrize("region", ["", "fra", "eu-frankfurt-1/", "eu-frankfurt-1.evil.example", "x y", "us-ashbrun-1"])
def test_an_unknown_region_is_rejected(region: str) -> None:
    """With Oracle's addresses, a malformed region or a misspelled one is a usage error."""
    with pytest.raises(UsageError, match="no region"):
        Endpoints().check_region(region)


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("us-ashburn-1", "us-ashburn-1"),
        ("US-ASHBURN-1", "us-ashburn-1"),
        ("iad", "us-ashburn-1"),
        ("IAD", "us-ashburn-1"),
        (" Fra ", "eu-frankfurt-1"),
        ("zz-nowhere-7", "zz-nowhere-7"),
    ],
)
def test_a_region_has_a_name_and_a_key_in_any_case(text: str, region: str) -> None:
    """A region is found by its name or key in any case; a name that the SDK does not know is kept."""
    assert resolve_region(text) == region


def test_every_region_of_the_sdk_is_found_by_name_and_key() -> None:
    """`--region` takes every name and key that the SDK knows, and so does a profile."""
    from oci import regions

    assert len(regions.REGIONS_SHORT_NAMES) > 50
    for key, name in regions.REGIONS_SHORT_NAMES.items():
        assert resolve_region(key.upper()) == resolve_region(name.upper()) == name
        assert resolve_profile_region(key, "here") == name
        Endpoints().check_region(name)
        domain = regions.REALMS[regions.REGION_REALMS[name]]
        assert Endpoints(realm="oc2").locate("audit", name) == f"https://audit.{name}.{domain}/20190901"


@given(st.lists(st.sampled_from(["iad", "PHX", "eu-frankfurt-1", " uk-london-1 "]), min_size=1), st.data())
def test_comma_lists_mean_their_parts(names: list[str], data: st.DataObject) -> None:
    """Lists in any grouping are the same regions, each once, in order."""
    cut = data.draw(st.integers(0, len(names)))
    groups = [",".join(part) for part in (names[:cut], names[cut:]) if part]
    assert split_regions(groups) == tuple(dict.fromkeys(map(resolve_region, names)))


@pytest.mark.parametrize("text", ["us-ashburn", "us_ashburn-1", "ashburn", "us-ashburn-1x"])
def test_a_misspelled_region_is_suggested(text: str) -> None:
    """A text that is not a region leads to the most similar one."""
    with pytest.raises(UsageError) as caught:
        split_regions([text])
    assert caught.value.hint == "did you mean us-ashburn-1?"


@pytest.mark.parametrize("text", ["", ",", "zzz"])
def test_what_is_no_region_is_rejected(text: str) -> None:
    """Text without a region is rejected, never an empty list that would mean every region."""
    with pytest.raises(UsageError):
        split_regions([text])


@pytest.mark.parametrize(("realm", "domain"), [("oc1", "oraclecloud.com"), ("oc2", "oraclegovcloud.com")])
def test_a_new_region_is_in_the_realm_of_the_tenancy(realm: str, domain: str) -> None:
    """A region that the SDK does not know is requested in the realm that the tenancy's OCID names."""
    endpoints = Endpoints(realm=read_realm(f"ocid1.tenancy.{realm}..aaaa"))
    endpoints.check_region("zz-nowhere-7")
    assert endpoints.locate("audit", "zz-nowhere-7") == f"https://audit.zz-nowhere-7.{domain}/20190901"
    assert endpoints.locate("identity", "zz-nowhere-7") == f"https://identity.zz-nowhere-7.oci.{domain}/20160918"


def test_an_override_may_serve_a_new_region() -> None:
    """With an override, only the format of a region's name is checked."""
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
def test_only_loopback_is_safe_without_encryption(url: str, *, is_safe: bool) -> None:
    """A URL is safe if it is https or stays on this machine."""
    assert is_safe_url(url) is is_safe


ASK = """
import json, sys
from ociaudit.client.network import Endpoints, apply_region_settings, resolve_region
import os
apply_region_settings(os.environ)
names, found = json.loads(sys.stdin.read()), {}
for name in names:
    try:
        region = resolve_region(name)
        found[name] = [region, *(Endpoints().locate(service, region) for service in ("audit", "identity"))]
    except Exception as error:
        found[name] = type(error).__name__
print(json.dumps([found, "oci" in sys.modules]))
"""
ASK_THE_SDK = """
import json, sys
from oci import regions
found = {}
for name in json.loads(sys.stdin.read()):
    region = regions.get_region_from_short_name(name)
    found[name] = [region]
    for template in ("https://audit.{region}.{secondLevelDomain}", "https://identity.{region}.oci.{secondLevelDomain}"):
        url = regions.endpoint_for("x", region=region, service_endpoint_template=template)
        found[name].append(url + ("/20190901" if "audit" in template else "/20160918"))
print(json.dumps(found))
"""
LIST = "import json; from oci import regions; print(json.dumps([*regions.REGIONS, *regions.REGIONS_SHORT_NAMES]))"


def run_python(script: str, home: Path, names: object = None, variables: Mapping[str, str] | None = None) -> object:
    """Run a script in a process of its own, in which nothing is imported yet, and return the JSON that it prints."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), **(variables or {})}
    command = [sys.executable, "-c", script]
    data = json.dumps(names).encode()
    return json.loads(subprocess.run(command, input=data, env=environment, stdout=subprocess.PIPE, check=True).stdout)


def describe_region(key: str) -> dict[str, str]:
    """Describe a region of an unknown realm as the SDK's settings do."""
    names = ("realmKey", "realmDomainComponent", "regionKey", "regionIdentifier")
    return dict(zip(names, ("oc99", "cloud.example", key, "xx-new-1"), strict=True))


def test_every_region_of_the_sdk_is_known_without_it(tmp_path: Path) -> None:
    """For each region and key that the installed SDK knows, name and addresses are the SDK's, without it."""
    names = run_python(LIST, tmp_path)
    assert isinstance(names, list)
    assert len(names) > 100
    assert run_python(ASK, tmp_path, names) == [run_python(ASK_THE_SDK, tmp_path, names), False]


def test_an_unknown_region_is_for_the_sdk_to_know(tmp_path: Path) -> None:
    """A region that the SDK's settings add has the address that they give it."""
    added = describe_region("xyz")
    names = ["xx-new-1", "xyz", "eu-frankfurt-1"]
    variables = {"OCI_REGION_METADATA": json.dumps(added)}
    found, is_imported = run_python(ASK, tmp_path, names, variables)
    assert is_imported
    assert found == run_python(ASK_THE_SDK, tmp_path, names, variables)
    assert found["xyz"][1] == "https://audit.xx-new-1.cloud.example/20190901"


@pytest.mark.parametrize("place", ["home", "variable"])
def test_a_table_that_replaces_the_regions_counts(tmp_path: Path, place: str) -> None:
    """Where a file restricts the SDK to the regions of another provider, Oracle's own are unknown here too."""
    content = json.dumps({"services": [], "regions": [describe_region("fra")]})
    path = tmp_path / (".oci/developer-tool-configuration.json" if place == "home" else "elsewhere.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    variables = {"OCI_DEVELOPER_TOOL_CONFIGURATION_FILE_PATH": str(path)} if place == "variable" else {}
    found, _ = run_python(ASK, tmp_path, ["fra", "iad"], variables)
    assert found["fra"][:2] == ["xx-new-1", "https://audit.xx-new-1.cloud.example/20190901"]
    assert found["iad"] == "UsageError"
