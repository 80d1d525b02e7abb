"""Which places are asked: regions × compartments, chosen from what the tenancy listed.

Owns: the choice. Must not: ask for the listings.

Invariants
- The default is everything: every READY region × (root + every compartment of any state).
- A name that is not in its listing is an error, never an empty scope.
- Places come in canonical order (region, compartment), each once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from ociaudit.errors import ScopeUnreadable, UsageError
from ociaudit.planning.shard import Target

OCID = re.compile(r"ocid1\.[a-z0-9]+\.[a-z0-9_-]+\.[a-z0-9_-]*\.[A-Za-z0-9._-]+", re.ASCII)
REGION = re.compile(r"[a-z]{2,}(-[a-z0-9]+)+-\d+", re.ASCII)


class Region(msgspec.Struct, frozen=True):
    """A region the tenancy has subscribed to, or is subscribing to."""

    name: str
    status: str
    is_home: bool


class Compartment(msgspec.Struct, frozen=True):
    """A compartment as listed; the tenancy itself (the root) is never in the listing."""

    id: str
    name: str
    parent_id: str
    state: str


def check_ocid(text: str, *, kinds: Sequence[str] = ("compartment", "tenancy")) -> str:
    """Return `text` if it is an OCID of one of `kinds`.

    Raises:
        UsageError: it is not; the message says what an OCID looks like.
    """
    if not OCID.fullmatch(text) or text.split(".", 2)[1] not in kinds:
        raise UsageError(
            f"{text!r} is not the OCID of a {' or '.join(kinds)}",
            hint="an OCID looks like ocid1.compartment.oc1..aaaa…; the console shows it under Identity > Compartments",
        )
    return text


def choose_regions(listed: Iterable[Region], asked: Sequence[str]) -> tuple[str, ...]:
    """Return the regions to ask: those named, or every READY one.

    Raises:
        UsageError: a named region is not subscribed.
        ScopeUnreadable: no region is READY, so that asking everywhere would mean asking nowhere.
    """
    ready = sorted(region.name for region in listed if region.status == "READY")
    unknown = sorted(set(asked) - set(ready))
    if unknown:
        raise UsageError(
            f"the tenancy has not subscribed to region {', '.join(map(repr, unknown))}",
            hint=f"subscribed and ready: {', '.join(ready) or 'none'}",
        )
    if not ready:
        raise ScopeUnreadable(
            "the tenancy lists no region that is ready to be asked", hint="name the regions with --region"
        )
    return tuple(sorted(set(asked or ready)))


def choose_compartments(
    listed: Iterable[Compartment], asked: Sequence[str], *, tenancy: str, is_subtree: bool = True
) -> tuple[str, ...]:
    """Return the compartments to ask: everything, or those named with all that lies below them.

    Raises:
        UsageError: a named compartment is not in the listing, so what lies below it cannot be known.
    """
    if not asked:
        asked = (tenancy,)
    if not is_subtree:
        return tuple(sorted(set(asked)))
    children: dict[str, list[str]] = {}
    known = {tenancy}
    for compartment in listed:
        known.add(compartment.id)
        children.setdefault(compartment.parent_id, []).append(compartment.id)
    unknown = sorted(set(asked) - known)
    if unknown:
        raise UsageError(
            f"the tenancy lists no compartment {unknown[0]}",
            hint="check the OCID; --no-subtree asks for exactly the compartments named, listed or not",
        )
    chosen = set(known) if tenancy in asked else set()  # an orphan's parent may be gone from the listing
    waiting = [ocid for ocid in asked if ocid not in chosen]
    while waiting:
        ocid = waiting.pop()
        if ocid not in chosen:
            chosen.add(ocid)
            waiting.extend(children.get(ocid, ()))
    return tuple(sorted(chosen))


def make_targets(regions: Iterable[str], compartments: Sequence[str]) -> tuple[Target, ...]:
    """Return every region × compartment in canonical order."""
    return tuple(sorted({Target(region, compartment) for region in regions for compartment in compartments}))
