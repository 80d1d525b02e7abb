"""Filters: which events are written, and presets: named filters for common questions.

A filter (`FilterSpec`) is kept as the user typed it, stored with a run and recorded in the manifest. `EventFilter`
compiles it and decides for each event. The event names of the presets come from recorded events, the operations of
Oracle's SDK (an event is named after its operation), Oracle's list of identity-domain events, and public checks of the
CIS OCI Foundations Benchmark.

Invariants
- Two filters typed alike are equal. A single text is the same as a list with that text.
- An empty filter lets every event pass.
- The values of one option are alternatives; all options must match. An excluded event never passes.
- A field that an event does not have matches no condition, so it neither includes nor excludes the event. For times it
  is the reverse: an event whose time is unreadable is never dropped for its time.
- A preset for changes never matches a read-only operation; case is ignored, so it also matches the names of the Events
  service.
- Only the facts that the filter needs are read, and none if type, name and time decide.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import msgspec

from ociaudit.errors import UsageError
from ociaudit.events.conditions import (
    TYPE_FIELDS,
    Condition,
    FactsTest,
    NameRule,
    describe_alias,
    find_aliases,
    match_addresses,
    match_name_rules,
    match_names,
    match_outcomes,
    match_statuses,
    match_texts,
    match_types,
    split_list,
    suggest,
)
from ociaudit.events.event import Event, encode_instant, make_page_parser, parse_page
from ociaudit.events.fields import UNREADABLE_INSTANT, Facts, make_facts_reader, read_instant

_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_GERMAN_DAY = re.compile(r"(\d\d)\.(\d\d)\.(\d\d)", re.ASCII)
_WITHOUT_SECONDS = re.compile(r"([Tt ]\d\d:\d\d) ?([Zz]|[+-]\d\d:?\d\d)$", re.ASCII)
_OFFSET = re.compile(r"([Zz]|[+-]\d\d:?\d\d)$", re.ASCII)
_OPTION_NAMES = {
    "presets": "preset",
    "event_types": "event type",
    "event_names": "event name",
    "principals": "principal",
    "addresses": "address",
    "compartment_names": "compartment",
    "resources": "resource",
    "outcomes": "outcome",
    "statuses": "status",
}
_MAX_CACHED_DECISIONS = 10_000
_MAX_CACHED_NAME = 500  # characters
_MAX_SEEN = 2_000
_AFTER_ALL = b"\xff"
_FIRST_READABLE = encode_instant(UNREADABLE_INSTANT + 1)

_Decision = tuple[FactsTest, ...] | None
"""The tests that remain for events of one type and name; None if these events do not pass."""


class Criteria(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The conditions that an event must meet. Each field holds alternatives as typed; an empty one matches every event.

    `event_types` are regular expressions, case-sensitive, searched in the event type. The other texts are shell-style
    patterns (`*`, `?`, `[…]`) for a whole value, ignoring case. `addresses`, `outcomes`, `statuses` and `presets` may
    be comma-separated lists.
    """

    presets: tuple[str, ...] = ()
    event_types: tuple[str, ...] = ()
    event_names: tuple[str, ...] = ()
    principals: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    compartment_names: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Turn single texts and lists into tuples."""
        for name in Criteria.__struct_fields__:
            value: str | Sequence[str] = getattr(self, name)
            values = (value,) if isinstance(value, str) else tuple(value)
            msgspec.structs.force_setattr(self, name, values)

    def __str__(self) -> str:
        """Return the conditions in words, for messages."""
        return "; ".join(self._describe()) or "(all)"

    def _describe(self) -> Iterator[str]:
        for field, name in _OPTION_NAMES.items():
            values = getattr(self, field)
            if values:
                yield f"{name} {' or '.join(map(repr, values))}"


class FilterSpec(Criteria, frozen=True, kw_only=True, omit_defaults=True):
    """A whole filter: conditions to meet, conditions that exclude, and bounds on the event time.

    `event_after` (inclusive) and `event_before` (exclusive) are dates, which mean midnight UTC, or times with an
    offset.
    """

    event_after: str | None = None
    event_before: str | None = None
    exclude: Criteria = Criteria()

    def _describe(self) -> Iterator[str]:
        yield from super()._describe()
        if self.event_after is not None:
            yield f"event time from {self.event_after!r}"
        if self.event_before is not None:
            yield f"event time before {self.event_before!r}"
        yield from (f"not {text}" for text in self.exclude._describe())  # noqa: SLF001 - of its own class


class EventFilter:
    """A compiled filter that decides for each event."""

    def __init__(self, spec: FilterSpec | Sequence[str] = ()) -> None:
        """Compile a filter, or a list of event types.

        Raises:
            UsageError: a value is invalid; the message says which one and why.
        """
        self.spec = spec if isinstance(spec, FilterSpec) else FilterSpec(event_types=tuple(spec))
        self._wanted = _list_conditions(self.spec)
        self._unwanted = _list_conditions(self.spec.exclude)
        after, before = _parse_bounds(self.spec)
        self._has_bounds = after is not None or before is not None
        self._first = encode_instant(after) if after is not None else b""
        self._end = encode_instant(before) if before is not None else _AFTER_ALL
        needed = frozenset[str]().union(*(one.needed for one in (*self._wanted, *self._unwanted)))
        self.parse_page: Callable[[bytes], list[Event]] = make_page_parser(needed) if needed else parse_page
        """A function like `event.parse_page` whose events have the facts that `select` needs."""
        self._read_needed: Callable[[bytes], Facts] = make_facts_reader(needed)
        self._read_all: Callable[[bytes], Facts] = make_facts_reader(needed | TYPE_FIELDS | {"event_time"})
        self._decisions: dict[tuple[str, str | None], _Decision] = {}
        self._seen: dict[str, set[str]] = {field: set() for field in _VALUE_READERS if getattr(self.spec, field)}
        self._has_matched = not self._seen

    def __bool__(self) -> bool:
        """Return whether the filter has any condition."""
        return bool(self._wanted or self._unwanted or self._has_bounds)

    @property
    def notices(self) -> tuple[str, ...]:
        """Return notices for the user: which aliases the filter resolves to recorded names."""
        patterns = (
            pattern
            for criteria in (self.spec, self.spec.exclude)
            for pattern in (*criteria.event_names, *criteria.event_types)
        )
        aliases = dict.fromkeys(alias for pattern in patterns for alias in find_aliases(pattern))
        return tuple(map(describe_alias, aliases))

    def select(self, events: list[Event]) -> list[Event]:
        """Return the events that pass, in their order."""
        if not self:
            return events
        inside = [event for event in events if self._is_between(event.order)] if self._has_bounds else events
        selected = [event for event in inside if self._is_event_wanted(event)]
        if not self._has_matched:
            self._has_matched = bool(selected)
            self._record_values((event.event_name, event.facts) for event in events)
        return selected

    def suggest_values(self) -> dict[str, tuple[str, ...]]:
        """Return the values that come nearest to those of the filter, by field; for a filter that matched nothing.

        Only events that the filter was given count, and up to a number of different values.
        """
        found: dict[str, tuple[str, ...]] = {}
        for field, seen in self._seen.items() if not self._has_matched else ():
            nearest = [near for value in getattr(self.spec, field) for near in _find_nearest(value, seen)]
            if nearest:
                found[_OPTION_NAMES[field]] = tuple(dict.fromkeys(nearest))
        return found

    def _record_values(self, events: Iterable[tuple[str | None, Facts | None]]) -> None:
        """Record the values of the filter's fields, until a first event matches; of each event, its name and facts."""
        if self._has_matched:
            self._seen.clear()
            return
        for event_name, facts in events:
            for field, seen in self._seen.items():
                if len(seen) < _MAX_SEEN:
                    seen.update(value for value in _VALUE_READERS[field](event_name, facts) if value)

    def is_wanted(self, raw: bytes) -> bool:
        """Return whether an event passes; `raw` is a JSON object in shape `api`.

        Raises:
            ValueError: `raw` is not a JSON object.
        """
        if not self:
            return True
        facts = self._read_all(raw)
        is_wanted = self.is_wanted_by_facts(facts)
        if not self._has_matched:
            self._has_matched = is_wanted
            self._record_values([(facts.details.event_name, facts)])
        return is_wanted

    def is_wanted_by_facts(self, facts: Facts) -> bool:
        """Return whether an event with these facts passes; all facts must have been read."""
        if self._has_bounds and not self._is_between(encode_instant(facts.instant)):
            return False
        tests = self._find_decision(facts.event_type or "", facts.details.event_name)
        return tests is not None and all(test(facts) for test in tests)

    def _is_event_wanted(self, event: Event) -> bool:
        tests = self._find_decision(event.event_type, event.event_name)
        if not tests:
            return tests is not None
        facts = event.facts or self._read_needed(event.raw)
        for test in tests:  # noqa: SIM110 - a generator costs as much as a test
            if not test(facts):
                return False
        return True

    def _is_between(self, order: bytes) -> bool:
        return self._first <= order < self._end or order < _FIRST_READABLE

    def _find_decision(self, event_type: str, event_name: str | None) -> _Decision:
        """Return the decision for a type and name; cached, because few different ones occur."""
        key = (event_type, event_name)
        try:
            return self._decisions[key]
        except KeyError:
            decision = self._decide(event_type, event_name)
            if len(event_type) + len(event_name or "") <= _MAX_CACHED_NAME:
                if len(self._decisions) >= _MAX_CACHED_DECISIONS:
                    self._decisions.clear()
                self._decisions[key] = decision
            return decision

    def _decide(self, event_type: str, event_name: str | None) -> _Decision:
        tests: list[FactsTest] = []
        for conditions, is_unwanted in ((self._wanted, False), (self._unwanted, True)):
            for condition in conditions:
                decided = condition.decide(event_type, event_name)
                if not isinstance(decided, bool):
                    tests.append(_negate(decided) if is_unwanted else decided)
                elif decided is is_unwanted:
                    return None
        return tuple(tests)


