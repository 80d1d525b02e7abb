"""Network settings: the service's addresses, the certificate authorities to trust, and the proxies.

- `resolve_region`, `split_regions`: the names of regions.
- `Endpoints`: the base URL of a service in a region.
- `choose_bundle`, `make_ssl_context`, `explain_certificate`: certificate authorities.
- `check_proxies`, `choose_proxy`, `explain_proxy`, `show_proxy`, `try_proxy`: proxies.

The environment comes as an argument.

Invariants
- Regions are the installed SDK's own. Its table is read without the rest of the SDK, whose import takes longer than a
  small export; whatever is not in the table, or may be changed by settings of the SDK, is for the SDK to answer.
- Plain http is accepted for loopback only; everything else is https, and certificates are always verified.
- A CA bundle or a proxy that was named is used, or the run stops; it is never silently ignored.
- An option beats a variable.
- The user and password of a proxy or an endpoint never appear in a message.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import ipaddress
import os
import re
import ssl
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # documented, not in typeshed

from ociaudit.errors import ConfigError, ConnectionFailed, ServiceError, UsageError
from ociaudit.planning.scope import REGION, suggest_region

Service = Literal["audit", "identity", "logging", "objectstorage"]

_API_VERSIONS: dict[Service, str] = {
    "audit": "/20190901",
    "identity": "/20160918",
    "logging": "/20190909",
    "objectstorage": "",
}
_HOSTS: dict[Service, str] = {
    "audit": "audit.{region}.{secondLevelDomain}",
    "identity": "identity.{region}.oci.{secondLevelDomain}",
    "logging": "logging.{region}.oci.{secondLevelDomain}",
    "objectstorage": "objectstorage.{region}.{secondLevelDomain}",
}
_DEFAULT_REALM = "oc1"
_SDK_TABLES = ("REGIONS", "REGIONS_SHORT_NAMES", "REGION_REALMS", "REALMS")
_DEVELOPER_FILE = "~/.oci/developer-tool-configuration.json"
_DEVELOPER_FILE_VARIABLE = "OCI_DEVELOPER_TOOL_CONFIGURATION_FILE_PATH"
_TYPING_ERROR = 0.85
_REGION_HINT = "regions are named like eu-frankfurt-1, or by a key like fra"
_ENDPOINT_HINT = "for example --endpoint https://audit.example.internal or --endpoint 'http://127.0.0.1:8080/{region}'"
_CA_OPTION = "--ca-bundle"
_CA_VARIABLES = ("OCI_CLI_CERT_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
_CA_HINT = "name a PEM file with the certificates of the authorities to trust"
_DEFAULT_PROXY_PORTS = {"http": 80, "https": 443}
_PROXY_SIGN_IN = 407
_FAILED_CALL = re.compile(r"(?:\[Errno (\d+)\] )?Connect call failed \('([^']*)', (\d+)[^)]*\)")
_PROXY_UNREACHABLE_HINT = "check HTTPS_PROXY, or name the service's host in NO_PROXY"
_PROXY_HINT = "write it as http://proxy.example.com:3128, or name this host in NO_PROXY"


def resolve_region(text: str) -> str:
    """Return the full name of a region, given that or its key, in any case.

    The SDK knows Oracle's regions and those of `OCI_REGION_METADATA` and `~/.oci/regions-config.json`. A full name that
    it does not know is returned as well: the region may be newer than the SDK.

    Raises:
        UsageError: this is neither a region's name nor the key of a known one.
    """
    folded = text.strip().casefold()
    region = folded if REGION.fullmatch(folded) else _find_by_key(folded)
    if region is None or not REGION.fullmatch(region):
        hint = suggest_region(folded, list_known_regions())
        raise UsageError(f"there is no region {text!r}", hint=hint or _REGION_HINT)
    return region


def split_regions(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the full names of regions, given names, keys, and comma lists of both; each once, in order.

    Raises:
        UsageError: as `resolve_region`.
    """
    names = (name for text in texts for name in ([one for one in text.split(",") if one.strip()] or [text]))
    return tuple(dict.fromkeys(map(resolve_region, names)))


