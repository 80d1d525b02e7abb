"""The detections: a few simple rules about the activity of each principal from each address.

Each rule that matches gives a `Reason` with a weight. A (principal, address) pair whose reasons weigh 5 or more is a
detection of its own, and `describe_timeline` describes what happened in a few lines:

- 5  failed sign-ins, then a successful one within an hour of the last failure
- 5  a policy that lets a group manage the whole tenancy, or lets anyone manage something
- 5  something that monitors the tenancy was deleted or disabled
- 5  within a day of a new credential for a principal with few addresses, a previously unseen address is used for
     that principal, and not just once or twice
- 2  a new credential (API key, token, password…)
- 1  changed permissions, such as group memberships or policies; 1 for a removed MFA device
- 1  a known principal used this address for the first time
- 1  after one of these, secrets, wallets, keys or pre-authenticated requests were fetched

Other rules group many small observations into one detection of less weight: changes to IAM from new addresses (one
detection for each principal), an address that tries many principals, many failed sign-ins without success, and a
principal whose calls nearly all fail. The summary and the report present detections as their *findings*.

Invariants
- A detection names the rules that matched; no rule depends on the names of people or on particular addresses.
- "New" needs a baseline: the first eighth of the range, at most a day, is only learned from.
- Detections are ordered by weight, then by time: the same events give the same list.
- All strings are the events' own and therefore untrusted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ociaudit.analysis.activity import HOUR, Activity, ActorSummary, Pair, Step, is_data_access, is_overly_permissive
from ociaudit.analysis.stats import EventStats
from ociaudit.errors import format_count

DETECTION_WEIGHT = 5
"""The weight from which a pair is a detection of its own."""
_DAY = 24 * HOUR
_GUESSES = 5
_FEW_ADDRESSES = 3
_LEAST_EVENTS_FROM_NEW_ADDRESS = 5
_SPRAYED_PRINCIPALS = 5
_FAILED_SIGN_INS = 10
_LEAST_CALLS = 10
_FAILED_SHARE = 0.8
_DETECTIONS_KEPT = 100
_SHORT_ACTIVITY = 3 * _DAY
_STEPS_SHOWN = 6
_CALLS_SHOWN = 4
_REVERSALS_SHOWN = 3
_USER_AGENT_CHARACTERS = 40
_NotableActivities = Sequence[tuple[Pair, Activity]]


class Reason(NamedTuple):
    """A rule that matched."""

    weight: int
    text: str


@dataclass(frozen=True, slots=True)
class Detection:
    """What one or more rules matched; `principal` or `address` is empty if there are several."""

    principal: str
    address: str
    first: int
    last: int
    events: int
    """The number of events of `pairs`."""
    reasons: tuple[Reason, ...]
    pairs: frozenset[Pair] = field(repr=False)
    """The pairs of principal and address whose events are the detection's."""
    activity: Activity | None = None
    """The activity of the pair, where the detection is about one pair as a whole."""

    @property
    def weight(self) -> int:
        """The sum of the reasons' weights."""
        return sum(reason.weight for reason in self.reasons)


def find_detections(
    stats: EventStats, principals: Sequence[ActorSummary], addresses: Sequence[ActorSummary]
) -> list[Detection]:
    """Return the detections, the heaviest first, at most 100.

    `principals` and `addresses` are the complete lists of `stats`.
    """
    notable = [(pair, activity) for pair, activity in stats.activities.items() if activity.is_notable]
    baseline = _Baseline(stats, notable, principals, addresses)
    found = [
        Detection(*pair, activity.first, activity.last, activity.events, reasons, frozenset((pair,)), activity)
        for pair, activity in (stats.activities.items() if baseline.credentials else notable)
        if (pair[0] in baseline.credentials or activity.is_notable)
        and (reasons := tuple(_match_rules(baseline, pair, activity)))
        and sum(one.weight for one in reasons) >= DETECTION_WEIGHT
    ]
    reported = {(one.principal, one.address) for one in found}
    found += _find_changes_from_new_addresses(stats, notable, baseline, reported)
    found += _find_password_spraying(stats, notable)
    found += _find_failed_sign_ins(stats, notable, reported)
    found += _find_failing_principals(stats, notable, principals)
    found.sort(key=lambda one: (-one.weight, one.first, one.principal, one.address))
    return found[:_DETECTIONS_KEPT]