class TimeSpan:
    """A filter for events in a range of event times; events with an unreadable time pass too."""

    def __init__(self, start: int, end: int) -> None:
        """Let events in `[start, end)` pass, given as instants."""
        self._first, self._end = encode_instant(start), encode_instant(end)

    def select(self, events: list[Event]) -> list[Event]:
        """Return the events that pass, in their order."""
        first, end = self._first, self._end
        return [event for event in events if first <= event.order < end or event.order < _FIRST_READABLE]


def _find_nearest(value: str, seen: set[str]) -> list[str]:
    """Return up to three values seen that contain or resemble a value; none if it is among them."""
    wanted = value.strip("*").casefold()
    known = {text.casefold(): text for text in sorted(seen, reverse=True) if len(text) <= _MAX_CACHED_NAME}
    if not wanted or wanted in known or any(character in wanted for character in "*?["):
        return []
    containing = sorted((text for folded, text in known.items() if wanted in folded), key=lambda one: (len(one), one))
    return containing[:3] or [known[text] for text in get_close_matches(wanted, known, n=3, cutoff=0.7)]


def _read_values(facts: Facts | None, read: Callable[[Facts], tuple[str | None, ...]]) -> tuple[str | None, ...]:
    return read(facts) if facts is not None else ()


def _parse_bounds(spec: FilterSpec) -> tuple[int | None, int | None]:
    """Return the instants (first, end) between which an event must have happened, half-open.

    Raises:
        UsageError: a bound is unreadable, or there is no time between them.
    """
    after = _parse_moment(spec.event_after, "--event-after") if spec.event_after is not None else None
    before = _parse_moment(spec.event_before, "--event-before") if spec.event_before is not None else None
    if after is not None and before is not None and after >= before:
        raise UsageError(
            f"no event can be after {spec.event_after!r} and before {spec.event_before!r}",
            hint="swap them, or choose a later --event-before",
        )
    return after, before