def list_known_regions() -> tuple[str, ...]:
    """Return the names of the regions that the SDK and its settings know.

    Raises:
        ConfigError: the region metadata in the settings cannot be used.
    """
    from oci import regions

    _is_known_region("")  # makes the SDK read its settings
    return tuple(regions.REGIONS)


def read_realm(ocid: str) -> str:
    """Return the realm that an OCID names, such as "oc1"; that of the commercial regions if it names none."""
    parts = ocid.split(".")
    return parts[2] if len(parts) > 2 and parts[2] else _DEFAULT_REALM


class Endpoints:
    """Builds the base URL of a service in a region."""

    def __init__(self, override: str | None = None, *, realm: str = _DEFAULT_REALM) -> None:
        """Use Oracle's own addresses, or `override` for all services.

        `{service}` and `{region}` in the override are replaced; without them, one URL serves all. A region that the SDK
        does not know is taken to be in `realm`.

        Raises:
            UsageError: the override is not a URL, or it is plain http to another machine.
        """
        self._override = _check_override(override) if override else None
        self._realm = realm
        self._bases: dict[tuple[Service, str], str] = {}

    @property
    def override(self) -> str | None:
        """Return the addresses used instead of Oracle's own, if they are."""
        return self._override

    def locate(self, service: Service, region: str) -> str:
        """Return the base URL with the API version, without a trailing slash."""
        found = self._bases.get((service, region))
        if found is None:
            if self._override:
                base = self._override.replace("{service}", service).replace("{region}", region)
            else:
                base = "https://" + _find_host(service, region, self._realm)
            found = self._bases[service, region] = f"{base.rstrip('/')}{_API_VERSIONS[service]}"
        return found

    def check_region(self, region: str) -> None:
        """Reject a region that cannot exist, or that looks like a typing error.

        A name that the SDK does not know may be that of a new region: the tenancy's subscriptions decide.

        Raises:
            UsageError: it is malformed; or it is unknown and much like a known one, where Oracle's own addresses are
                in use.
        """
        if not REGION.fullmatch(region):
            raise UsageError(f"there is no region {region!r}", hint=_REGION_HINT)
        if self._override is None and not _is_known_region(region):
            hint = _suggest_correction(region)
            if hint:
                raise UsageError(f"there is no region {region!r}", hint=hint)


def _suggest_correction(region: str) -> str:
    """Return a suggestion if a known region with the same number has nearly the same name."""
    number = region.rpartition("-")[2]
    alike = (one for one in list_known_regions() if one.rpartition("-")[2] == number)
    return suggest_region(region, alike, similarity=_TYPING_ERROR)


def is_safe_url(url: str) -> bool:
    """Return whether this is an https URL, or an http URL of this machine."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    is_encrypted = parts.scheme == "https" and bool(parts.hostname)
    return is_encrypted or (parts.scheme == "http" and _is_loopback(parts.hostname or ""))


def _check_override(override: str) -> str:
    try:
        parts = urlsplit(override.replace("{service}", "audit").replace("{region}", "us-ashburn-1"))
        is_url = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an unclosed bracket, or a port that is not a number
        is_url = False
    # urlsplit drops line breaks and tabs that a client would send.
    if not is_url or not override.isprintable() or " " in override:
        raise UsageError(f"the endpoint {override!r} is not an http(s) URL", hint=_ENDPOINT_HINT)
    if "?" in override or "#" in override or "@" in parts.netloc:
        raise UsageError(f"the endpoint {_hide_password(override)!r} must be a plain base URL", hint=_ENDPOINT_HINT)
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        raise UsageError(
            f"the endpoint {override!r} would send signed requests in the clear to another machine",
            hint="use https; plain http is accepted for 127.0.0.1 and localhost only",
        )
    return override


def _hide_password(override: str) -> str:
    scheme, _, rest = override.partition("//")
    return f"{scheme}//…@{rest.rpartition('@')[2]}" if "@" in rest else override


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def apply_region_settings(environment: Mapping[str, str]) -> None:
    """Import the SDK if a variable names a file that replaces its table of regions."""
    if environment.get(_DEVELOPER_FILE_VARIABLE):
        importlib.import_module("oci.regions")


def _read_region_table() -> ModuleType | None:
    """Return the SDK's table of regions; None if only the SDK knows what holds.

    Its settings can add regions, but change none that it knows, except for the file that replaces the table.
    """
    if "oci.regions" in sys.modules or is_file(_DEVELOPER_FILE):
        return None
    return _load_region_table()


@functools.cache
def _load_region_table() -> ModuleType | None:
    """Execute the SDK's module of region definitions, which imports nothing, apart from its package."""
    package = importlib.util.find_spec("oci")  # finds it, but does not import it
    for folder in (package and package.submodule_search_locations) or ():
        path = Path(folder) / "regions_definitions.py"
        spec = importlib.util.spec_from_file_location("oci.regions_definitions", path)
        if spec is not None and spec.loader is not None and path.is_file():
            table = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(table)
            return table if all(hasattr(table, name) for name in _SDK_TABLES) else None
    return None


