"""The kinds of events, and the activity of each principal from each address, collected while events stream by.

An event is classified by its names alone (sign-in, change to IAM, what else detections look for), so `stats` classifies
each distinct set of names once. `read_batch` reads the fields of many events side by side, one list for each field, so
that counting can run in C. The names come from Oracle's documentation of the events that its services emit, and from
recorded events.

An `Activity` counts the events of one (principal, address) pair. When the pair signs in or makes a change, the
activity also records `NotableActions`: the changes as steps of a timeline, failed sign-ins, a password that was
probably guessed, and the calls that follow. `ActivityTracker` keeps the activities of a whole file;
`summarize_actors` sums them up by principal or by address. `detections` applies its rules to them.

Invariants
- Names are compared without regard to case; the suffixes `.begin` and `.end` of the Events service are ignored.
- An event whose name is not listed is at most a change to IAM, decided by its service and its verb.
- Every list of an `EventBatch` except `pairs` has one entry for each event; all lists are in the events' order.
- Memory is bounded: at most 100,000 activities plus those of one batch are held, each with short lists. Whatever is
  dropped is counted, and an activity with notable actions is dropped last.
- First and last times are exact whatever the order of the events. What follows what is decided in reading order:
  failed sign-ins belong to the success that follows within an hour.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from heapq import nsmallest
from itertools import compress, groupby
from operator import attrgetter, itemgetter
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from ociaudit.events.fields import (
    NANOSECONDS,
    OUTCOME_BY_STATUS,
    Data,
    Details,
    Facts,
    Identity,
    Outcome,
    Response,
    is_sign_in,
    judge_outcome,
    make_facts_reader,
    read_instants,
    replace_surrogates,
    split_addresses,
)

ChangeKind = Literal["credential", "permission", "mfa", "user", "monitoring", "data access"]
Pair = tuple[str, str]
"""(principal, address). A principal is a name, or else an id; either text is empty where the event has none."""
ClassificationKey = str | tuple[str | None, str | None, str | None]
"""What a classification depends on: (event type, event name, domain event), or the event type where that suffices."""

_NAMES: Mapping[ChangeKind, str] = MappingProxyType(
    {
        "credential": """
            UploadApiKey CreateApiKey CreateAuthToken CreateCustomerSecretKey CreateSmtpCredential CreateDbCredential
            CreateOAuthClientCredential CreateOAuth2ClientCredential CreateSwiftPassword CreateOrResetPassword
            CreateOrResetUIPassword UpdateUserUIPassword""",
        "permission": """
            CreatePolicy UpdatePolicy DeletePolicy AddUserToGroup CreateDynamicGroup UpdateDynamicGroup
            CreateIdentityProvider UpdateIdentityProvider CreateIdpGroupMapping UpdateIdpGroupMapping
            UpdateAuthenticationPolicy UpdateUserCapabilities CreateNetworkSource UpdateNetworkSource""",
        "mfa": "DeleteMfaTotpDevice",
        "user": "CreateUser UpdateUserState DeleteUser",
        "monitoring": """
            DeleteLog DeleteLogGroup DeleteServiceConnector DeactivateServiceConnector DeleteDetectorRecipe
            DeleteFlowLog DeleteUnifiedAgentConfiguration""",
        "data access": """
            GetSecretBundle GetSecretBundleByName GenerateAutonomousDatabaseWallet CreatePreauthenticatedRequest
            CreateKubeconfig ExportImage GetConsoleHistoryContent ExportKey""",
    }
)
_KINDS: Mapping[str, ChangeKind] = MappingProxyType(
    {name.casefold(): kind for kind, names in _NAMES.items() for name in names.split()}
)
_SERVICE_KINDS: tuple[tuple[str, str, ChangeKind], ...] = (
    ("audit", "updateconfiguration", "monitoring"),
    ("cloudguard", "updateconfiguration", "monitoring"),
    ("cloudguard", "deletetarget", "monitoring"),
    ("event", "deleterule", "monitoring"),
)
"""Names that several services share: (part of the service, name, kind)."""
_DOMAIN_CREDENTIAL = re.compile(
    r"apikey|authtoken|customersecretkey|smtpcredential|dbcredential|password", re.IGNORECASE
)
_IAM_SERVICES = ("identitycontrolplane", "identityprovisioning", "identitydomain", "compartments")
_READING = re.compile(r"(get|list|search|summarize|head|validate|check|test|authenticate|fetch|read|count|describe)")
_DOMAIN_READING = re.compile(r"\.(search|get|list|read|view)\.", re.IGNORECASE)
_NO_DATA, _NO_IDENTITY, _NO_RESPONSE, _NO_DETAILS = Data(), Identity(), Response(), Details()
_NO_SOURCE = ("",)


class EventClass(NamedTuple):
    """The classification of an event; `kind` is None for most events."""

    is_sign_in: bool
    is_iam_change: bool
    kind: ChangeKind | None


ORDINARY = EventClass(is_sign_in=False, is_iam_change=False, kind=None)


def classify_event(event_type: str | None, event_name: str | None, domain_event: str | None) -> EventClass:
    """Return the classification of an event with these names.

    `domain_event` is the identity domain's own name of the event, as in `Facts.domain_event`. An ordinary event
    returns the object `ORDINARY` itself, so that callers can compare by identity.
    """
    service, name = _split_type(event_type or event_name or "")
    kind = _KINDS.get(name) or _find_service_kind(service, name)
    is_change = any(one in service for one in _IAM_SERVICES) and not _READING.match(name)
    if domain_event and domain_event.startswith("admin."):
        is_change = not _DOMAIN_READING.search(domain_event)
        if kind is None and is_change and _DOMAIN_CREDENTIAL.search(domain_event):
            kind = "credential"
    event_class = EventClass(is_sign_in(event_type, domain_event), is_change, kind)
    return ORDINARY if event_class == ORDINARY else event_class


def is_data_access(event_name: str) -> bool:
    """Return whether an event of this name fetches secrets or takes data out of the tenancy."""
    return _KINDS.get(event_name.casefold()) == "data access"


def _split_type(event_type: str) -> tuple[str, str]:
    """Return (service, name) of `com.oraclecloud.service.Name`, in lower case."""
    folded = event_type.casefold().removesuffix(".begin").removesuffix(".end")
    service, _, name = folded.rpartition(".")
    return service, name


def _find_service_kind(service: str, name: str) -> ChangeKind | None:
    for service_part, shared_name, kind in _SERVICE_KINDS:
        if name == shared_name and service_part in service:
            return kind
    return None


_OUTCOMES = dict(OUTCOME_BY_STATUS)  # a dict is read faster than a view of one
_FACTS_OF_BATCH = (
    *("event_time", "event_id", "event_type", "data.event_name", "data.message"),
    *("data.compartment_id", "data.compartment_name", "data.resource_id", "data.resource_name"),
    *("data.identity.principal_name", "data.identity.principal_id", "data.identity.caller_name"),
    *("data.identity.ip_address", "data.identity.user_agent"),
    *("data.response.status", "data.additional_details.event_id"),
)
_read_facts = make_facts_reader(_FACTS_OF_BATCH)


class EventBatch(NamedTuple):
    """The fields of many events, side by side. The facts are partial: those that statistics and reports need."""

    raws: Sequence[bytes]
    facts: list[Facts]
    datas: list[Data]
    identities: list[Identity]
    statuses: list[str | None]
    outcomes: list[Outcome]
    instants: list[int]
    keys: list[ClassificationKey]
    principals: list[str]
    pairs: list[tuple[Pair, int]]
    """The pair and the index of its event; an event with several addresses has one entry for each of them."""


def read_pairs(facts: Facts) -> list[Pair]:
    """Return the pairs of one event: its principal with each of its addresses."""
    identity = facts.identity
    principal = identity.principal_name or identity.principal_id or identity.caller_name or ""
    return [(principal, address) for address in facts.addresses or _NO_SOURCE]


def read_batch(raws: Sequence[bytes]) -> EventBatch:
    """Read events in shape `api`.

    Raises:
        ValueError: one of them is not a JSON object.
    """
    facts = list(map(_read_facts, raws))
    datas = [one.data or _NO_DATA for one in facts]
    identities = [data.identity or _NO_IDENTITY for data in datas]
    principals = [one.principal_name or one.principal_id or one.caller_name or "" for one in identities]
    statuses = [(data.response or _NO_RESPONSE).status for data in datas]
    domain_events = [(data.additional_details or _NO_DETAILS).event_id for data in datas]
    return EventBatch(
        raws=raws,
        facts=facts,
        datas=datas,
        identities=identities,
        statuses=statuses,
        outcomes=[
            _OUTCOMES.get(status) or judge_outcome(status, domain_event, data.message)
            for status, domain_event, data in zip(statuses, domain_events, datas, strict=True)
        ],
        instants=read_instants([one.event_time for one in facts]),
        keys=[
            one.event_type
            if one.event_type and domain_event is None
            else (one.event_type, data.event_name, domain_event)
            for one, data, domain_event in zip(facts, datas, domain_events, strict=True)
        ],
        principals=principals,
        pairs=_list_pairs(principals, [identity.ip_address or "" for identity in identities]),
    )


def _list_pairs(principals: Sequence[str], addresses: Sequence[str]) -> list[tuple[Pair, int]]:
    entries = enumerate(zip(principals, addresses, strict=True))
    if "," not in "".join(addresses):
        return [((principal, address.strip()), index) for index, (principal, address) in entries]
    return [
        ((principal, address), index)
        for index, (principal, listed) in entries
        for address in split_addresses(listed) or _NO_SOURCE
    ]


HOUR = 3600 * NANOSECONDS
_ACTIVITIES_KEPT = 50_000
_IDS_KEPT = 50_000
_STEPS_KEPT = 24
_NAMES_KEPT = 40
_USER_AGENTS_KEPT = 8
_SHARED_KEPT = 20_000
_NOTE_CHARACTERS = 200
_MOST_EVENTS = 2**50
_get_id, _get_name = attrgetter("principal_id"), attrgetter("principal_name")
_get_first_and_name = attrgetter("first", "name")


class Step(NamedTuple):
    """A change that a principal made; `note` is the fingerprint of a new key or the statements of a policy."""

    instant: int
    kind: ChangeKind | None
    name: str
    event_id: str | None
    resource_id: str | None
    note: str


class GuessedPassword(NamedTuple):
    """A run of failed sign-ins and the success that followed; `first` and `success` are instants."""

    failures: int
    first: int
    success: int


class NotableActions:
    """The sign-ins and changes of one pair, and its calls since the first change or guessed password."""

    __slots__ = (
        "calls", "calls_left_out", "failed_sign_ins", "first_call", "guess", "last_call", "sign_ins", "steps",
        "steps_left_out", "streak", "streak_first", "streak_last", "user_agents",
    )  # fmt: skip

    def __init__(self) -> None:
        """Start without any action."""
        self.sign_ins = self.failed_sign_ins = 0
        self.streak = self.streak_first = self.streak_last = 0
        """The failed sign-ins since the last success, each at most an hour after the previous one."""
        self.guess: GuessedPassword | None = None
        """The longest streak that ended with a success."""
        self.steps: tuple[Step, ...] = ()
        self.steps_left_out = 0
        self.calls: Counter[str] = Counter()
        """Event name -> number of calls since the first step or guess; an absent name is empty."""
        self.calls_left_out = 0
        self.first_call = self.last_call = 0
        self.user_agents: dict[str, int] = {}
        """User agent -> instant of its first call since the first step or guess."""

    @property
    def is_watched(self) -> bool:
        """Return whether a change or a guessed password makes every further call relevant."""
        return bool(self.steps) or self.guess is not None

    def record_sign_in(self, instant: int, outcome: Outcome) -> None:
        """Record a sign-in."""
        if outcome == "failure":
            self.failed_sign_ins += 1
            if not self.streak or instant - self.streak_last > HOUR:
                self.streak, self.streak_first = 0, instant
            self.streak += 1
            self.streak_last = instant
        elif outcome == "success":
            self.sign_ins += 1
            is_longest = self.guess is None or self.streak > self.guess.failures
            if self.streak and instant - self.streak_last <= HOUR and is_longest:
                self.guess = GuessedPassword(self.streak, self.streak_first, instant)
            self.streak = 0

    def record_step(self, step: Step) -> None:
        """Record a change."""
        if len(self.steps) < _STEPS_KEPT:
            self.steps += (step,)
        else:
            self.steps_left_out += 1

    def record_call(self, instant: int, name: str | None, user_agent: str | None) -> None:
        """Record an ordinary call of a watched pair."""
        self.first_call = self.first_call or instant
        self.last_call = max(self.last_call, instant)
        if (name or "") in self.calls or len(self.calls) < _NAMES_KEPT:
            self.calls[name or ""] += 1
        else:
            self.calls_left_out += 1
        if user_agent and user_agent not in self.user_agents and len(self.user_agents) < _USER_AGENTS_KEPT:
            self.user_agents[user_agent] = instant


_NO_ACTIONS = NotableActions()
"""What `Activity.notable` returns for most activities; nothing is ever recorded in it."""


class Activity:
    """The events of one principal from one address; instants are 0 until a readable time is seen."""

    __slots__ = ("_notable", "events", "failures", "first", "last")

    def __init__(self, instant: int) -> None:
        """Start with the first event, at `instant`."""
        self.events = 1
        self.failures = 0
        self.first = self.last = instant
        self._notable: NotableActions | None = None

    @property
    def notable(self) -> NotableActions:
        """The notable actions; empty for most activities. Read only: `start_notable` returns what to record in."""
        return self._notable or _NO_ACTIONS

    @property
    def is_notable(self) -> bool:
        """Return whether there are notable actions."""
        return self._notable is not None

    def start_notable(self) -> NotableActions:
        """Return the notable actions of this activity, to record in them."""
        if self._notable is None:
            self._notable = NotableActions()
        return self._notable


@dataclass(slots=True)
class ActivityTracker:
    """The activities of a whole file."""

    activities: dict[Pair, Activity] = field(default_factory=dict)
    """(principal, address) -> activity; either text may be empty."""
    dropped: int = 0
    """Number of activities dropped to bound memory."""
    names_by_id: dict[str | None, str | None] = field(default_factory=dict)
    """Principal id -> principal name, for the first 50,000 ids."""
    shared: Counter[tuple[str, frozenset[str]]] = field(default_factory=Counter)
    """(principal, addresses) -> events that name all of these addresses; for the first 20,000 such sets."""
    _watched: set[Pair] = field(default_factory=set)

    @property
    def watched(self) -> AbstractSet[Pair]:
        """The pairs whose every further call is relevant."""
        return self._watched

    def count_events(self, pairs: Collection[Pair]) -> int:
        """Return the number of events of these pairs; an event that belongs to several of them is one event."""
        events = sum(self.activities[pair].events for pair in pairs)
        if len(pairs) > 1:
            for (principal, addresses), number in self.shared.items():
                events -= number * max(0, sum((principal, address) in pairs for address in addresses) - 1)
        return events

    def add(self, batch: EventBatch, event_classes: Sequence[EventClass], steps: Mapping[int, Step]) -> None:
        """Add a batch of events.

        `event_classes` has one entry for each event. `steps` maps the index of an event that is a change to its step.
        """
        self._count(batch)
        if len(batch.pairs) > len(batch.raws):
            self._count_shared(batch)
        notable = {
            index
            for index, event_class in enumerate(event_classes)
            if event_class is not ORDINARY and (event_class.is_sign_in or index in steps)
        }
        watched = self._watched  # can be large, so it is not copied for every batch
        if watched:
            relevant = {pair for pair, index in batch.pairs if pair in watched or index in notable}
        else:
            relevant = {pair for pair, index in batch.pairs if index in notable} if notable else set()
        if relevant:
            for pair, index in batch.pairs:
                if pair in relevant:
                    self._record(batch, pair, index, event_classes[index], steps.get(index))
        if len(self.names_by_id) < _IDS_KEPT:
            self.names_by_id.update(zip(map(_get_id, batch.identities), map(_get_name, batch.identities), strict=True))
        if len(self.activities) > 2 * _ACTIVITIES_KEPT:
            self._drop_least_important()

    def _count(self, batch: EventBatch) -> None:
        activities, instants = self.activities, batch.instants
        find = activities.get
        for pair, index in batch.pairs:
            instant = instants[index]
            activity = find(pair)
            if activity is None:
                activities[pair] = Activity(instant)
                continue
            activity.events += 1
            if instant > activity.last:  # noqa: PLR1730 - runs for every event, and `max` takes three times as long
                activity.last = instant
            if instant < activity.first or not activity.first:
                activity.first = instant or activity.first
        if "failure" in batch.outcomes:
            for pair, index in batch.pairs:
                if batch.outcomes[index] == "failure":
                    activities[pair].failures += 1

    def _count_shared(self, batch: EventBatch) -> None:
        """Count the events that name several addresses: each of them counts in several activities."""
        for index, entries in groupby(batch.pairs, key=itemgetter(1)):
            addresses = frozenset(address for (_, address), _ in entries)
            key = batch.principals[index], addresses
            if len(addresses) > 1 and (key in self.shared or len(self.shared) < _SHARED_KEPT):
                self.shared[key] += 1

    def _record(self, batch: EventBatch, pair: Pair, index: int, event_class: EventClass, step: Step | None) -> None:
        actions = self.activities[pair].start_notable()
        if step:
            actions.record_step(step)
        elif event_class.is_sign_in:
            actions.record_sign_in(batch.instants[index], batch.outcomes[index])
        elif actions.is_watched:
            actions.record_call(
                batch.instants[index], batch.datas[index].event_name, batch.identities[index].user_agent
            )
        if actions.is_watched:
            self._watched.add(pair)

    def _drop_least_important(self) -> None:
        """Keep the `_ACTIVITIES_KEPT` activities of highest priority.

        It is lowest if every event failed, highest if the pair is watched; within each group, the number of events.
        """
        priorities = [
            activity.events if activity.failures >= activity.events else _MOST_EVENTS + activity.events
            for activity in self.activities.values()
        ]
        for index, pair in enumerate(self.activities) if self._watched else ():
            if pair in self._watched:
                priorities[index] = 2 * _MOST_EVENTS + self.activities[pair].events
        threshold = sorted(priorities, reverse=True)[_ACTIVITIES_KEPT]
        room = _ACTIVITIES_KEPT - sum([priority > threshold for priority in priorities])
        # Among equals the earliest stay, because their first time is exact.
        stay = [priority > threshold or (priority == threshold and (room := room - 1) >= 0) for priority in priorities]
        kept = dict(compress(self.activities.items(), stay))
        self.dropped += len(self.activities) - len(kept)
        self.activities = kept
        self._watched &= self.activities.keys()
        dropped = [key for key in self.shared if not all((key[0], address) in kept for address in key[1])]
        for key in dropped:
            del self.shared[key]


class ActorSummary(NamedTuple):
    """A principal or an address with its totals; `first` and `last` are instants, 0 without a readable time."""

    name: str
    first: int
    last: int
    events: int
    failures: int
    partners: tuple[str, ...]
    """The addresses of a principal, or the principals of an address, by first seen; an absent one is empty."""


def summarize_actors(activities: Mapping[Pair, Activity]) -> tuple[list[ActorSummary], list[ActorSummary]]:
    """Return the summaries of all principals and of all addresses, each by first seen; empty names are omitted."""
    principals: defaultdict[str, list[_Entry]] = defaultdict(list)
    addresses: defaultdict[str, list[_Entry]] = defaultdict(list)
    for (principal, address), activity in activities.items():
        first = activity.first
        principals[principal].append((first, address, activity))
        addresses[address].append((first, principal, activity))
    return _summarize_all(principals), _summarize_all(addresses)


_Entry = tuple[int, str, Activity]
"""(first seen, partner, activity); no two of a name have the same partner."""


def _summarize_all(grouped: Mapping[str, list[_Entry]]) -> list[ActorSummary]:
    return sorted([_summarize(name, found) for name, found in grouped.items() if name], key=_get_first_and_name)


def rank_actors(actors: Iterable[ActorSummary], number: int) -> list[ActorSummary]:
    """Return the `number` actors with the most events; equal counts by name."""
    return nsmallest(number, actors, key=lambda actor: (-actor.events, actor.name))


def _summarize(name: str, found: list[_Entry]) -> ActorSummary:
    if len(found) == 1:  # the common case: nearly every address has one principal
        first, partner, activity = found[0]
        return ActorSummary(name, first, activity.last, activity.events, activity.failures, (partner,))
    found.sort()
    last = events = failures = 0
    for _, _, activity in found:
        events += activity.events
        failures += activity.failures
        if activity.last > last:  # noqa: PLR1730 - runs for every activity
            last = activity.last
    return ActorSummary(
        name=name,
        first=next((first for first, _, _ in found if first), 0),
        last=last,
        events=events,
        failures=failures,
        partners=tuple([partner for _, partner, _ in found]),
    )


def make_step(facts: Facts, raw: bytes, instant: int, kind: ChangeKind | None) -> Step:
    """Make the step of an event; only a change of credentials or permissions has its whole JSON parsed."""
    details = facts.details
    return Step(
        instant=instant,
        kind=kind,
        name=details.event_name or facts.event_type or "",
        event_id=facts.event_id,
        resource_id=details.resource_id,
        note=_read_note(raw) if kind in {"credential", "permission"} else "",
    )


def is_overly_permissive(statements: str) -> bool:
    """Return whether policy statements let anyone manage something, or a group manage the whole tenancy."""
    words = " ".join(statements.casefold().split())
    return "any-user to manage" in words or "any-group to manage" in words or "manage all-resources in tenancy" in words


def _read_note(raw: bytes) -> str:
    """Return the fingerprint or the statements in an event, the most permissive statement first."""
    try:
        data = json.loads(raw).get("data")
    except (ValueError, RecursionError):
        return ""
    for path in (("response", "payload"), ("stateChange", "current"), ("request", "payload")):
        value: Any = data
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        if isinstance(value, dict):
            fingerprint, statements = value.get("fingerprint"), value.get("statements")
            if isinstance(fingerprint, str):
                return replace_surrogates(fingerprint[:_NOTE_CHARACTERS])
            if isinstance(statements, list):
                ordered = sorted(map(str, statements), key=lambda statement: not is_overly_permissive(statement))
                return replace_surrogates("; ".join(ordered)[:_NOTE_CHARACTERS])
    return ""
