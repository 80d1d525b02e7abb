"""The conditions of a filter: what the values of each option mean for one event.

A condition decides by event type and name if these are enough; otherwise it returns a test of the event's facts.
Addresses and networks are compared here too, because the standard library takes four times as long.

Event names are matched by patterns (`NameRule`). An alias is an event name that documentation or users mention
(`LoginFailure`) and Audit does not record; a filter that names it matches the events that Audit records instead.
Source: Oracle's documentation and recorded events.

Invariants
- Matching names ignores case, the prefix `com.oraclecloud.` and the suffixes `.begin` and `.end`.
- A pattern with a service (`virtualNetwork.CreateVcn`) matches that service; one without (`CreateVcn`) any service.
- A pattern that begins with `sso.` or `admin.` is an identity domain's name for an event, which is recorded in
  `data.additionalDetails.eventId`.
- Every value of the alias table is a part of real event types, in their true case, or an identity domain's name.
- An alias for a success or a failure matches only the recorded events with that outcome.
- A field that an event does not have matches nothing.
- Only regular expressions on the event type are case-sensitive.
- An IPv4 address written as an IPv6 one (`::ffff:10.0.0.5`) is that IPv4 address.
- A text that is not an address is in no network.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import translate
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from types import MappingProxyType
from typing import get_args

from ociaudit.errors import UsageError
from ociaudit.events.fields import Facts, Outcome, judge_outcome, read_status, split_addresses

RECORDED_AS = MappingProxyType(
    {
        "CreateApiKey": ("identityControlPlane.UploadApiKey",),
        "UpdateUserPassword": (
            "identityControlPlane.CreateOrResetPassword",
            "IdentityProvisioning.UpdateUserUIPassword",
            "IdentitySignOn.ChangePassword",
            "IdentitySignOn.ResetPasswordAndAuthenticate",
            "admin.user.password.reset.success",
            "admin.me.password.change.success",
        ),
        "UpdateUserMfaStatus": (
            "CreateMfaTotpDevice",
            "ActivateMfaTotpDevice",
            "DeleteMfaTotpDevice",
            "GenerateTotpSeed",
            "sso.auth.factor.initiated",
        ),
        "LoginSuccess": (
            "IdentitySignOn.InteractiveLogin",
            "IdentitySignOn.FederatedInteractiveLogin",
            "IdentitySignOn.VerifyMfaToken",
            "sso.session.create.success",
        ),
        "LoginFailure": (
            "IdentitySignOn.InteractiveLogin",
            "IdentitySignOn.FederatedInteractiveLogin",
            "IdentitySignOn.VerifyMfaToken",
            "sso.session.create.failure",
            "sso.authentication.failure",
        ),
        "SessionStart": ("sso.session.create.success", "sso.session.modify.success"),
        "SessionTimeout": ("sso.session.delete.success",),
        "LockUser": ("identityControlPlane.UpdateUserState", "admin.me.locked.success"),
    }
)
"""Alias -> the names that Audit records."""

_ALIAS_OUTCOMES: Mapping[str, Outcome] = MappingProxyType({"LoginSuccess": "success", "LoginFailure": "failure"})
_ALIAS_BY_FOLDED_NAME = MappingProxyType({alias.casefold(): alias for alias in RECORDED_AS})
_PLAIN_NAMES = re.compile(r"\w+(\|\w+)*")
_PREFIX = "com.oraclecloud."
_STAGES = (".begin", ".end")
_DOMAIN_PREFIXES = ("sso.", "admin.")
FactsTest = Callable[[Facts], bool]
TextPairReader = Callable[[Facts], tuple[str | None, str | None]]
Network = IPv4Network | IPv6Network

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
OUTCOME_FIELDS = frozenset({"data.response.status", "data.additional_details.event_id", "data.message"})
TYPE_FIELDS = frozenset({"event_type", "data.event_name"})

_DOMAIN_FIELDS = frozenset({"data.additional_details.event_id"})
_STATUS = re.compile(r"(?P<family>[1-9])xx|(?P<first>\d{3})(-(?P<last>\d{3}))?", re.ASCII)
_GLOB_CHARACTERS = frozenset("*?[")
_MAX_CACHED_TEXT = 4_000  # characters; longer lists of addresses would fill the cache
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}", re.ASCII)
_MAPPED_BITS = 96  # prefix length of the IPv6 network that holds the IPv4 addresses


@dataclass(frozen=True, slots=True)
class NameRule:
    """Any of these name patterns, in which `*` matches any text; with an `outcome`, only events with that outcome."""

    patterns: tuple[str, ...]
    outcome: Outcome | None = None

    @property
    def is_about_domains(self) -> bool:
        """Return whether a pattern can match an identity domain's name for an event."""
        return any(map(_is_domain_name, self.patterns))