def _parse_moment(text: str, option: str) -> int:
    """Return the instant of a date's midnight UTC, or of a time with an offset."""
    stripped = text.strip()
    german = _GERMAN_DAY.fullmatch(stripped)
    if german:
        stripped = f"20{german[3]}-{german[2]}-{german[1]}"
    if _DAY.fullmatch(stripped):
        stripped += "T00:00:00Z"
    stripped = _WITHOUT_SECONDS.sub(r"\1:00\2", stripped)
    instant = read_instant(stripped) if _OFFSET.search(stripped) else UNREADABLE_INSTANT
    if instant == UNREADABLE_INSTANT:
        raise UsageError(
            f"{option} {text!r} is not a date or time in a known format",
            hint="write a date (2025-12-01 or 01.12.25) or a time with its offset (2025-12-01T08:00:00Z); "
            "an age is not accepted, because it means something else in every run",
        )
    return instant


def _negate(test: FactsTest) -> FactsTest:
    return lambda facts: not test(facts)


def _list_conditions(criteria: Criteria) -> tuple[Condition, ...]:
    found: list[Condition] = []
    if criteria.presets:
        found.append(match_name_rules(list_preset_rules(split_list(criteria.presets, "preset"))))
    if criteria.event_types:
        found.append(match_types(criteria.event_types))
    if criteria.event_names:
        found.append(match_names(criteria.event_names))
    if criteria.principals:
        needed = ("data.identity.principal_name", "data.identity.principal_id")
        found.append(match_texts(criteria.principals, "principal", _read_principal, *needed))
    if criteria.addresses:
        found.append(match_addresses(criteria.addresses))
    if criteria.compartment_names:
        found.append(match_texts(criteria.compartment_names, "compartment", _read_compartment, "data.compartment_name"))
    if criteria.resources:
        needed = ("data.resource_name", "data.resource_id")
        found.append(match_texts(criteria.resources, "resource", _read_resource, *needed))
    if criteria.outcomes:
        found.append(match_outcomes(criteria.outcomes))
    if criteria.statuses:
        found.append(match_statuses(criteria.statuses))
    return tuple(found)


