"""The scope of an export: regions × compartments, chosen from the tenancy's listings.

Invariants
- The default is everything: every READY region × (the root and every compartment, whatever its state).
- A name that is not in its listing is an error, never an empty scope.
- Targets are in canonical order (region, compartment), each once.
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
    """A region that the tenancy is subscribed to, or whose subscription is in progress."""

    name: str
    status: str
    is_home: bool


class Compartment(msgspec.Struct, frozen=True):
    """A compartment as listed; a listing never contains the tenancy itself, the root."""

    id: str
    name: str
    parent_id: str
    state: str


def check_ocid(text: str, *, kinds: Sequence[str] = ("compartment", "tenancy")) -> str:
    """Return `text` if it is the OCID of one of `kinds`.

    Raises:
        UsageError: it is not; the hint shows what an OCID looks like.
    """
    if not OCID.fullmatch(text) or text.split(".", 2)[1] not in kinds:
        raise UsageError(
            f"{text!r} is not the OCID of a {' or '.join(kinds)}",
            hint="an OCID looks like ocid1.compartment.oc1..aaaa…; the console shows it under Identity > Compartments",
        )
    return text


def choose_regions(listed: Iterable[Region], requested: Sequence[str]) -> tuple[str, ...]:
    """Return the regions to fetch, sorted: those requested, or every READY one.

    Raises:
        UsageError: the tenancy is not subscribed to a requested region.
        ScopeUnreadable: no region is READY, so the default scope would be empty.
    """
    ready = sorted(region.name for region in listed if region.status == "READY")
    unknown = sorted(set(requested) - set(ready))
    if unknown:
        raise UsageError(
            f"the tenancy has not subscribed to region {', '.join(map(repr, unknown))}",
            hint=f"subscribed and ready: {', '.join(ready) or 'none'}",
        )
    if not ready:
        raise ScopeUnreadable("the tenancy lists no region that is READY", hint="name the regions with --region")
    return tuple(sorted(set(requested or ready)))


def choose_compartments(
    listed: Iterable[Compartment], requested: Sequence[str], *, tenancy: str, is_subtree: bool = True
) -> tuple[str, ...]:
    """Return the compartments to fetch, sorted: all of them, or those requested with everything below them.

    Without `is_subtree`, these are exactly the ones requested, listed or not.

    Raises:
        UsageError: a requested compartment is not in the listing, so its children are unknown.
    """
    if not requested:
        requested = (tenancy,)
    if not is_subtree:
        return tuple(sorted(set(requested)))
    children: dict[str, list[str]] = {}
    known = {tenancy}
    for compartment in listed:
        known.add(compartment.id)
        children.setdefault(compartment.parent_id, []).append(compartment.id)
    unknown = sorted(set(requested) - known)
    if unknown:
        raise UsageError(
            f"the tenancy lists no compartment {unknown[0]}",
            hint="check the OCID; --no-subtree fetches exactly the compartments named, listed or not",
        )
    chosen = set(known) if tenancy in requested else set()  # an orphan's parent may be missing from the listing
    waiting = [ocid for ocid in requested if ocid not in chosen]
    while waiting:
        ocid = waiting.pop()
        if ocid not in chosen:
            chosen.add(ocid)
            waiting.extend(children.get(ocid, ()))
    return tuple(sorted(chosen))


def make_targets(regions: Iterable[str], compartments: Sequence[str]) -> tuple[Target, ...]:
    """Return every region × compartment pair, in canonical order."""
    return tuple(sorted({Target(region, compartment) for region in regions for compartment in compartments}))