class NameMatcher:
    """Matches event names against patterns."""

    def __init__(self, patterns: Sequence[str]) -> None:
        """Compile the patterns."""
        self._fullmatch = re.compile("|".join(map(_translate, patterns)) or r"(?!)").fullmatch

    def __call__(self, name: str | None) -> bool:
        """Return whether a pattern matches this event type or identity domain's name."""
        return name is not None and self._fullmatch(_strip(name)) is not None


def find_recorded_names(pattern: str) -> tuple[str, tuple[str, ...]] | None:
    """Return (alias, recorded names) of the first alias that occurs in `pattern`, or None."""
    folded = pattern.casefold()
    for alias, recorded in RECORDED_AS.items():
        if alias.casefold() in folded:
            return alias, recorded
    return None


def find_aliases(pattern: str) -> tuple[str, ...]:
    """Return the aliases among the alternatives of a pattern of plain names: `LoginFailure`, `Compute|LoginFailure`."""
    if not _PLAIN_NAMES.fullmatch(pattern):
        return ()
    found = (_ALIAS_BY_FOLDED_NAME.get(name.casefold()) for name in pattern.split("|"))
    return tuple(name for name in found if name)


def list_name_rules(alias: str) -> tuple[NameRule, ...]:
    """Return the rules of an alias. An identity domain's names state the outcome, so their rule does not check it."""
    recorded = RECORDED_AS[alias]
    types = tuple(name for name in recorded if not _is_domain_name(name))
    names = tuple(name for name in recorded if _is_domain_name(name))
    rules = (NameRule(types, _ALIAS_OUTCOMES.get(alias)), NameRule(names))
    return tuple(name_rule for name_rule in rules if name_rule.patterns)


def describe_alias(alias: str) -> str:
    """Return a notice that says which recorded names an alias matches."""
    parts = [
        ", ".join(name_rule.patterns) + (f" with outcome {name_rule.outcome}" if name_rule.outcome else "")
        for name_rule in list_name_rules(alias)
    ]
    return f"Audit does not record {alias}; the filter matches {'; '.join(parts)} instead"


def _is_domain_name(name: str) -> bool:
    return name.casefold().startswith(_DOMAIN_PREFIXES)


def _strip(name: str) -> str:
    folded = name.casefold().removeprefix(_PREFIX)
    for stage in _STAGES:
        folded = folded.removesuffix(stage)
    return folded


def _translate(pattern: str) -> str:
    folded = _strip(pattern)
    if "." not in folded:
        folded = f"*.{folded}"
    return ".*".join(map(re.escape, folded.split("*"))).join(("(?s:", ")"))


@dataclass(frozen=True, slots=True)
class Condition:
    """The values of one option, of which any must match.

    `decide` takes event type and event name. `needed` are the facts that its tests read, named as in
    `fields.make_facts_reader`.
    """

    decide: Callable[[str, str | None], bool | FactsTest]
    needed: frozenset[str]


def any_of(conditions: Sequence[Condition]) -> Condition:
    """Return the condition that is met if any of these is."""
    if len(conditions) == 1:
        return conditions[0]

    def decide(event_type: str, event_name: str | None) -> bool | FactsTest:
        decisions = [condition.decide(event_type, event_name) for condition in conditions]
        tests = [decision for decision in decisions if not isinstance(decision, bool)]
        if True in decisions or not tests:
            return True in decisions
        return lambda facts: any(test(facts) for test in tests)

    return Condition(decide, frozenset[str]().union(*(condition.needed for condition in conditions)))


def match_types(patterns: Sequence[str]) -> Condition:
    """Match events whose type contains a match of any regular expression, or that an alias represents.

    Raises:
        UsageError: a pattern is not a regular expression; the message says which one and where.
    """
    searches = tuple(compile_pattern(pattern).search for pattern in patterns)
    # An event without a type has an empty one here, which a pattern such as `.*` would match.
    own = Condition(
        lambda event_type, _: event_type != "" and any(search(event_type) for search in searches), frozenset()
    )
    return any_of([own, *_match_aliases(patterns)])


def match_names(patterns: Sequence[str]) -> Condition:
    """Match events whose name matches any glob; a glob with a dot also matches identity domains' names.

    Raises:
        UsageError: a pattern is empty.
    """
    is_match = compile_globs(patterns, "event name")
    dotted = [pattern for pattern in patterns if "." in pattern]
    parts = [Condition(lambda _, event_name: event_name is not None and is_match(event_name), frozenset())]
    if dotted:
        parts.append(match_texts(dotted, "event name", lambda facts: (facts.domain_event, None), *_DOMAIN_FIELDS))
    return any_of([*parts, *_match_aliases(patterns)])