def is_file(location: str) -> bool:
    """Return whether a path, whose `~` is expanded, names a file; like the SDK, never raise."""
    return os.path.isfile(os.path.expanduser(location))  # noqa: PTH111, PTH113


def _find_host(service: Service, region: str, realm: str) -> str:
    table = _read_region_table()
    if table is not None and region in table.REGION_REALMS:
        domain = table.REALMS[table.REGION_REALMS[region]]
        return _HOSTS[service].replace("{region}", region).replace("{secondLevelDomain}", domain)
    from oci import regions

    domain = regions.REALMS.get(realm)
    if domain and not _is_known_region(region) and not regions.second_level_domain_fallback:  # OCI_DEFAULT_REALM
        return _HOSTS[service].replace("{region}", region).replace("{secondLevelDomain}", domain)
    host = regions.endpoint_for(service, region=region, service_endpoint_template=_HOSTS[service])
    return urlsplit(host if "//" in host else f"//{host}").netloc


def _is_known_region(region: str) -> bool:
    table = _read_region_table()
    if table is not None and region in table.REGIONS:
        return True
    from oci import regions

    try:
        return bool(regions.is_region(region))
    except (TypeError, AttributeError, ValueError) as error:  # JSON of another form than the SDK expects
        raise ConfigError(
            "the region metadata in OCI_REGION_METADATA or ~/.oci/regions-config.json cannot be used",
            hint="each region is an object with realmKey, realmDomainComponent, regionKey and regionIdentifier",
        ) from error


def _find_by_key(key: str) -> str | None:
    """Return the name of the region with a key such as "fra"; None if it is unknown."""
    table = _read_region_table()
    if table is not None and key in table.REGIONS_SHORT_NAMES:
        return str(table.REGIONS_SHORT_NAMES[key])
    from oci import regions

    _is_known_region(key)  # makes the SDK read its settings
    name = regions.REGIONS_SHORT_NAMES.get(key)
    return str(name) if name else None


@dataclass(frozen=True, slots=True)
class CaBundle:
    """A file or folder of CA certificates, and the option or variable that named it."""

    path: Path
    named_by: str


def choose_bundle(path: Path | None, environment: Mapping[str, str]) -> CaBundle | None:
    """Return the bundle at `path`, or else that of the first variable that is set; None for the system's."""
    if path is not None:
        return CaBundle(path.expanduser(), _CA_OPTION)
    for name in _CA_VARIABLES:
        value = environment.get(name, "").strip()
        if value:
            return CaBundle(Path(value).expanduser(), name)
    return None


def make_ssl_context(bundle: CaBundle) -> ssl.SSLContext:
    """Return a context that verifies names and certificates, and trusts only the bundle.

    Raises:
        ConfigError: the bundle cannot be read, or contains no CA certificate.
    """
    named = f"{bundle.named_by} {bundle.path}"
    try:
        is_folder = bundle.path.is_dir()
        context = ssl.create_default_context(
            cafile=None if is_folder else str(bundle.path), capath=str(bundle.path) if is_folder else None
        )
    except ssl.SSLError as error:
        raise ConfigError(f"{named} contains no certificate that can be read", hint=_CA_HINT) from error
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        reason = getattr(error, "strerror", None) or "not the path of a file"
        raise ConfigError(f"{named} cannot be read: {reason}", hint=_CA_HINT) from error
    if not is_folder and not context.cert_store_stats()["x509_ca"]:
        raise ConfigError(f"{named} contains no certificate of an authority", hint=_CA_HINT)
    return context


