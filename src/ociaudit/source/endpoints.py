"""Where a service of a region is reached.

Owns: URLs. Must not: send anything.

Invariants
- Plain http leads to loopback only; everything else is https.
- `{service}` and `{region}` in an override are replaced where they stand; without them one URL serves all.
"""

from __future__ import annotations

import ipaddress
from typing import Literal
from urllib.parse import urlsplit

from ociaudit.errors import UsageError
from ociaudit.plan.scope import REGION

Service = Literal["audit", "identity"]

_API_VERSIONS: dict[Service, str] = {"audit": "20190901", "identity": "20160918"}
_HOSTS: dict[Service, str] = {
    "audit": "audit.{region}.{secondLevelDomain}",
    "identity": "identity.{region}.oci.{secondLevelDomain}",
}
_ENDPOINT_HINT = "for example --endpoint https://audit.example.internal or --endpoint 'http://127.0.0.1:8080/{region}'"


class Endpoints:
    """Builds the base URL of a service in a region."""

    def __init__(self, override: str | None = None) -> None:
        """Use Oracle's own addresses, or `override` for all services.

        Raises:
            UsageError: the override is no URL, or plain http to another machine.
        """
        self._override = _check_override(override) if override else None

    def locate(self, service: Service, region: str) -> str:
        """Return the base URL, API version included and without a slash at the end."""
        if self._override:
            base = self._override.replace("{service}", service).replace("{region}", region)
        else:
            base = "https://" + _find_host(service, region)
        return f"{base.rstrip('/')}/{_API_VERSIONS[service]}"

    def check_region(self, region: str) -> None:
        """Refuse a region that cannot be one.

        Raises:
            UsageError: it is malformed, or unknown to the SDK while Oracle's own addresses are in use.
        """
        if not REGION.fullmatch(region) or (self._override is None and not _is_known_region(region)):
            raise UsageError(
                f"there is no region {region!r}",
                hint="regions are named like eu-frankfurt-1; for one that is newer than the installed SDK upgrade "
                "the package oci, or name its address with --endpoint",
            )


def _check_override(override: str) -> str:
    try:
        parts = urlsplit(override.replace("{service}", "audit").replace("{region}", "us-ashburn-1"))
        is_url = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bracket that is not closed, or a port that is no number
        is_url = False
    # urlsplit drops line breaks and tabs that a client would send.
    if not is_url or not override.isprintable() or " " in override:
        raise UsageError(f"the endpoint {override!r} is not an http(s) URL", hint=_ENDPOINT_HINT)
    if "?" in override or "#" in override or "@" in parts.netloc:
        raise UsageError(f"the endpoint {_hide_user(override)!r} must be a plain base URL", hint=_ENDPOINT_HINT)
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        raise UsageError(
            f"the endpoint {override!r} would send signed requests in the clear to another machine",
            hint="use https; plain http is accepted for 127.0.0.1 and localhost only",
        )
    return override


def is_safe_url(url: str) -> bool:
    """Tell whether this is an https URL, or a plain one to this machine."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    is_encrypted = parts.scheme == "https" and bool(parts.hostname)
    return is_encrypted or (parts.scheme == "http" and _is_loopback(parts.hostname or ""))


def _hide_user(override: str) -> str:
    """Leave out what may be a password."""
    scheme, _, rest = override.partition("//")
    return f"{scheme}//…@{rest.rpartition('@')[2]}" if "@" in rest else override


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _find_host(service: Service, region: str) -> str:
    from oci import regions

    host = regions.endpoint_for(service, region=region, service_endpoint_template=_HOSTS[service])
    return urlsplit(host if "//" in host else f"//{host}").netloc


def _is_known_region(region: str) -> bool:
    from oci import regions

    return bool(regions.is_region(region))
