"""The proxies that the environment names.

Owns: judging what the variables hold. Must not: read the environment, or show a proxy's password.

Invariants
- A proxy that was named is used or refused; a request never goes past it in silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from ociaudit.errors import ConfigError

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


def _is_usable(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and url.isprintable()
    except ValueError:
        return False