def describe_failure(error: Exception) -> str:
    """Return why a connection failed; an address, which asyncio gives as a tuple, in words."""

    def show(found: re.Match[str]) -> str:
        number = int(found[1] or getattr(error, "errno", None) or 0)
        return f"{os.strerror(number) if number else 'no connection'} ({found[2]}, port {found[3]})"

    text = getattr(error, "strerror", None) or str(error)
    return _FAILED_CALL.sub(show, text).removeprefix("Multiple exceptions: ")


def explain_certificate(host: str, reason: str) -> ConnectionFailed:
    """Return the error for a host whose certificate is not trusted; a retry would not help."""
    failure = ConnectionFailed(
        f"the certificate of {host} is not trusted: {reason}",
        hint=f"if a proxy intercepts TLS, or the service has a private CA, {_CA_HINT}, with {_CA_OPTION} FILE "
        "(or REQUESTS_CA_BUNDLE, SSL_CERT_FILE)",
    )
    failure.retryable = False
    return failure


def explain_proxy(proxy: str, host: str, status: int | None, reason: str) -> ConnectionFailed:
    """Return the error for a proxy that cannot be reached, or that refused to connect to `host` with `status`."""
    shown = show_proxy(proxy)
    if status is None:
        return ConnectionFailed(f"the proxy {shown} cannot be reached: {reason}", hint=_PROXY_UNREACHABLE_HINT)
    failure = ConnectionFailed(f"the proxy {shown} refused to connect to {host}: {reason}")
    failure.hint = f"ask the proxy's administrator to allow CONNECT to {host}, or name the host in NO_PROXY"
    if status == _PROXY_SIGN_IN:
        failure.hint = "put user and password into the proxy's variable: HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT"
    failure.retryable = status in ServiceError.RETRYABLE_STATUSES
    return failure


def check_proxies(proxies: Mapping[str, str]) -> Mapping[str, str]:
    """Return what `urllib.request.getproxies_environment` returned, with each proxy as a URL; host:port means http.

    Raises:
        ConfigError: a proxy for http or https is not an http(s) URL.
    """
    checked = {name: url for name, url in proxies.items() if name == "no"}
    for scheme in ("https", "http"):
        name = scheme if proxies.get(scheme) else "all"
        text = proxies.get(name)
        if not text:
            continue
        url = text if "://" in text else f"http://{text}"
        if _is_proxy_url(url):
            checked[scheme] = url
        elif scheme == "https" or name == "http":
            raise ConfigError(f"{name.upper()}_PROXY is not the URL of an HTTP proxy", hint=_PROXY_HINT)
    return checked


def choose_proxy(url: str, proxies: Mapping[str, str]) -> str | None:
    """Return the proxy for a URL, or None.

    `proxies` is what `urllib.request.getproxies_environment` returns: scheme to URL, and `no` for exceptions.
    """
    parts = urlsplit(url)
    if not proxies or proxy_bypass_environment(parts.netloc, dict(proxies)):
        return None
    return proxies.get(parts.scheme) or proxies.get("all")


def show_proxy(proxy: str) -> str:
    """Return the scheme, host and port of a proxy, without its user and password."""
    parts = urlsplit(proxy if "//" in proxy else f"http://{proxy}")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


async def try_proxy(proxy: str, *, timeout_seconds: float) -> None:
    """Open a connection to a proxy and close it.

    Raises:
        ConnectionFailed: the proxy is not an http(s) URL, or cannot be reached.
    """
    shown = show_proxy(proxy)
    try:
        parts = urlsplit(shown)
        host, default_port = parts.hostname, _DEFAULT_PROXY_PORTS[parts.scheme]
        port = parts.port or default_port
    except (ValueError, KeyError) as error:
        raise ConnectionFailed(f"the proxy {shown} is not an http(s) URL") from error
    try:
        async with asyncio.timeout(timeout_seconds):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError) as error:
        reason = describe_failure(error) or "no response in time"
        raise ConnectionFailed(f"the proxy {shown} cannot be reached: {reason}") from error
    writer.close()


def _is_proxy_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and url.isprintable()
    except ValueError:
        return False
