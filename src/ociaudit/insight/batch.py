"""Some events side by side: a list for each thing that is counted, so that counting runs in C.

Owns: reading events into such lists. Must not: count.

Invariant: every list but `pairs` has one entry for each event; all are in the order of the events.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ociaudit.events.facts import Data, Details, Facts, Identity, Response, read_facts, split_addresses
from ociaudit.events.fields import read_instant
from ociaudit.events.outcome import OUTCOME_BY_STATUS, Outcome, judge_outcome

_NO_DATA, _NO_IDENTITY, _NO_RESPONSE, _NO_DETAILS = Data(), Identity(), Response(), Details()
_NO_SOURCE = ("",)
Pair = tuple[str, str]
EventKind = str | tuple[str | None, str | None, str | None]
"""The event type; or event type, event name and the identity domain's own name, where there is more than the type."""


class Batch(NamedTuple):
    """Events side by side. A principal is a name, else an id; an empty text stands for none, as for no address."""

    raws: Sequence[bytes]
    facts: list[Facts]
    datas: list[Data]
    identities: list[Identity]
    statuses: list[str | None]
    outcomes: list[Outcome]
    instants: list[int]
    kinds: list[EventKind]
    """All that its meaning depends on."""
    people: list[str]
    pairs: list[tuple[Pair, int]]
    """(principal, address) and the index of the event, which comes once for each of its addresses."""


def read_batch(raws: Sequence[bytes]) -> Batch:
    """Read events.

    Raises:
        ValueError: one is not a JSON object.
    """
    facts = list(map(read_facts, raws))
    datas = [one.data or _NO_DATA for one in facts]
    identities = [data.identity or _NO_IDENTITY for data in datas]
    people = [one.principal_name or one.principal_id or one.caller_name or "" for one in identities]
    statuses = [(data.response or _NO_RESPONSE).status for data in datas]
    details = [(data.additional_details or _NO_DETAILS).event_id for data in datas]
    return Batch(
        raws=raws,
        facts=facts,
        datas=datas,
        identities=identities,
        statuses=statuses,
        outcomes=[
            OUTCOME_BY_STATUS.get(status) or judge_outcome(status, detail, data.message)
            for status, detail, data in zip(statuses, details, datas, strict=True)
        ],
        instants=[read_instant(one.event_time) for one in facts],
        kinds=[
            one.event_type if one.event_type and detail is None else (one.event_type, data.event_name, detail)
            for one, data, detail in zip(facts, datas, details, strict=True)
        ],
        people=people,
        pairs=_pair(people, identities),
    )


def _pair(people: Sequence[str], identities: Sequence[Identity]) -> list[tuple[Pair, int]]:
    return [
        ((person, address), index)
        for index, (person, one) in enumerate(zip(people, identities, strict=True))
        for address in split_addresses(one.ip_address) or _NO_SOURCE
    ]
