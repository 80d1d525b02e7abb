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

from ociaudit.analysis.activity import HOUR, Sighting, Step, Trace, is_wide_open
from ociaudit.analysis.classification import Pair, is_taking
from ociaudit.analysis.stats import Census

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
_Special = Sequence[tuple[Pair, Trace]]


class Reason(NamedTuple):
    """A rule that fired."""

    weight: int
    text: str


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Something worth a look; the empty address stands for several."""

    principal: str
    address: str
    first: int
    last: int
    events: int
    reasons: tuple[Reason, ...]
    trace: Trace | None = None
    """What was done, where it is the story of one principal and one address."""

    @property
    def weight(self) -> int:
        """How much speaks for it."""
        return sum(reason.weight for reason in self.reasons)


def find_suspicions(census: Census, principals: Sequence[Sighting], addresses: Sequence[Sighting]) -> list[Suspicion]:
    """Return what is worth a look, the heaviest first, at most a hundred.

    `principals` and `addresses` are all that the census lists.
    """
    special = [(pair, trace) for pair, trace in census.traces.items() if trace.is_special]
    past = _Past(census, special, principals, addresses)
    found = [
        Suspicion(*pair, trace.first, trace.last, trace.events, reasons, trace)
        for pair, trace in census.traces.items()
        if (trace.is_special or pair[0] in past.credentials)
        and (reasons := tuple(_judge(past, pair, trace)))
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
        self, census: Census, special: _Special, principals: Sequence[Sighting], addresses: Sequence[Sighting]
    ) -> None:
        self.learned = census.first + min(_DAY, (census.last - census.first) // 8)
        """From here on what is seen for the first time is new."""
        self.people = {one.name: one.first for one in principals if one.first}
        self.addresses = {one.name: one.first for one in addresses if one.first}
        self.credentials: defaultdict[str, list[Step]] = defaultdict(list)
        for (person, _), trace in special:
            for step in trace.special.steps:
                if step.kind == "credential":
                    self.credentials[find_owner(census, step) or person].append(step)
        self.habits: defaultdict[str, list[int]] = defaultdict(list)
        """Principal with a new credential -> when each of its addresses was first seen."""
        for (person, _), trace in census.traces.items() if self.credentials else ():
            if trace.first and person in self.credentials:
                self.habits[person].append(trace.first)

    def is_new(self, pair: Pair, trace: Trace) -> bool:
        """Tell whether a principal that was known uses an address for the first time."""
        return trace.first > self.learned and self.people.get(pair[0], trace.first) < trace.first

    def find_credential(self, pair: Pair, trace: Trace) -> Step | None:
        """Find the new credential after which a principal came from an address that nobody had used before."""
        made = self.credentials.get(pair[0])
        if not made or not all(pair) or trace.events < _USED_EVENTS or not self.is_new(pair, trace):
            return None
        earlier = sum(first < trace.first for first in self.habits[pair[0]])
        if earlier > _FEW_ADDRESSES or self.addresses[pair[1]] < trace.first:
            return None
        steps = [one for one in made if 0 < trace.first - one.instant <= _DAY]
        return max(steps, key=lambda one: one.instant, default=None)


def find_owner(census: Census, step: Step) -> str | None:
    """Find whose credential a step made, where the event says so and the principal was seen."""
    return census.following.names_by_id.get(step.resource_id or "")


def _judge(past: _Past, pair: Pair, trace: Trace) -> Iterator[Reason]:
    """Yield the rules that a pair breaks; nothing for what is merely new."""
    credential = past.find_credential(pair, trace)
    if not trace.special.is_watched and credential is None:
        return
    guess, kinds = trace.special.guess, {step.kind for step in trace.special.steps}
    is_wide = any(step.kind == "rights" and is_wide_open(step.note) for step in trace.special.steps)
    guesses = guess.failures if guess else 0
    for weight, text, does_apply in (
        (5, f"{guesses:,} failed sign-ins, then one that succeeded", guesses >= GUESSES),
        (5, "a policy that gives away everything", is_wide),
        (5, "what watches the tenancy was deleted or switched off", "blinding" in kinds),
        (5, "an address nobody had used before, soon after a new credential", credential is not None),
        (2, "a new credential", "credential" in kinds),
        (1, "changed rights", "rights" in kinds),
        (1, "a second factor removed", "second factor" in kinds),
        (1, "an address new for this principal", past.is_new(pair, trace)),
        (1, "secrets or data fetched", any(map(is_taking, trace.special.uses))),
    ):
        if does_apply:
            yield Reason(weight, text)


def _gather_changes(special: _Special, past: _Past, told: set[Pair]) -> Iterator[Suspicion]:
    """Yield a line for each principal that changed IAM from new addresses."""
    gathered: defaultdict[str, list[tuple[str, Trace]]] = defaultdict(list)
    for pair, trace in special:
        if pair not in told and all(pair) and trace.special.steps and past.is_new(pair, trace):
            gathered[pair[0]].append((pair[1], trace))
    for person, found in gathered.items():
        traces = [trace for _, trace in found]
        steps = sum(len(trace.special.steps) + trace.special.steps_left_out for trace in traces)
        where = "an address" if len(found) == 1 else f"{len(found):,} addresses"
        yield Suspicion(
            principal=person,
            address=found[0][0] if len(found) == 1 else "",
            first=min(trace.first for trace in traces),
            last=max(trace.last for trace in traces),
            events=sum(trace.events for trace in traces),
            reasons=(Reason(2, f"{_count(steps, 'change')} to IAM from {where} new for this principal"),),
        )


def _find_sprayers(special: _Special) -> Iterator[Suspicion]:
    """Yield the addresses from which sign-ins of many principals failed."""
    gathered: defaultdict[str, list[Trace]] = defaultdict(list)
    for (_, address), trace in special:
        if address and trace.special.failed_sign_ins:
            gathered[address].append(trace)
    for address, traces in gathered.items():
        if len(traces) >= _SPRAYED:
            reached = sum(trace.special.sign_ins > 0 for trace in traces)
            failed = sum(trace.special.failed_sign_ins for trace in traces)
            end = f"; {reached:,} also succeeded" if reached else ""
            yield Suspicion(
                principal="",
                address=address,
                first=min(trace.first for trace in traces),
                last=max(trace.last for trace in traces),
                events=sum(trace.events for trace in traces),
                reasons=(Reason(4, f"{failed:,} failed sign-ins of {len(traces):,} principals{end}"),),
            )


def _find_tries(special: _Special, told: set[Pair]) -> Iterator[Suspicion]:
    """Yield the pairs with many failed sign-ins and no success."""
    for pair, trace in special:
        if trace.special.failed_sign_ins >= _TRIES and not trace.special.sign_ins and pair not in told:
            reason = Reason(3, f"{trace.special.failed_sign_ins:,} failed sign-ins, none succeeded")
            yield Suspicion(*pair, trace.first, trace.last, trace.events, (reason,))


def _find_refused(special: _Special, principals: Sequence[Sighting]) -> Iterator[Suspicion]:
    """Yield the principals whose calls nearly all failed; sign-ins are told elsewhere."""
    signed_in, failed_to = Counter[str](), Counter[str]()
    for (person, _), trace in special:
        signed_in[person] += trace.special.sign_ins
        failed_to[person] += trace.special.failed_sign_ins
    for one in principals:
        failed = one.failures - failed_to[one.name]
        calls = one.events - failed_to[one.name] - signed_in[one.name]
        if calls >= _REFUSED_EVENTS and failed >= calls * _REFUSED_SHARE:
            address = one.partners[0] if len(one.partners) == 1 else ""
            reason = Reason(2, f"{failed:,} of {calls:,} calls failed")
            yield Suspicion(one.name, address, one.first, one.last, one.events, (reason,))


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


def tell_story(census: Census, suspicion: Suspicion) -> list[Line]:
    """Return what happened, in the order of time; nothing where there is no one story."""
    trace = suspicion.trace
    if trace is None:
        return []
    lines = []
    guess = trace.special.guess
    if guess and guess.failures >= GUESSES:
        after = _describe_span(guess.success - guess.first)
        lines.append(Line(guess.first, f"{guess.failures:,} failed sign-ins; one succeeded after {after}"))
    steps = _choose_steps(trace)
    lines += [_tell_step(census, suspicion, step) for step in steps[:_STEPS_TOLD]]
    left_out = len(steps) - _STEPS_TOLD + trace.special.steps_left_out
    if left_out > 0:
        lines.append(Line(steps[_STEPS_TOLD - 1].instant, f"… and {left_out:,} more changes from here"))
    is_short = trace.last - trace.first <= _LONG_LIFE
    if trace.special.uses and is_short:
        lines.append(_tell_uses(trace))
    elif not trace.special.is_watched:
        lines.append(Line(trace.first, f"{trace.events:,} events from here, soon after a new credential"))
    lines += list(_tell_aftermath(census, suspicion, steps))[:_AFTERMATH_TOLD]
    return sorted(lines, key=lambda line: line.instant)


def _choose_steps(trace: Trace) -> list[Step]:
    """Return what to tell: of an address that is in daily use only what is suspicious by itself."""
    steps = trace.special.steps
    listed = [step for step in steps if step.kind]
    if trace.last - trace.first <= _LONG_LIFE:
        return listed or list(steps)
    grave = [step for step in listed if step.kind == "blinding" or (step.kind == "rights" and is_wide_open(step.note))]
    return grave or listed


def _tell_step(census: Census, suspicion: Suspicion, step: Step) -> Line:
    owner = find_owner(census, step)
    text = step.name
    if owner and owner != suspicion.principal and step.kind == "credential":
        text += f" for {owner}"
    if step.note:
        text += f" {step.note}" if step.kind == "credential" else f": {step.note}"
    return Line(step.instant, text, step.event_id)


def _tell_uses(trace: Trace) -> Line:
    uses, tools = trace.special.uses, trace.special.tools
    ranked = sorted(uses.items(), key=lambda item: (not is_taking(item[0]), -item[1], item[0]))
    names = ", ".join(f"{name or '(none)'} {number:,}" for name, number in ranked[:_USES_TOLD])
    more = f" and {len(ranked) - _USES_TOLD:,} other kinds" if len(ranked) > _USES_TOLD else ""
    number = sum(uses.values()) + trace.special.uses_left_out
    with_tool = f" with {min(tools, key=lambda one: tools[one]).split(' ')[0][:_TOOL_CHARACTERS]}" if tools else ""
    span = _describe_span(trace.special.use_last - trace.special.use_first)
    return Line(trace.special.use_first, f"{number:,} calls within {span}{with_tool}: {names}{more}")


def _tell_aftermath(census: Census, suspicion: Suspicion, steps: list[Step]) -> Iterator[Line]:
    """Yield what others took back within a day, such as a new key that was deleted."""
    since = {step.resource_id: step.instant for step in reversed(steps) if step.resource_id}
    for change in census.changes:
        begin = since.get(change.step.resource_id or "")
        is_other = (change.principal, change.address) != (suspicion.principal, suspicion.address)
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
