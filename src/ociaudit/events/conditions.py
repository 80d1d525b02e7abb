"""Addresses and networks, of both versions of the Internet protocol.

Owns: how they are read and compared. Must not: know events.

Invariants
- An IPv4 address that is written as an IPv6 one (`::ffff:10.0.0.5`) is that IPv4 address.
- A text that is no address lies in no network.

The conditions a filter is made of: what each option's values mean for one event.

Owns: the meaning of globs, expressions, addresses, statuses, outcomes and rules, and their bad input.
Must not: know how conditions are combined.

Invariants
- A condition decides by event type and name where that is enough; else it returns a test of the event's facts.
- A field that an event does not have matches nothing.
- Only expressions on the event type look at case.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import translate
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import get_args

from ociaudit.errors import UsageError
from ociaudit.events.event_names import NameMatcher, NameRule, find_asked_names, list_name_rules
from ociaudit.events.fields import Facts, Outcome, judge_outcome, split_addresses

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
            f"{text!r} is neither an address nor a network: {_explain(error, text)}",
            hint="write an address (10.0.0.5, 2001:db8::5) or a network (10.0.0.0/8, 2001:db8::/32)",
        ) from error
    if isinstance(network, IPv6Network) and network.prefixlen >= _MAPPED_BITS:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - _MAPPED_BITS), strict=False)
    return network


def _explain(error: ValueError, text: str) -> str:
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


Test = Callable[[Facts], bool]
Read = Callable[[Facts], tuple[str | None, str | None]]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

OUTCOME_FIELDS = frozenset({"data.response.status", "data.additional_details.event_id", "data.message"})
TYPE_FIELDS = frozenset({"event_type", "data.event_name"})
_DOMAIN_FIELDS = frozenset({"data.additional_details.event_id"})
_STATUS = re.compile(r"(?P<family>[1-9])xx|(?P<first>\d{3})(-(?P<last>\d{3}))?", re.ASCII)
_GLOB_SIGNS = frozenset("*?[")
_LONGEST_STATUS = 9
_LONGEST_LIST = 4_000  # of addresses: what is longer is no list of real ones, and would fill the memory


@dataclass(frozen=True, slots=True)
class Condition:
    """One option's values: met when any of them is.

    `decide` takes event type and event name. `needed` are the facts that its tests read, as `events.slim_facts`
    names them.
    """

    decide: Callable[[str, str | None], bool | Test]
    needed: frozenset[str]


def join_any(conditions: Sequence[Condition]) -> Condition:
    """Return the condition that is met when any of these is."""
    if len(conditions) == 1:
        return conditions[0]

    def decide(event_type: str, event_name: str | None) -> bool | Test:
        verdicts = [condition.decide(event_type, event_name) for condition in conditions]
        tests = [verdict for verdict in verdicts if not isinstance(verdict, bool)]
        if True in verdicts or not tests:
            return True in verdicts
        return lambda facts: any(test(facts) for test in tests)

    return Condition(decide, frozenset[str]().union(*(condition.needed for condition in conditions)))


def match_types(patterns: Sequence[str]) -> Condition:
    """Any expression is found in the event type; a name that Audit does not record means what it does record.

    Raises:
        UsageError: a pattern is no regular expression; the message says which one and where.
    """
    searches = tuple(compile_pattern(pattern).search for pattern in patterns)
    asked = [name for pattern in patterns for name in find_asked_names(pattern)]
    own = Condition(lambda event_type, _: any(search(event_type) for search in searches), frozenset())
    return join_any([own, *(match_name_rules(list_name_rules(name)) for name in asked)])


def match_names(patterns: Sequence[str]) -> Condition:
    """Any glob is the event name, or the identity domain's name of the event where the glob has a dot.

    Raises:
        UsageError: a pattern is empty.
    """
    is_own = compile_globs(patterns, "event name")
    dotted = [pattern for pattern in patterns if "." in pattern]
    asked = [name for pattern in patterns for name in find_asked_names(pattern)]
    parts = [Condition(lambda _, event_name: event_name is not None and is_own(event_name), frozenset())]
    if dotted:
        parts.append(match_texts(dotted, "event name", lambda facts: (facts.domain_event, None), *_DOMAIN_FIELDS))
    return join_any([*parts, *(match_name_rules(list_name_rules(name)) for name in asked)])


def match_texts(patterns: Sequence[str], what: str, read: Read, *needed: str) -> Condition:
    """Any glob is one of the two texts that `read` reads.

    Raises:
        UsageError: a pattern is empty.
    """
    is_match = compile_globs(patterns, what)

    def test(facts: Facts) -> bool:
        first, second = read(facts)
        return (first is not None and is_match(first)) or (second is not None and is_match(second))

    return Condition(lambda _, __: test, frozenset(needed))


def match_addresses(values: Sequence[str]) -> Condition:
    """Any source address of the event lies in any of these networks.

    Raises:
        UsageError: a value is neither an address nor a network.
    """
    networks = NetworkSet([read_network(part) for part in split_list(values, "address")])
    is_surely_outside = networks.is_surely_outside

    @lru_cache(maxsize=2_000)
    def is_in(text: str) -> bool:
        return any(part in networks for part in split_addresses(text)) if "," in text else text.strip() in networks

    def test(facts: Facts) -> bool:
        data = facts.data
        identity = data.identity if data is not None else None
        text = identity.ip_address if identity is not None else None
        if text is None or is_surely_outside(text):
            return False
        return len(text) <= _LONGEST_LIST and is_in(text)

    return Condition(lambda _, __: test, frozenset({"data.identity.ip_address"}))


def match_outcomes(values: Sequence[str]) -> Condition:
    """The outcome is one of these.

    Raises:
        UsageError: a value is no outcome.
    """
    wanted = {part.casefold() for part in split_list(values, "outcome")}
    for part in sorted(wanted - set(OUTCOMES)):
        raise UsageError(
            f"there is no outcome {part!r}{suggest(part, OUTCOMES)}",
            hint=f"write {', '.join(OUTCOMES[:-1])} or {OUTCOMES[-1]}",
        )
    return Condition(lambda _, __: lambda facts: read_outcome(facts) in wanted, OUTCOME_FIELDS)


def match_statuses(values: Sequence[str]) -> Condition:
    """The HTTP status of the response lies in any of these ranges.

    Raises:
        UsageError: a value is neither a status nor a range of them.
    """
    ranges = tuple(_read_statuses(part) for part in split_list(values, "status"))

    def test(facts: Facts) -> bool:
        status = facts.response.status
        if not status or not (status.isascii() and status.isdigit()) or len(status) > _LONGEST_STATUS:
            return False
        number = int(status)
        return any(first <= number <= last for first, last in ranges)

    return Condition(lambda _, __: test, frozenset({"data.response.status"}))


def read_outcome(facts: Facts) -> Outcome:
    """Return what `facts.outcome` is, without detours: this is done for every event of an export."""
    data = facts.data
    if data is None:
        return "unknown"
    response, details = data.response, data.additional_details
    return judge_outcome(
        response.status if response is not None else None,
        details.event_id if details is not None else None,
        data.message,
    )


def match_name_rules(rules: Sequence[NameRule]) -> Condition:
    """Any of the rules is met, by the event type or by the identity domain's name of the event."""
    return join_any([_match_name_rule(name_rule) for name_rule in rules])


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Compile a regular expression.

    Raises:
        UsageError: it is none; the message says which one and where.
    """
    try:
        with warnings.catch_warnings():  # a doubtful set such as [[a] still means what it meant
            warnings.simplefilter("ignore", FutureWarning)
            return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        where = f" at position {error.pos}" if isinstance(error, re.error) and error.pos is not None else ""
        what = error.msg if isinstance(error, re.error) else str(error)
        raise UsageError(
            f"the event filter {pattern!r} is not a regular expression: {what}{where}",
            hint="write a Python regular expression, for example 'Instance|Compute'; \\. means a real dot",
        ) from error


def compile_globs(patterns: Sequence[str], what: str) -> Callable[[str], bool]:
    """Return a function that tells whether a whole text matches any of the shell-style patterns, in any case.

    Raises:
        UsageError: a pattern is empty.
    """
    for pattern in patterns:
        _check_not_empty(pattern, what)
    folded = [pattern.casefold() for pattern in patterns]
    literals = frozenset(text for text in folded if not _GLOB_SIGNS & set(text))
    globs = [translate(text) for text in folded if text not in literals]
    if not globs:
        return lambda text: text.casefold() in literals
    match = re.compile("|".join(globs)).match

    def is_match(text: str) -> bool:
        lower = text.casefold()
        return lower in literals or match(lower) is not None

    return is_match


def split_list(values: Sequence[str], what: str) -> list[str]:
    """Return the parts of values that may be comma lists.

    Raises:
        UsageError: a part is empty.
    """
    parts = [part.strip() for value in values for part in value.split(",")]
    for part in parts:
        _check_not_empty(part, what)
    return parts


def suggest(text: str, known: Iterable[str]) -> str:
    """Return the names that are like a mistyped one, as the end of a sentence."""
    near = get_close_matches(text.casefold(), list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _match_name_rule(name_rule: NameRule) -> Condition:
    is_named = NameMatcher(name_rule.patterns)
    outcome = name_rule.outcome
    needed = _DOMAIN_FIELDS if name_rule.is_about_domains else frozenset[str]()

    def has_outcome(facts: Facts) -> bool:
        return outcome is None or read_outcome(facts) == outcome

    def is_met_by_domain(facts: Facts) -> bool:
        return is_named(facts.domain_event) and has_outcome(facts)

    def decide(event_type: str, _: str | None) -> bool | Test:
        if is_named(event_type):
            return True if outcome is None else has_outcome
        return is_met_by_domain if name_rule.is_about_domains else False

    return Condition(decide, needed | (OUTCOME_FIELDS if outcome else frozenset()))


def _check_not_empty(text: str, what: str) -> None:
    if not text.strip():
        raise UsageError(f"an empty {what} was given to filter by", hint="give a value, or leave the option away")


def _read_statuses(text: str) -> tuple[int, int]:
    match = _STATUS.fullmatch(text.casefold())
    if match is None:
        hint = "write a status (404), a family (4xx) or a range (400-499)"
        raise UsageError(f"{text!r} is no HTTP status", hint=hint)
    if match["family"]:
        family = int(match["family"]) * 100
        return family, family + 99
    first, last = int(match["first"]), int(match["last"] or match["first"])
    if first > last:
        raise UsageError(f"the range of statuses {text!r} ends before it begins", hint=f"write {last}-{first}")
    return first, last