def _read_principal(facts: Facts) -> tuple[str | None, str | None]:
    data = facts.data
    identity = data.identity if data is not None else None
    return (identity.principal_name, identity.principal_id) if identity is not None else (None, None)


def _read_compartment(facts: Facts) -> tuple[str | None, str | None]:
    return facts.details.compartment_name, None


def _read_resource(facts: Facts) -> tuple[str | None, str | None]:
    data = facts.data
    return (data.resource_name, data.resource_id) if data is not None else (None, None)


_VALUE_READERS: dict[str, Callable[[str | None, Facts | None], tuple[str | None, ...]]] = {
    "event_names": lambda event_name, _: (event_name,),
    "principals": lambda _, facts: _read_values(facts, _read_principal),
    "addresses": lambda _, facts: _read_values(facts, lambda one: one.addresses),
    "compartment_names": lambda _, facts: _read_values(facts, _read_compartment),
    "resources": lambda _, facts: _read_values(facts, _read_resource),
}
"""Field of a filter -> the values that an event has for it, by its name and its facts, as far as they were read."""


@dataclass(frozen=True, slots=True)
class PresetPart:
    """A part of a preset: its title and its rule."""

    title: str
    name_rule: NameRule


@dataclass(frozen=True, slots=True)
class Preset:
    """A named filter; an event passes if the rule of any part matches."""

    name: str
    title: str
    parts: tuple[PresetPart, ...]

    @property
    def rules(self) -> tuple[NameRule, ...]:
        """Return the rules of all parts."""
        return tuple(part.name_rule for part in self.parts)


_IAM = "identityControlPlane"
_SIGN_INS = ("IdentitySignOn.*", "sso.session.create.*", "sso.authentication.*")


def _part(title: str, *patterns: str) -> PresetPart:
    return PresetPart(title, NameRule(patterns))


def _iam(*names: str) -> tuple[str, ...]:
    return tuple(f"{_IAM}.{name}" for name in names)


def _edit(service: str, nouns: str, verbs: str = "Create Update Delete") -> tuple[str, ...]:
    """Return the operation names of every verb with every noun; without a service, for any service."""
    prefix = f"{service}." if service else ""
    return tuple(f"{prefix}{verb}{noun}" for noun in nouns.split() for verb in verbs.split())


def _change(nouns: str) -> tuple[str, ...]:
    """Return the names of the operations that change network resources, in any service."""
    moved = tuple(f"Change{noun}Compartment" for noun in nouns.split())
    return (*_edit("", nouns), *moved)


_POLICIES = _edit(_IAM, "Policy")
_NSG_RULES = _edit("", "NetworkSecurityGroupSecurityRules", "Add Update Remove")
_GATEWAYS = (
    *_change("Drg InternetGateway LocalPeeringGateway NatGateway ServiceGateway"),
    *_edit("", "DrgAttachment"),
    *("UpgradeDrg", "ConnectLocalPeeringGateways", "AttachServiceId", "DetachServiceId"),
)

