import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ociaudit.errors import UsageError
from ociaudit.events.conditions import NetworkSet, parse_network

addresses = st.ip_addresses().map(str) | st.ip_addresses(v=4).map(lambda address: f"::ffff:{address}")
prefixes = st.integers(0, 32)


def read(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return an address as the standard library reads it, an IPv4-mapped IPv6 address as IPv4."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


@given(addresses, st.lists(st.tuples(st.ip_addresses(), prefixes), max_size=4))
@example("10.0.0.1", [(ipaddress.ip_address("10.0.0.2"), 31)])
def test_an_address_is_where_the_standard_library_puts_it(text: str, drawn: list) -> None:
    """An address of either version is in a network exactly if the standard library says so."""
    networks = [ipaddress.ip_network(f"{address}/{prefix}", strict=False) for address, prefix in drawn]
    networks.append(ipaddress.ip_network(text))
    found = [parse_network(str(network)) for network in networks]
    for network in found:
        assert (text in NetworkSet([network])) is (read(text) in network)
    assert text in NetworkSet(found)
    assert text not in NetworkSet([])


listed = st.lists(addresses | st.text("0123456789.:, ٣", max_size=9), max_size=3).map(",".join)


@given(listed, st.sampled_from(["", " "]), st.lists(st.tuples(st.ip_addresses(v=4), prefixes), max_size=3))
def test_the_quick_look_is_never_wrong(text: str, space: str, drawn: list) -> None:
    """No address in a list is in a network if the quick look excludes the list."""
    networks = NetworkSet([parse_network(f"{address}/{prefix}") for address, prefix in drawn])
    if networks.cannot_contain(space + text):
        assert not any(part.strip() in networks for part in text.split(","))


def test_the_quick_look_excludes_most_texts() -> None:
    """The quick look excludes IPv4 addresses with other first octets, but no lists and no IPv6 addresses."""
    networks = NetworkSet([parse_network(text) for text in ("10.0.0.0/8", "192.0.2.128/25", "203.0.113.9")])
    outside = ["11.0.0.1", "100.1.2.3", "192.0.3.129", "203.0.113.8"]
    assert all(map(networks.cannot_contain, outside))
    undecided = [
        "10.1.2.3",
        "192.0.2.1",
        "203.0.113.9",
        "203.0.113.99",
        "::ffff:11.0.0.1",
        "11.0.0.1,10.0.0.1",
        " 10.0.0.1",
    ]
    assert not any(map(networks.cannot_contain, undecided))


@given(st.text("0123456789.:afx% ٣", max_size=20))
@example("1.2.3.04")
@example("1.2.3.4\n")
@example("٣.2.3.4")
@example("1.2.3.256")
def test_a_text_that_is_not_an_address_is_in_no_network(text: str) -> None:
    """A text that the standard library rejects as an address is not even in the network of all addresses."""
    everywhere = NetworkSet([parse_network("0.0.0.0/0"), parse_network("::/0")])
    assert (text in everywhere) is (read(text) is not None)


@pytest.mark.parametrize("text", ["10.0.0.0/33", "::/129", "a", "1.2.3", "1.1.1.1/", "1.1.1.1/x", "10.0.0.0/-1", "/8"])
def test_an_invalid_network_is_named(text: str) -> None:
    """The error quotes the invalid network and says why; the hint shows the valid formats."""
    with pytest.raises(UsageError, match="is neither an address nor a network") as caught:
        parse_network(text)
    assert repr(text) in str(caught.value)
    assert "10.0.0.0/8" in str(caught.value.hint)
