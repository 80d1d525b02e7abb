"""The proxies that the environment names.

Owns: judging what the variables hold, which proxy a URL goes through, and one connection to try it.
Must not: read the environment, or show a proxy's user and password.

Invariants
- A proxy that was named is used or refused; a request never goes past it in silence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # documented, not in typeshed

from ociaudit.errors import ConfigError, ConnectionFailed

_DEFAULT_PORTS = {"http": 80, "https": 443}
_HINT = "write it as http://proxy.example.com:3128, or name this host in NO_PROXY"


def check_proxies(proxies: Mapping[str, str]) -> Mapping[str, str]:
    """Return what `urllib.request.getproxies_environment` gave, each proxy as a URL; a bare host:port is http.

    Raises:
        ConfigError: the proxy for https is none that can be asked.
    """
    checked = {name: url for name, url in proxies.items() if name == "no"}
    for scheme in ("https", "http"):
        name = scheme if proxies.get(scheme) else "all"
        text = proxies.get(name)
        if not text:
            continue
        url = text if "://" in text else f"http://{text}"
        if _is_usable(url):
            checked[scheme] = url
        elif scheme == "https" or name == "http":
            raise ConfigError(f"{name.upper()}_PROXY is not the URL of a proxy for HTTP", hint=_HINT)
    return checked


def choose_proxy(url: str, proxies: Mapping[str, str]) -> str | None:
    """Return the proxy that a URL goes through, if any.

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
        ConnectionFailed: it is no URL, or nothing answers there.
    """
    shown = show_proxy(proxy)
    try:
        parts = urlsplit(shown)
        host, default_port = parts.hostname, _DEFAULT_PORTS[parts.scheme]
        port = parts.port or default_port
    except (ValueError, KeyError) as error:
        raise ConnectionFailed(f"the proxy {shown} is no http(s) URL") from error
    try:
        async with asyncio.timeout(timeout_seconds):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError) as error:
        reason = getattr(error, "strerror", None) or "no answer in time"
        raise ConnectionFailed(f"nothing listens at the proxy {shown}: {reason}") from error
    writer.close()


def _is_usable(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and url.isprintable()
    except ValueError:
        return False
