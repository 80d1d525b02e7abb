from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.errors import ConfigError
from ociaudit.source.proxies import check_proxies

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
