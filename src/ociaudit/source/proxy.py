"""The proxies of the environment: which one a URL goes through, and whether it is there.

Owns: the choice, and one connection to try it. Must not: show a proxy's user and password.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # documented, not in typeshed

from ociaudit.errors import ConnectionFailed

_DEFAULT_PORTS = {"http": 80, "https": 443}


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
