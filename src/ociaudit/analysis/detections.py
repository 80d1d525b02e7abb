"""What is worth a look: a few plain rules over what each principal did from each address.

Owns: the rules, and what each weighs. Must not: know any tenancy, or print.

The rules, with their weights; a pair of principal and address with five or more is a finding of its own:

- 5  failed sign-ins, then one that succeeded within an hour of the last
- 5  a policy that gives everything, or lets everybody manage something
- 5  something was deleted or switched off that watches the tenancy
- 5  an address nobody had used before is used, and not just once or twice, for a principal of few addresses
     within a day of a new credential for it
- 2  a new credential (API key, token, password…)
- 1  other rights, groups or policies were changed; 1 a second factor was removed
- 1  the principal was known, and used this address for the first time
- 1  after one of these: secrets, wallets, keys or pre-authenticated requests were fetched

What weighs less is gathered: changes to IAM from new addresses (a line for each principal), an address that tries
many principals, many failed sign-ins without success, a principal that is refused nearly everything.

Invariants
- A finding says which rules made it; nothing is decided by names of people or addresses.
- "New" needs a past: the first eighth of the range, a day at most, is only learned from.
- Findings come in the order of their weight, then of their time: the same events give the same list.

The story of a suspicion: a few lines with their times, so that a reader sees what happened.

Owns: which lines, and their words. Must not: judge, or print; the strings are the events' own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ociaudit.analysis.activity import HOUR, Activity, ActorSummary, Step, is_wide_open
from ociaudit.analysis.classification import Pair, is_taking
from ociaudit.analysis.stats import EventStats

GUESSES = 5
"""Failed sign-ins from which on a success is suspicious."""
_DAY = 24 * HOUR
_FINDING_WEIGHT = 5
_FEW_ADDRESSES = 3
_USED_EVENTS = 5
_SPRAYED = 5
_TRIES = 10
_REFUSED_EVENTS = 10
_REFUSED_SHARE = 0.8
_FINDINGS_KEPT = 100
_Special = Sequence[tuple[Pair, Activity]]


class Reason(NamedTuple):
    """A rule that fired."""

    weight: int
    text: str


@dataclass(frozen=True, slots=True)
class Detection:
    """Something worth a look; the empty address stands for several."""

    principal: str
    address: str
    first: int
    last: int
    events: int
    reasons: tuple[Reason, ...]
    activity: Activity | None = None
    """What was done, where it is the story of one principal and one address."""

    @property
    def weight(self) -> int:
        """How much speaks for it."""
        return sum(reason.weight for reason in self.reasons)


def find_detections(
    stats: EventStats, principals: Sequence[ActorSummary], addresses: Sequence[ActorSummary]
) -> list[Detection]:
    """Return what is worth a look, the heaviest first, at most a hundred.

    `principals` and `addresses` are all that the census lists.
    """
    special = [(pair, activity) for pair, activity in stats.activities.items() if activity.is_special]
    past = _Past(stats, special, principals, addresses)
    found = [
        Detection(*pair, activity.first, activity.last, activity.events, reasons, activity)
        for pair, activity in stats.activities.items()
        if (activity.is_special or pair[0] in past.credentials)
        and (reasons := tuple(_judge(past, pair, activity)))
        and sum(one.weight for one in reasons) >= _FINDING_WEIGHT
    ]
    told = {(one.principal, one.address) for one in found}
    found += _gather_changes(special, past, told)
    found += _find_sprayers(special)
    found += _find_tries(special, told)
    found += _find_refused(special, principals)
    found.sort(key=lambda one: (-one.weight, one.first, one.principal, one.address))
    return found[:_FINDINGS_KEPT]


class _Past:
    """What was known before: when principals and addresses were first seen, and who got a credential when."""

    def __init__(
        self,
        stats: EventStats,
        special: _Special,
        principals: Sequence[ActorSummary],
        addresses: Sequence[ActorSummary],
    ) -> None:
        self.learned = stats.first + min(_DAY, (stats.last - stats.first) // 8)
        """From here on what is seen for the first time is new."""
        self.people = {one.name: one.first for one in principals if one.first}
        self.addresses = {one.name: one.first for one in addresses if one.first}
        self.credentials: defaultdict[str, list[Step]] = defaultdict(list)
        for (person, _), activity in special:
            for step in activity.special.steps:
                if step.kind == "credential":
                    self.credentials[find_owner(stats, step) or person].append(step)
        self.habits: defaultdict[str, list[int]] = defaultdict(list)
        """Principal with a new credential -> when each of its addresses was first seen."""
        for (person, _), activity in stats.activities.items() if self.credentials else ():
            if activity.first and person in self.credentials:
                self.habits[person].append(activity.first)

    def is_new(self, pair: Pair, activity: Activity) -> bool:
        """Tell whether a principal that was known uses an address for the first time."""
        return activity.first > self.learned and self.people.get(pair[0], activity.first) < activity.first

    def find_credential(self, pair: Pair, activity: Activity) -> Step | None:
        """Find the new credential after which a principal came from an address that nobody had used before."""
        made = self.credentials.get(pair[0])
        if not made or not all(pair) or activity.events < _USED_EVENTS or not self.is_new(pair, activity):
            return None
        earlier = sum(first < activity.first for first in self.habits[pair[0]])
        if earlier > _FEW_ADDRESSES or self.addresses[pair[1]] < activity.first:
            return None
        steps = [one for one in made if 0 < activity.first - one.instant <= _DAY]
        return max(steps, key=lambda one: one.instant, default=None)


def find_owner(stats: EventStats, step: Step) -> str | None:
    """Find whose credential a step made, where the event says so and the principal was seen."""
    return stats.following.names_by_id.get(step.resource_id or "")


def _judge(past: _Past, pair: Pair, activity: Activity) -> Iterator[Reason]:
    """Yield the rules that a pair breaks; nothing for what is merely new."""
    credential = past.find_credential(pair, activity)
    if not activity.special.is_watched and credential is None:
        return
    guess, kinds = activity.special.guess, {step.kind for step in activity.special.steps}
    is_wide = any(step.kind == "rights" and is_wide_open(step.note) for step in activity.special.steps)
    guesses = guess.failures if guess else 0
    for weight, text, does_apply in (
        (5, f"{guesses:,} failed sign-ins, then one that succeeded", guesses >= GUESSES),
        (5, "a policy that gives away everything", is_wide),
        (5, "what watches the tenancy was deleted or switched off", "blinding" in kinds),
        (5, "an address nobody had used before, soon after a new credential", credential is not None),
        (2, "a new credential", "credential" in kinds),
        (1, "changed rights", "rights" in kinds),
        (1, "a second factor removed", "second factor" in kinds),
        (1, "an address new for this principal", past.is_new(pair, activity)),
        (1, "secrets or data fetched", any(map(is_taking, activity.special.uses))),
    ):
        if does_apply:
            yield Reason(weight, text)


def _gather_changes(special: _Special, past: _Past, told: set[Pair]) -> Iterator[Detection]:
    """Yield a line for each principal that changed IAM from new addresses."""
    gathered: defaultdict[str, list[tuple[str, Activity]]] = defaultdict(list)
    for pair, activity in special:
        if pair not in told and all(pair) and activity.special.steps and past.is_new(pair, activity):
            gathered[pair[0]].append((pair[1], activity))
    for person, found in gathered.items():
        activities = [activity for _, activity in found]
        steps = sum(len(activity.special.steps) + activity.special.steps_left_out for activity in activities)
        where = "an address" if len(found) == 1 else f"{len(found):,} addresses"
        yield Detection(
            principal=person,
            address=found[0][0] if len(found) == 1 else "",
            first=min(activity.first for activity in activities),
            last=max(activity.last for activity in activities),
            events=sum(activity.events for activity in activities),
            reasons=(Reason(2, f"{_count(steps, 'change')} to IAM from {where} new for this principal"),),
        )


def _find_sprayers(special: _Special) -> Iterator[Detection]:
    """Yield the addresses from which sign-ins of many principals failed."""
    gathered: defaultdict[str, list[Activity]] = defaultdict(list)
    for (_, address), activity in special:
        if address and activity.special.failed_sign_ins:
            gathered[address].append(activity)
    for address, activities in gathered.items():
        if len(activities) >= _SPRAYED:
            reached = sum(activity.special.sign_ins > 0 for activity in activities)
            failed = sum(activity.special.failed_sign_ins for activity in activities)
            end = f"; {reached:,} also succeeded" if reached else ""
            yield Detection(
                principal="",
                address=address,
                first=min(activity.first for activity in activities),
                last=max(activity.last for activity in activities),
                events=sum(activity.events for activity in activities),
                reasons=(Reason(4, f"{failed:,} failed sign-ins of {len(activities):,} principals{end}"),),
            )


def _find_tries(special: _Special, told: set[Pair]) -> Iterator[Detection]:
    """Yield the pairs with many failed sign-ins and no success."""
    for pair, activity in special:
        if activity.special.failed_sign_ins >= _TRIES and not activity.special.sign_ins and pair not in told:
            reason = Reason(3, f"{activity.special.failed_sign_ins:,} failed sign-ins, none succeeded")
            yield Detection(*pair, activity.first, activity.last, activity.events, (reason,))


def _find_refused(special: _Special, principals: Sequence[ActorSummary]) -> Iterator[Detection]:
    """Yield the principals whose calls nearly all failed; sign-ins are told elsewhere."""
    signed_in, failed_to = Counter[str](), Counter[str]()
    for (person, _), activity in special:
        signed_in[person] += activity.special.sign_ins
        failed_to[person] += activity.special.failed_sign_ins
    for one in principals:
        failed = one.failures - failed_to[one.name]
        calls = one.events - failed_to[one.name] - signed_in[one.name]
        if calls >= _REFUSED_EVENTS and failed >= calls * _REFUSED_SHARE:
            address = one.partners[0] if len(one.partners) == 1 else ""
            reason = Reason(2, f"{failed:,} of {calls:,} calls failed")
            yield Detection(one.name, address, one.first, one.last, one.events, (reason,))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


_AFTERMATH = 24 * HOUR
_LONG_LIFE = 3 * 24 * HOUR
_STEPS_TOLD = 6
_USES_TOLD = 4
_AFTERMATH_TOLD = 3
_TOOL_CHARACTERS = 40


class Line(NamedTuple):
    """What happened from an instant on; `event_id` where it is one event."""

    instant: int
    text: str
    event_id: str | None = None


def describe_timeline(stats: EventStats, detection: Detection) -> list[Line]:
    """Return what happened, in the order of time; nothing where there is no one story."""
    activity = detection.activity
    if activity is None:
        return []
    lines = []
    guess = activity.special.guess
    if guess and guess.failures >= GUESSES:
        after = _describe_span(guess.success - guess.first)
        lines.append(Line(guess.first, f"{guess.failures:,} failed sign-ins; one succeeded after {after}"))
    steps = _choose_steps(activity)
    lines += [_describe_step(stats, detection, step) for step in steps[:_STEPS_TOLD]]
    left_out = len(steps) - _STEPS_TOLD + activity.special.steps_left_out
    if left_out > 0:
        lines.append(Line(steps[_STEPS_TOLD - 1].instant, f"… and {left_out:,} more changes from here"))
    is_short = activity.last - activity.first <= _LONG_LIFE
    if activity.special.uses and is_short:
        lines.append(_describe_uses(activity))
    elif not activity.special.is_watched:
        lines.append(Line(activity.first, f"{activity.events:,} events from here, soon after a new credential"))
    lines += list(_describe_aftermath(stats, detection, steps))[:_AFTERMATH_TOLD]
    return sorted(lines, key=lambda line: line.instant)


def _choose_steps(activity: Activity) -> list[Step]:
    """Return what to tell: of an address that is in daily use only what is suspicious by itself."""
    steps = activity.special.steps
    listed = [step for step in steps if step.kind]
    if activity.last - activity.first <= _LONG_LIFE:
        return listed or list(steps)
    grave = [step for step in listed if step.kind == "blinding" or (step.kind == "rights" and is_wide_open(step.note))]
    return grave or listed


def _describe_step(stats: EventStats, detection: Detection, step: Step) -> Line:
    owner = find_owner(stats, step)
    text = step.name
    if owner and owner != detection.principal and step.kind == "credential":
        text += f" for {owner}"
    if step.note:
        text += f" {step.note}" if step.kind == "credential" else f": {step.note}"
    return Line(step.instant, text, step.event_id)


def _describe_uses(activity: Activity) -> Line:
    uses, tools = activity.special.uses, activity.special.tools
    ranked = sorted(uses.items(), key=lambda item: (not is_taking(item[0]), -item[1], item[0]))
    names = ", ".join(f"{name or '(none)'} {number:,}" for name, number in ranked[:_USES_TOLD])
    more = f" and {len(ranked) - _USES_TOLD:,} other kinds" if len(ranked) > _USES_TOLD else ""
    number = sum(uses.values()) + activity.special.uses_left_out
    with_tool = f" with {min(tools, key=lambda one: tools[one]).split(' ')[0][:_TOOL_CHARACTERS]}" if tools else ""
    span = _describe_span(activity.special.use_last - activity.special.use_first)
    return Line(activity.special.use_first, f"{number:,} calls within {span}{with_tool}: {names}{more}")


def _describe_aftermath(stats: EventStats, detection: Detection, steps: list[Step]) -> Iterator[Line]:
    """Yield what others took back within a day, such as a new key that was deleted."""
    since = {step.resource_id: step.instant for step in reversed(steps) if step.resource_id}
    for change in stats.changes:
        begin = since.get(change.step.resource_id or "")
        is_other = (change.principal, change.address) != (detection.principal, detection.address)
        is_undone = change.step.name.casefold().startswith(("delete", "remove"))
        if begin is not None and is_other and is_undone and begin < change.step.instant <= begin + _AFTERMATH:
            text = (
                f"{change.step.name} by {change.principal or '(unknown)'} from {change.address or 'an unknown address'}"
            )
            yield Line(change.step.instant, text, change.step.event_id)


def _describe_span(nanoseconds: int) -> str:
    minutes = max(round(nanoseconds / HOUR * 60), 1)
    if minutes < 120:
        return f"{minutes} minute{'' if minutes == 1 else 's'}"
    return f"{minutes // 60} hours" if minutes < 2880 else f"{minutes // 1440} days"