PRESETS = (
    Preset(
        "iam",
        "changes to identities and permissions: users, groups, policies, credentials, compartments, domains",
        (
            _part(
                "identity service",
                *_iam("Create*", "Update*", "Delete*", "Add*", "Remove*", "Upload*", "Generate*", "Reset*"),
                *_iam("Activate*", "Deactivate*", "Change*", "Move*", "Recover*", "Bulk*", "Import*", "Enable*"),
                *_edit("Compartments", "*", "Create Update Delete Move Recover"),
                *("IdentityProvisioning.Create*", "IdentityProvisioning.Update*", "IdentityProvisioning.Delete*"),
                *("IdentitySignOn.ChangePassword", "IdentitySignOn.ResetPasswordAndAuthenticate"),
            ),
            _part(
                "identity domains",
                *("admin.user.*", "admin.me.*", "admin.group.*", "admin.dynamicresourcegroup.*", "admin.grant.*"),
                *("admin.app.*", "admin.approle.*", "admin.policy.*", "admin.rule.*", "admin.passwordpolicy.*"),
                *("admin.identityprovider.*", "admin.apikey.*", "admin.authtoken.*", "admin.customersecretkey.*"),
                *("admin.smtpcredential.*", "admin.oauth2clientcredential.*", "admin.authenticationfactor*"),
                "sso.bypasscode.*",
            ),
        ),
    ),
    Preset("sign-ins", "sign-ins to the console, successful or not", (_part("sign-ins", *_SIGN_INS),)),
    Preset(
        "sign-in-failures",
        "sign-ins that failed",
        (PresetPart("sign-ins with outcome failure", NameRule(_SIGN_INS, "failure")),),
    ),
    Preset(
        "mfa",
        "multi-factor authentication: devices, bypass codes, settings and their use",
        (
            _part("identity service", *_edit("", "MfaTotpDevice", "Create Activate Update Delete"), "GenerateTotpSeed"),
            _part("sign-in", "IdentitySignOn.VerifyMfaToken"),
            _part(
                "identity domains",
                *("sso.auth.factor.*", "sso.bypasscode.*", "admin.me.mfa.*", "admin.user.mfa.*"),
                "admin.authenticationfactor*",
            ),
        ),
    ),
    Preset(
        "api-keys",
        "API keys uploaded and deleted",
        (
            _part("identity service", *_edit(_IAM, "ApiKey", "Upload Delete")),
            _part("identity domains", "admin.apikey.*"),
        ),
    ),
    Preset(
        "auth-tokens",
        "other user credentials: auth tokens, secret keys, SMTP, OAuth and database credentials",
        (
            _part(
                "identity service",
                *_edit(_IAM, "AuthToken SwiftPassword CustomerSecretKey SmtpCredential OAuthClientCredential"),
                *_edit(_IAM, "DbCredential", "Create Delete"),
            ),
            _part(
                "identity domains",
                *("admin.authtoken.*", "admin.customersecretkey.*", "admin.smtpcredential.*"),
                "admin.oauth2clientcredential.*",
            ),
        ),
    ),
    Preset(
        "passwords",
        "passwords set, changed and reset, and password policies",
        (
            _part(
                "identity service",
                *_iam("CreateOrResetPassword", "CreateOrResetUIPassword"),
                "IdentityProvisioning.UpdateUserUIPassword",
            ),
            _part("sign-in", "IdentitySignOn.ChangePassword", "IdentitySignOn.ResetPasswordAndAuthenticate"),
            _part("identity domains", "admin.user.password.*", "admin.me.password.*", "admin.passwordpolicy.*"),
        ),
    ),
    Preset(
        "sessions",
        "console sessions started, changed and ended",
        (_part("identity domains", "sso.session.create.*", "sso.session.modify.*", "sso.session.delete.*"),),
    ),
    Preset(
        "user-locking",
        "users locked, unlocked, activated and deactivated",
        (
            _part("identity service", *_iam("UpdateUserState", "ActivateUser", "DeactivateUser")),
            _part(
                "identity domains",
                *("admin.me.locked.*", "admin.me.unlocked.*", "admin.me.mfa.locked.*", "admin.user.locked.*"),
                *("admin.user.unlocked.*", "admin.user.activated.*", "admin.user.deactivated.*"),
            ),
        ),
    ),
    Preset(
        "policy-changes",
        "changes to IAM, sign-on and authentication policies",
        (
            _part("identity service", *_POLICIES, *_iam("UpdateAuthenticationPolicy")),
            _part("identity domains", "admin.policy.*", "admin.rule.*", "admin.passwordpolicy.*"),
        ),
    ),
    Preset(
        "network-changes",
        "changes to networks, subnets, routes, security rules, gateways, public addresses and external connections",
        (
            _part(
                "networks and routes",
                *_change("Vcn Subnet Vlan RouteTable DhcpOptions"),
                *_edit("", "VcnCidr", "Add Modify Remove"),
                *_edit("", "DrgRouteTable DrgRouteDistribution"),
                *_edit("", "DrgRouteRules DrgRouteDistributionStatements", "Add Update Remove"),
            ),
            _part("security lists and groups", *_change("SecurityList NetworkSecurityGroup"), *_NSG_RULES),
            _part("gateways", *_GATEWAYS),
            _part("public addresses", *_change("PublicIp PublicIpPool")),
            _part(
                "external connections",
                *_change("Cpe IPSecConnection VirtualCircuit CrossConnect RemotePeeringConnection"),
                *("ConnectRemotePeeringConnections", "UpdateIPSecConnectionTunnel*"),
            ),
        ),
    ),
    Preset(
        "deletions",
        "everything deleted, terminated or scheduled for deletion, in any service",
        (
            _part(
                "any service",
                *("Delete*", "Terminate*", "Purge*", "BulkDelete*", "CascadeDelete*", "Schedule*Deletion"),
            ),
            _part("identity domains", "admin.*.delete.*", "sso.bypasscode.delete.*"),
        ),
    ),
    Preset(
        "cis",
        "events that the CIS OCI Foundations Benchmark requires to be monitored: 4.3 to 4.12, 4.15 and 4.18",
        (
            _part("4.3 identity providers", *_edit(_IAM, "IdentityProvider"), "admin.identityprovider.*"),
            _part("4.4 identity provider group mappings", *_edit(_IAM, "IdpGroupMapping")),
            _part(
                "4.5 groups",
                *_edit(_IAM, "Group"),
                *_iam("AddUserToGroup", "RemoveUserFromGroup"),
                "admin.group.*",
            ),
            _part("4.6 policies", *_POLICIES),
            _part(
                "4.7 users",
                *_edit(_IAM, "User"),
                *_iam("UpdateUserCapabilities", "UpdateUserState"),
                *("admin.user.create.*", "admin.user.update.*", "admin.user.delete.*"),
                *("admin.user.activated.*", "admin.user.deactivated.*"),
            ),
            _part("4.8 networks", *_change("Vcn")),
            _part("4.9 route tables", *_change("RouteTable")),
            _part("4.10 security lists", *_change("SecurityList")),
            _part("4.11 network security groups", *_change("NetworkSecurityGroup"), *_NSG_RULES),
            _part("4.12 network gateways", *_GATEWAYS),
            _part(
                "4.15 Cloud Guard problems",
                *("CloudGuard.ProblemDetected", "CloudGuard.ProblemDismissed", "CloudGuard.ProblemRemediated"),
            ),
            _part("4.18 sign-ins of local users", "IdentitySignOn.InteractiveLogin"),
        ),
    ),
)
"""Every preset, in display order."""

PRESET_NAMES = tuple(preset.name for preset in PRESETS)


def find_preset(name: str) -> Preset:
    """Return a preset by its name, ignoring case.

    Raises:
        UsageError: no preset has this name; the message suggests similar names.
    """
    folded = name.strip().casefold()
    for preset in PRESETS:
        if preset.name == folded:
            return preset
    raise UsageError(
        f"{name!r} is not a preset{suggest(name, PRESET_NAMES)}",
        hint=f"`oci-audit presets` lists them: {', '.join(PRESET_NAMES)}",
    )


def list_preset_rules(names: Iterable[str]) -> tuple[NameRule, ...]:
    """Return the rules of the named presets.

    Raises:
        UsageError: a name is not that of a preset.
    """
    return tuple(name_rule for name in names for name_rule in find_preset(name).rules)
