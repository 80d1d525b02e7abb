"""Addresses and networks, of both versions of the Internet protocol.

Owns: how they are read and compared. Must not: know events.

Invariants
- An IPv4 address that is written as an IPv6 one (`::ffff:10.0.0.5`) is that IPv4 address.
- A text that is no address lies in no network.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from ociaudit.errors import UsageError

Network = IPv4Network | IPv6Network
_MAPPED_BITS = 96  # of an IPv6 network that holds nothing but IPv4 addresses


def read_network(text: str) -> Network:
    """Read an address, or a network with the length of its prefix; bits behind the prefix are not looked at.

    Raises:
        UsageError: it is neither.
    """
    try:
        network = ip_network(text, strict=False)
    except ValueError as error:
        raise UsageError(
            f"{text!r} is neither an address nor a network: {_say_why(error, text)}",
            hint="write an address (10.0.0.5, 2001:db8::5) or a network (10.0.0.0/8, 2001:db8::/32)",
        ) from error
    if isinstance(network, IPv6Network) and network.prefixlen >= _MAPPED_BITS:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - _MAPPED_BITS), strict=False)
    return network


def _say_why(error: ValueError, text: str) -> str:
    """Return the reason of a refused network; the standard library's own for a wrong address repeats the text."""
    prefix = text.partition("/")[2]
    try:
        ip_address(text.partition("/")[0])
    except ValueError as reason:
        return str(reason)
    return f"/{prefix} is no length of a prefix" if prefix else str(error)


def is_in_any(text: str, networks: Sequence[Network]) -> bool:
    """Tell whether a text is an address in any of the networks."""
    address = _read_address(text)
    return address is not None and any(address in network for network in networks)


def _read_address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