def match_texts(patterns: Sequence[str], what: str, read: TextPairReader, *needed: str) -> Condition:
    """Match events for which any glob matches one of the two texts that `read` returns.

    Raises:
        UsageError: a pattern is empty.
    """
    is_match = compile_globs(patterns, what)

    def test(facts: Facts) -> bool:
        first, second = read(facts)
        return (first is not None and is_match(first)) or (second is not None and is_match(second))

    return Condition(lambda _, __: test, frozenset(needed))


def match_addresses(values: Sequence[str]) -> Condition:
    """Match events with a source address in any of these networks.

    Raises:
        UsageError: a value is neither an address nor a network.
    """
    networks = NetworkSet([parse_network(part) for part in split_list(values, "address")])
    cannot_contain = networks.cannot_contain

    @lru_cache(maxsize=2_000)
    def is_inside(text: str) -> bool:
        return any(part in networks for part in split_addresses(text)) if "," in text else text.strip() in networks

    def test(facts: Facts) -> bool:
        data = facts.data
        identity = data.identity if data is not None else None
        text = identity.ip_address if identity is not None else None
        if text is None or cannot_contain(text):
            return False
        return is_inside(text) if len(text) <= _MAX_CACHED_TEXT else is_inside.__wrapped__(text)

    return Condition(lambda _, __: test, frozenset({"data.identity.ip_address"}))


def match_outcomes(values: Sequence[str]) -> Condition:
    """Match events with any of these outcomes.

    Raises:
        UsageError: a value is not an outcome.
    """
    wanted = {part.casefold() for part in split_list(values, "outcome")}
    for part in sorted(wanted - set(OUTCOMES)):
        raise UsageError(
            f"{part!r} is not an outcome{suggest(part, OUTCOMES)}",
            hint=f"write {', '.join(OUTCOMES[:-1])} or {OUTCOMES[-1]}",
        )
    return Condition(lambda _, __: lambda facts: read_outcome(facts) in wanted, OUTCOME_FIELDS)


def match_statuses(values: Sequence[str]) -> Condition:
    """Match events with an HTTP response status in any of these ranges.

    Raises:
        UsageError: a value is neither a status nor a range of them.
    """
    ranges = tuple(_parse_statuses(part) for part in split_list(values, "status"))

    def test(facts: Facts) -> bool:
        status = read_status(facts.response.status)
        return status is not None and any(first <= status <= last for first, last in ranges)

    return Condition(lambda _, __: test, frozenset({"data.response.status"}))


def match_name_rules(rules: Sequence[NameRule]) -> Condition:
    """Match events for which any rule matches the event type or the identity domain's name."""
    return any_of([_match_name_rule(name_rule) for name_rule in rules])


def read_outcome(facts: Facts) -> Outcome:
    """Return the same as `facts.outcome`, but faster, because an export may call it for every event."""
    data = facts.data
    if data is None:
        return "unknown"
    response, details = data.response, data.additional_details
    return judge_outcome(
        response.status if response is not None else None,
        details.event_id if details is not None else None,
        data.message,
    )


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Return a compiled regular expression.

    Raises:
        UsageError: the pattern is not one; the message says why and where.
    """
    try:
        with warnings.catch_warnings():  # `[[a]` still has its current meaning
            warnings.simplefilter("ignore", FutureWarning)
            return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        where = f" at position {error.pos}" if isinstance(error, re.error) and error.pos is not None else ""
        what = error.msg if isinstance(error, re.error) else str(error)
        raise UsageError(
            f"the event filter {pattern!r} is not a regular expression: {what}{where}",
            hint="write a Python regular expression, for example 'Instance|Compute'; \\. matches a dot",
        ) from error


def compile_globs(patterns: Sequence[str], what: str) -> Callable[[str], bool]:
    """Return a function that checks whether any shell-style pattern matches a whole text, ignoring case.

    Raises:
        UsageError: a pattern is empty.
    """
    for pattern in patterns:
        _check_not_empty(pattern, what)
    folded = [pattern.casefold() for pattern in patterns]
    literals = frozenset(text for text in folded if not _GLOB_CHARACTERS & set(text))
    globs = [translate(text) for text in folded if text not in literals]
    if not globs:
        return lambda text: text.casefold() in literals
    match = re.compile("|".join(globs)).match

    def is_match(text: str) -> bool:
        lower = text.casefold()
        return lower in literals or match(lower) is not None

    return is_match


def split_list(values: Sequence[str], what: str) -> list[str]:
    """Return the parts of values that may be comma-separated lists.

    Raises:
        UsageError: a part is empty.
    """
    parts = [part.strip() for value in values for part in value.split(",")]
    for part in parts:
        _check_not_empty(part, what)
    return parts


def suggest(text: str, known: Iterable[str]) -> str:
    """Return "; did you mean …?" with the known names similar to a mistyped one, or an empty text."""
    near = get_close_matches(text.casefold(), list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def parse_network(text: str) -> Network:
    """Return an address or a network in CIDR notation as a network; bits after the prefix are ignored.

    Raises:
        UsageError: the text is neither.
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


