"""The story of a suspicion: a few lines with their times, so that a reader sees what happened.

Owns: which lines, and their words. Must not: judge, or print; the strings are the events' own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ociaudit.insight.census import Census
from ociaudit.insight.findings import GUESSES, Suspicion, find_owner
from ociaudit.insight.meaning import is_taking
from ociaudit.insight.trace import HOUR, Step, Trace, is_wide_open

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
