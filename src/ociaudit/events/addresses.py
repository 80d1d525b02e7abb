"""Addresses and networks, of both versions of the Internet protocol.

Owns: how they are read and compared. Must not: know events.

Invariants
- An IPv4 address that is written as an IPv6 one (`::ffff:10.0.0.5`) is that IPv4 address.
- A text that is no address lies in no network.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from ociaudit.errors import UsageError

Network = IPv4Network | IPv6Network
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}", re.ASCII)
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


class NetworkSet:
    """Tells whether an address lies in any of some networks."""

    def __init__(self, networks: Sequence[Network]) -> None:
        """Take the networks."""
        self._of_version_4 = _list_masks(networks, IPv4Network)
        self._of_version_6 = _list_masks(networks, IPv6Network)
        self._beginnings = tuple(_write_beginning(one) for one in networks if isinstance(one, IPv4Network))

    def is_surely_outside(self, text: str) -> bool:
        """Tell of a text at first sight that no address in it lies in one of them; False where one has to look.

        Every IPv4 address in a network begins with the octets that all of its addresses share.
        """
        return not text.startswith(self._beginnings) and ":" not in text and "," not in text and text[:1].isdigit()

    def __contains__(self, text: str) -> bool:
        """Tell whether a text is an address in one of them; the library's care takes four times as long."""
        if _IPV4.fullmatch(text):
            return _is_in(int.from_bytes(bytes(map(int, text.split(".")))), self._of_version_4)
        try:
            address = IPv6Address(text)
        except ValueError:
            return False
        mapped = address.ipv4_mapped
        return _is_in(int(mapped), self._of_version_4) if mapped else _is_in(int(address), self._of_version_6)


def _is_in(number: int, masks: Sequence[tuple[int, int]]) -> bool:
    for base, mask in masks:  # noqa: SIM110 - a generator costs as much as all the rest
        if number & mask == base:
            return True
    return False


def _write_beginning(network: IPv4Network) -> str:
    """Write the octets that all addresses of a network share, with the dot behind them."""
    octets = str(network.network_address).split(".")[: network.prefixlen // 8]
    return ".".join(octets) + "." * (0 < len(octets) < 4)


def _list_masks(networks: Sequence[Network], version: type[Network]) -> tuple[tuple[int, int], ...]:
    return tuple(
        (int(network.network_address), int(network.netmask)) for network in networks if isinstance(network, version)
    )
