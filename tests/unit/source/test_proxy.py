import asyncio

import pytest

from ociaudit.errors import ConnectionFailed
from ociaudit.source.proxy import choose_proxy, show_proxy, try_proxy

PROXIES = {"https": "http://user:secret@proxy:3128", "no": "internal.example,127.0.0.1"}


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
    """Unless its host is excepted; `all` stands for every scheme that has none of its own."""
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
    """Host and port alone, even where the password has an @ in it."""
    assert show_proxy(proxy) == shown


@pytest.mark.parametrize("proxy", ["socks5://user:secret@proxy:1080", "http://user:secret@proxy:99999"])
def test_a_proxy_that_is_no_http_url_is_refused(proxy: str) -> None:
    """Its password is not in the message."""
    with pytest.raises(ConnectionFailed, match="no http") as refused:
        asyncio.run(try_proxy(proxy, timeout_seconds=1.0))
    assert "secret" not in str(refused.value)
