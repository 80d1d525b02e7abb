"""Special events: those that come on a fixed turn and not by chance.

Owns: which special events a place has on a day, in the order of their minutes.
Must not: shape an event, or touch ordinary ones.

Invariants:
- every kind of sign-in, credential change and oddity comes at least every third day;
- whatever stands on a day depends on the seed, the place and the day alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from ociaudit_emulator.chance import draw_number
from ociaudit_emulator.event_shape import Fill
from ociaudit_emulator.event_source import Place
from ociaudit_emulator.oddities import ODDITIES
from ociaudit_emulator.sign_ins import SIGN_INS
from ociaudit_emulator.story import find_story, list_steps
from ociaudit_emulator.tenancy import HOME_REGION, Tenancy
from ociaudit_emulator.work_requests import write_beginning, write_end

_TURN_DAYS = 3
_FIRST_MINUTE, _LAST_MINUTE = 9 * 60, 18 * 60
_WORK_TAKES_MINUTES = 2
_LEAST_SHARE_FOR_WORK = 0.02


@dataclass(frozen=True, slots=True)
class Special:
    """An event at a fixed minute; `write` makes its bytes from the values drawn for it."""

    minute_of_day: int
    name: str
    write: Callable[[Fill], bytes]


class SpecialCalendar:
    """Knows the special events of every place and day."""

    def __init__(self, tenancy: Tenancy, seed: int) -> None:
        """Keep what they depend on."""
        self._tenancy = tenancy
        self._seed = seed
        self._turns = {**SIGN_INS, **ODDITIES}

    def list_specials(self, place: Place, day: int) -> Sequence[Special]:
        """List the special events of a place's day, in the order of their minutes."""
        if place.region != HOME_REGION:
            return ()
        specials = [*self._list_work(place, day), *self._list_story(place, day)]
        if place.compartment_id == self._tenancy.id:
            specials += self._list_turns(day)
        return sorted(specials, key=lambda special: special.minute_of_day)

    def _list_turns(self, day: int) -> list[Special]:
        """List the sign-ins, credential changes and oddities whose turn it is."""
        return [
            Special(self._draw_minute(name, day), name, partial(write, self._tenancy))
            for number, (name, write) in enumerate(self._turns.items())
            if (number + day) % _TURN_DAYS == 0
        ]

    def _list_work(self, place: Place, day: int) -> list[Special]:
        """List the begin and end of the day's long operation, in every place that is not quiet."""
        if self._tenancy.compartment_by_id[place.compartment_id].share < _LEAST_SHARE_FOR_WORK:
            return []
        minute = self._draw_minute(place.compartment_id, day)
        names = (self._tenancy, f"{self._seed} {place.compartment_id} {day}")
        return [
            Special(minute, "work begins", partial(write_beginning, *names)),
            Special(minute + _WORK_TAKES_MINUTES, "work ends", partial(write_end, *names)),
        ]

    def _list_story(self, place: Place, day: int) -> list[Special]:
        """List the story's events in a place, on the days on which it happens."""
        story = find_story(self._seed, self._tenancy, day)
        if story is None:
            return []
        return [
            Special(step.minute_of_day, step.name, step.write)
            for step in list_steps(story)
            if step.compartment_id == place.compartment_id
        ]

    def _draw_minute(self, name: str, day: int) -> int:
        """Draw a minute in office hours."""
        drawn = draw_number("special", self._seed, name, day)
        return _FIRST_MINUTE + drawn % (_LAST_MINUTE - _FIRST_MINUTE)