class NetworkSet:
    """A set of networks that addresses are looked up in."""

    def __init__(self, networks: Sequence[Network]) -> None:
        """Store the networks as masks."""
        self._masks_v4 = _list_masks(networks, IPv4Network)
        self._masks_v6 = _list_masks(networks, IPv6Network)
        self._prefixes = tuple(_format_prefix(one) for one in networks if isinstance(one, IPv4Network))

    def cannot_contain(self, text: str) -> bool:
        """Return True if a quick look shows that no address in `text` is in a network; False decides nothing.

        Every IPv4 address in a network starts with the octets that all of its addresses share.
        """
        return not text.startswith(self._prefixes) and ":" not in text and "," not in text and text[:1].isdigit()

    def __contains__(self, text: str) -> bool:
        """Return whether a text is an address in one of the networks."""
        if _IPV4.fullmatch(text):
            return _matches_mask(int.from_bytes(bytes(map(int, text.split(".")))), self._masks_v4)
        try:
            address = IPv6Address(text)
        except ValueError:
            return False
        mapped = address.ipv4_mapped
        return _matches_mask(int(mapped), self._masks_v4) if mapped else _matches_mask(int(address), self._masks_v6)


def _match_aliases(patterns: Sequence[str]) -> list[Condition]:
    aliases = [alias for pattern in patterns for alias in find_aliases(pattern)]
    return [match_name_rules(list_name_rules(alias)) for alias in aliases]


def _match_name_rule(name_rule: NameRule) -> Condition:
    is_named = NameMatcher(name_rule.patterns)
    outcome = name_rule.outcome
    needed = _DOMAIN_FIELDS if name_rule.is_about_domains else frozenset[str]()

    def has_outcome(facts: Facts) -> bool:
        return outcome is None or read_outcome(facts) == outcome

    def matches_domain_name(facts: Facts) -> bool:
        return is_named(facts.domain_event) and has_outcome(facts)

    def decide(event_type: str, _: str | None) -> bool | FactsTest:
        if is_named(event_type):
            return True if outcome is None else has_outcome
        return matches_domain_name if name_rule.is_about_domains else False

    return Condition(decide, needed | (OUTCOME_FIELDS if outcome else frozenset()))


def _check_not_empty(text: str, what: str) -> None:
    if not text.strip():
        raise UsageError(f"the filter has an empty {what}", hint="give a value, or omit the option")


def _parse_statuses(text: str) -> tuple[int, int]:
    """Return the first and the last status of a range."""
    match = _STATUS.fullmatch(text.casefold())
    if match is None:
        hint = "write a status (404), a family (4xx) or a range (400-499)"
        raise UsageError(f"{text!r} is not an HTTP status", hint=hint)
    if match["family"]:
        family = int(match["family"]) * 100
        return family, family + 99
    first, last = int(match["first"]), int(match["last"] or match["first"])
    if first > last:
        raise UsageError(f"the range of statuses {text!r} ends before it starts", hint=f"write {last}-{first}")
    return first, last


def _explain(error: ValueError, text: str) -> str:
    """Return why a network is invalid; the standard library's message for a wrong address repeats the text."""
    address, _, prefix = text.partition("/")
    try:
        ip_address(address)
    except ValueError as reason:
        return str(reason)
    return f"/{prefix} is not a prefix length" if prefix else str(error)


def _matches_mask(number: int, masks: Sequence[tuple[int, int]]) -> bool:
    for base, mask in masks:  # noqa: SIM110 - a generator costs as much as all the rest
        if number & mask == base:
            return True
    return False


def _format_prefix(network: IPv4Network) -> str:
    """Return the octets that all addresses of a network share, with the dot after them."""
    octets = str(network.network_address).split(".")[: network.prefixlen // 8]
    return ".".join(octets) + "." * (0 < len(octets) < 4)


def _list_masks(networks: Sequence[Network], version: type[Network]) -> tuple[tuple[int, int], ...]:
    return tuple(
        (int(network.network_address), int(network.netmask)) for network in networks if isinstance(network, version)
    )