class _Baseline:
    """What is normal: when principals and addresses were first seen, and who got which credential when."""

    def __init__(
        self,
        stats: EventStats,
        notable: _NotableActivities,
        principals: Sequence[ActorSummary],
        addresses: Sequence[ActorSummary],
    ) -> None:
        self.end = stats.first + min(_DAY, (stats.last - stats.first) // 8)
        """From this instant on, what is seen for the first time is new."""
        self.principals = {one.name: one.first for one in principals if one.first}
        self.addresses = {one.name: one.first for one in addresses if one.first}
        self.credentials: defaultdict[str, list[Step]] = defaultdict(list)
        """Principal -> steps that created a credential for it."""
        for (principal, _), activity in notable:
            for step in activity.notable.steps:
                if step.kind == "credential":
                    self.credentials[_find_owner(stats, step) or principal].append(step)
        self.first_uses: defaultdict[str, list[int]] = defaultdict(list)
        """Principal with a new credential -> the instant at which each of its addresses was first seen."""
        for (principal, _), activity in stats.activities.items() if self.credentials else ():
            if activity.first and principal in self.credentials:
                self.first_uses[principal].append(activity.first)

    def is_new(self, pair: Pair, activity: Activity) -> bool:
        """Return whether a known principal uses this address for the first time."""
        return activity.first > self.end and self.principals.get(pair[0], activity.first) < activity.first

    def find_credential(self, pair: Pair, activity: Activity) -> Step | None:
        """Find the new credential after which a principal used an address that no principal had used before."""
        created = self.credentials.get(pair[0])
        is_too_small = activity.events < _LEAST_EVENTS_FROM_NEW_ADDRESS
        if not created or not all(pair) or is_too_small or not self.is_new(pair, activity):
            return None
        earlier = sum(first < activity.first for first in self.first_uses[pair[0]])
        if earlier > _FEW_ADDRESSES or self.addresses[pair[1]] < activity.first:
            return None
        recent = [step for step in created if 0 < activity.first - step.instant <= _DAY]
        return max(recent, key=lambda step: step.instant, default=None)


def _find_owner(stats: EventStats, step: Step) -> str | None:
    """Return for whom a step created a credential, if the event names a principal that was seen."""
    return stats.tracker.names_by_id.get(step.resource_id or "")


def _match_rules(baseline: _Baseline, pair: Pair, activity: Activity) -> Iterator[Reason]:
    """Yield the rules that a pair matches; none for a pair that is merely new."""
    credential = baseline.find_credential(pair, activity)
    actions = activity.notable
    if not actions.is_watched and credential is None:
        return
    kinds = {step.kind for step in actions.steps}
    is_open = any(step.kind == "permission" and is_overly_permissive(step.note) for step in actions.steps)
    guesses = actions.guess.failures if actions.guess else 0
    for weight, text, is_match in (
        (5, f"{format_count(guesses, 'failed sign-in')}, then a successful one", guesses >= _GUESSES),
        (5, "an overly permissive policy", is_open),
        (5, "monitoring deleted or disabled", "monitoring" in kinds),
        (5, "a previously unseen address soon after a new credential", credential is not None),
        (2, "a new credential", "credential" in kinds),
        (1, "changed permissions", "permission" in kinds),
        (1, "a removed MFA device", "mfa" in kinds),
        (1, "a new address for this principal", baseline.is_new(pair, activity)),
        (1, "secrets or data fetched", any(map(is_data_access, actions.calls))),
    ):
        if is_match:
            yield Reason(weight, text)


def _find_changes_from_new_addresses(
    stats: EventStats, notable: _NotableActivities, baseline: _Baseline, reported: set[Pair]
) -> Iterator[Detection]:
    """Yield one detection for each principal that changed IAM from new addresses."""
    grouped: defaultdict[str, dict[Pair, Activity]] = defaultdict(dict)
    for pair, activity in notable:
        if pair not in reported and all(pair) and activity.notable.steps and baseline.is_new(pair, activity):
            grouped[pair[0]][pair] = activity
    for principal, found in grouped.items():
        steps = sum(len(one.notable.steps) + one.notable.steps_left_out for one in found.values())
        changes = format_count(steps, "change")
        where = "a new address" if len(found) == 1 else format_count(len(found), "new address")
        reason = Reason(2, f"{changes} to IAM from {where} for this principal")
        yield _group(stats, principal, next(iter(found))[1] if len(found) == 1 else "", found, reason)


def _find_password_spraying(stats: EventStats, notable: _NotableActivities) -> Iterator[Detection]:
    """Yield the addresses from which the sign-ins of many principals failed."""
    grouped: defaultdict[str, dict[Pair, Activity]] = defaultdict(dict)
    for pair, activity in notable:
        if pair[1] and activity.notable.failed_sign_ins:
            grouped[pair[1]][pair] = activity
    for address, found in grouped.items():
        if len(found) >= _SPRAYED_PRINCIPALS:
            succeeded = sum(activity.notable.sign_ins > 0 for activity in found.values())
            failed = sum(activity.notable.failed_sign_ins for activity in found.values())
            end = f"; {succeeded:,} also succeeded" if succeeded else ""
            reason = Reason(
                4, f"{format_count(failed, 'failed sign-in')} of {format_count(len(found), 'principal')}{end}"
            )
            yield _group(stats, "", address, found, reason)


def _group(
    stats: EventStats, principal: str, address: str, found: Mapping[Pair, Activity], reason: Reason
) -> Detection:
    return Detection(
        principal=principal,
        address=address,
        first=min(activity.first for activity in found.values()),
        last=max(activity.last for activity in found.values()),
        events=stats.tracker.count_events(found),
        reasons=(reason,),
        pairs=frozenset(found),
    )


def _find_failed_sign_ins(stats: EventStats, notable: _NotableActivities, reported: set[Pair]) -> Iterator[Detection]:
    """Yield the pairs with many failed sign-ins and no success."""
    for pair, activity in notable:
        failed = activity.notable.failed_sign_ins
        if failed >= _FAILED_SIGN_INS and not activity.notable.sign_ins and pair not in reported:
            reason = Reason(3, f"{format_count(failed, 'failed sign-in')}, none succeeded")
            yield _group(stats, *pair, {pair: activity}, reason)


def _find_failing_principals(
    stats: EventStats, notable: _NotableActivities, principals: Sequence[ActorSummary]
) -> Iterator[Detection]:
    """Yield the principals whose calls nearly all failed; sign-ins do not count as calls."""
    sign_ins, failed_sign_ins = Counter[str](), Counter[str]()
    for (principal, _), activity in notable:
        sign_ins[principal] += activity.notable.sign_ins
        failed_sign_ins[principal] += activity.notable.failed_sign_ins
    for one in principals:
        failed = one.failures - failed_sign_ins[one.name]
        calls = one.events - failed_sign_ins[one.name] - sign_ins[one.name]
        if calls >= _LEAST_CALLS and failed >= calls * _FAILED_SHARE:
            address = one.partners[0] if len(one.partners) == 1 else ""
            reason = Reason(2, f"{failed:,} of {format_count(calls, 'call')} failed")
            pairs = [(one.name, partner) for partner in one.partners]
            found = {pair: stats.activities[pair] for pair in pairs}
            yield replace(_group(stats, one.name, address, found, reason), first=one.first, last=one.last)


class TimelineItem(NamedTuple):
    """What happened at an instant or from then on; `event_id` is given where it is one event."""

    instant: int
    text: str
    event_id: str | None = None


def describe_timeline(stats: EventStats, detection: Detection) -> list[TimelineItem]:
    """Return the timeline of a detection, in the order of time; empty where it is not about one pair as a whole."""
    activity = detection.activity
    if activity is None:
        return []
    actions = activity.notable
    items = []
    if actions.guess and actions.guess.failures >= _GUESSES:
        guess = actions.guess
        duration = _format_duration(guess.success - guess.first)
        items.append(
            TimelineItem(
                guess.first, f"{format_count(guess.failures, 'failed sign-in')}; one succeeded after {duration}"
            )
        )
    steps = _choose_steps(activity)
    items += [_describe_step(stats, detection, step) for step in steps[:_STEPS_SHOWN]]
    left_out = len(steps) - _STEPS_SHOWN + actions.steps_left_out
    if left_out > 0:
        text = f"… and {format_count(left_out, 'more change')} from this address"
        items.append(TimelineItem(steps[_STEPS_SHOWN - 1].instant, text))
    if actions.calls and _is_short(activity):
        items.append(_describe_calls(activity))
    elif not actions.is_watched:
        text = f"{format_count(activity.events, 'event')} from this address soon after a new credential"
        items.append(TimelineItem(activity.first, text))
    items += list(_describe_reversals(stats, detection, steps))[:_REVERSALS_SHOWN]
    return sorted(items, key=lambda item: item.instant)


def _is_short(activity: Activity) -> bool:
    return activity.last - activity.first <= _SHORT_ACTIVITY


def _choose_steps(activity: Activity) -> list[Step]:
    """Return the steps to show; for an address in long use, only those that are suspicious on their own, if any."""
    steps = activity.notable.steps
    with_kind = [step for step in steps if step.kind]
    if _is_short(activity):
        return with_kind or list(steps)
    severe = [
        step
        for step in with_kind
        if step.kind == "monitoring" or (step.kind == "permission" and is_overly_permissive(step.note))
    ]
    return severe or with_kind


def _describe_step(stats: EventStats, detection: Detection, step: Step) -> TimelineItem:
    owner = _find_owner(stats, step)
    text = step.name
    if owner and owner != detection.principal and step.kind == "credential":
        text += f" for {owner}"
    if step.note:
        text += f" {step.note}" if step.kind == "credential" else f": {step.note}"
    return TimelineItem(step.instant, text, step.event_id)


def _describe_calls(activity: Activity) -> TimelineItem:
    actions = activity.notable
    calls, user_agents = actions.calls, actions.user_agents
    ranked = sorted(calls.items(), key=lambda item: (not is_data_access(item[0]), -item[1], item[0]))
    names = ", ".join(f"{name or '(none)'} {number:,}" for name, number in ranked[:_CALLS_SHOWN])
    more = f" and {format_count(len(ranked) - _CALLS_SHOWN, 'other kind')}" if len(ranked) > _CALLS_SHOWN else ""
    number = sum(calls.values()) + actions.calls_left_out
    first_agent = min(user_agents, key=lambda agent: user_agents[agent], default="")
    client = f" with {first_agent.split(' ')[0][:_USER_AGENT_CHARACTERS]}" if user_agents else ""
    duration = _format_duration(actions.last_call - actions.first_call)
    return TimelineItem(actions.first_call, f"{format_count(number, 'call')} within {duration}{client}: {names}{more}")


def _describe_reversals(stats: EventStats, detection: Detection, steps: list[Step]) -> Iterator[TimelineItem]:
    """Yield what others reversed within a day, such as the deletion of a new key."""
    changed_at = {step.resource_id: step.instant for step in reversed(steps) if step.resource_id}
    for change in stats.changes:
        begin = changed_at.get(change.step.resource_id or "")
        is_other = (change.principal, change.address) != (detection.principal, detection.address)
        is_removal = change.step.name.casefold().startswith(("delete", "remove"))
        if begin is not None and is_other and is_removal and begin < change.step.instant <= begin + _DAY:
            source = f"{change.principal or '(unknown)'} from {change.address or 'an unknown address'}"
            yield TimelineItem(change.step.instant, f"{change.step.name} by {source}", change.step.event_id)


def _format_duration(nanoseconds: int) -> str:
    minutes = max(round(nanoseconds / HOUR * 60), 1)
    if minutes < 120:
        return format_count(minutes, "minute")
    return f"{minutes // 60} hours" if minutes < 2880 else f"{minutes // 1440} days"
