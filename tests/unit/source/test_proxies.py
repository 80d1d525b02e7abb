import asyncio
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.errors import ConfigError, ConnectionFailed
from ociaudit.source.proxies import check_proxies, choose_proxy, show_proxy, try_proxy

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
    """Each scheme has its own proxy or that of all; what does not concern HTTP is left aside."""
    assert check_proxies(given_proxies) == checked


@pytest.mark.parametrize("name", ["https", "http", "all"])
@pytest.mark.parametrize("url", NO_PROXIES)
def test_a_proxy_that_is_none_is_refused(name: str, url: str) -> None:
    """What cannot be asked is an error with the variable's name and without its value."""
    with pytest.raises(ConfigError, match=f"{name.upper()}_PROXY") as caught:
        check_proxies({name: url})
    assert "secret" not in str(caught.value)


@given(st.dictionaries(st.sampled_from(["https", "http", "all", "no"]), st.text(max_size=20)))
def test_no_variable_is_too_odd(proxies: dict[str, str]) -> None:
    """Whatever the variables hold, it is used as an http(s) URL, or refused."""
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
