"""The scope of an export: regions × compartments, chosen from the tenancy's listings.

Invariants
- The default is everything: every READY region × (the root and every compartment, whatever its state).
- A name that is not in its listing is an error, never an empty scope; so is a name that several compartments share.
- Targets are in canonical order (region, compartment), each once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher, get_close_matches

import msgspec

from ociaudit.errors import ScopeUnreadable, UsageError
from ociaudit.planning.shard import Target

OCID = re.compile(r"ocid1\.[a-z0-9]+\.[a-z0-9_-]+\.[a-z0-9_-]*\.[A-Za-z0-9._-]+", re.ASCII)
REGION = re.compile(r"[a-z]{2,}(-[a-z0-9]+)+-\d+", re.ASCII)
ROOT = "root"
"""How the root compartment, the tenancy, is called in paths."""
_COMPARTMENT_PATH = re.compile(r"[\w.?-]+(/[\w.-]+)*")  # letters, digits, periods, hyphens and underscores
_ORPHANAGE = "?"
_OCID_PREFIX = "ocid1."
_CANDIDATES_SHOWN = 8


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


def check_compartment_name(text: str) -> str:
    """Return `text` if it is the OCID of a compartment, or may be a name or a path.

    Raises:
        UsageError: it is neither.
    """
    if is_ocid_like(text):
        return check_ocid(text)
    if not _COMPARTMENT_PATH.fullmatch(text.strip("/")):
        raise UsageError(
            f"{text!r} is not the name, path or OCID of a compartment",
            hint="for example payments, root/production/payments or ocid1.compartment.oc1..aaaa…",
        )
    return text


def is_ocid_like(text: str) -> bool:
    """Return whether a text is meant as an OCID; a compartment's name cannot begin like one."""
    return text.casefold().startswith(_OCID_PREFIX)


def name_compartments(listed: Iterable[Compartment], *, tenancy: str) -> dict[str, str]:
    """Return the path of the root and of every listed compartment by OCID, such as `root/production/payments`.

    The path of a compartment whose ancestors are not all listed begins with `?/`.
    """
    by_id = {one.id: one for one in listed}
    paths = {tenancy: ROOT}
    for start in by_id:
        branch: dict[str, Compartment] = {}
        ocid = start
        while ocid in by_id and ocid not in paths and ocid not in branch:
            branch[ocid] = by_id[ocid]
            ocid = by_id[ocid].parent_id
        above = paths.get(ocid, _ORPHANAGE)
        for one in reversed(branch.values()):
            above = paths[one.id] = f"{above}/{one.name or one.id}"
    return paths


def find_compartment(text: str, paths: Mapping[str, str], *, option: str = "--compartment") -> str:
    """Return the OCID of the compartment that a name, a path or the end of a path means; an OCID is returned as given.

    `paths` is what `name_compartments` returns. A whole path takes precedence over the end of one, and a name in the
    same case over one in another.

    Raises:
        UsageError: no compartment has that name, or several have; the hint lists candidates for `option`.
    """
    found = _find_candidates(text, paths)
    if len(found) == 1:
        return found[0]
    if found:
        shown = "; ".join(f"{paths[ocid]} = {ocid}" for ocid in sorted(found)[:_CANDIDATES_SHOWN])
        more = f"; and {len(found) - _CANDIDATES_SHOWN:,} more" if len(found) > _CANDIDATES_SHOWN else ""
        raise UsageError(
            f"{option} {text!r} names {len(found):,} compartments",
            hint=f"give a longer path or the OCID: {shown}{more}",
        )
    raise UsageError(
        f"{option} {text}: the tenancy lists no compartment of that name"
        + (", and there is no such file" if option == "--waive" else ""),
        hint=_suggest_compartments(text.strip("/"), paths)
        or "give its name, its path (root/production/payments) or its OCID",
    )


def has_compartment(text: str, paths: Mapping[str, str]) -> bool:
    """Return whether a name, a path or the end of a path means a compartment of `paths`; an OCID always does."""
    return bool(_find_candidates(text, paths))


def _find_candidates(text: str, paths: Mapping[str, str]) -> list[str]:
    """Return the OCIDs of the compartments that a text means; an OCID is returned as given."""
    if is_ocid_like(text):
        return [text]
    wanted = text.strip("/")
    for normalize in (str, str.casefold):
        found = [ocid for ocid, path in paths.items() if normalize(path) == normalize(wanted)]
        found = found or [ocid for ocid, path in paths.items() if normalize(path).endswith("/" + normalize(wanted))]
        if found:
            return found
    return []


def _suggest_compartments(wanted: str, paths: Mapping[str, str]) -> str:
    """Return a hint with the paths whose last names, or whose ends, are most similar; empty if there are none."""
    depth = wanted.count("/") + 1
    ends: dict[str, list[str]] = {}
    for path in paths.values():
        ends.setdefault("/".join(path.split("/")[-depth:]).casefold(), []).append(path)
    close = get_close_matches(wanted.casefold(), ends, n=3, cutoff=0.6)
    return f"did you mean {' or '.join(path for end in close for path in ends[end][:1])}?" if close else ""


def suggest_region(text: str, known: Iterable[str], *, similarity: float = 0.75) -> str:
    """Return "did you mean …?" with the most similar of the known regions; empty if none is similar enough (0 to 1)."""
    folded = text.strip().casefold()

    def score(name: str) -> float:
        words = name.split("-")
        alike = (name, "-".join(words[:-1]), "-".join(words[1:-1]))
        return max(SequenceMatcher(None, folded, one).ratio() for one in alike)

    best = max(sorted(known), key=score, default="")
    return f"did you mean {best}?" if best and score(best) >= similarity else ""


def choose_regions(listed: Iterable[Region], requested: Sequence[str]) -> tuple[str, ...]:
    """Return the regions to fetch, sorted: those requested, or every READY one.

    Raises:
        UsageError: the tenancy is not subscribed to a requested region, or the subscription is in progress.
        ScopeUnreadable: no region is READY, so the default scope would be empty.
    """
    states = {region.name: region.status for region in listed}
    ready = sorted(name for name, status in states.items() if status == "READY")
    unknown = sorted(set(requested) - set(ready))
    if unknown:
        suggestions = (suggest_region(name, ready) for name in unknown if name not in states)
        pending = sorted(set(unknown) & set(states))
        raise UsageError(
            f"the tenancy has not subscribed to region {', '.join(map(repr, unknown))}"
            + (f" (in progress: {', '.join(pending)})" if pending else ""),
            hint=" ".join([*filter(None, suggestions), f"subscribed and ready: {', '.join(ready) or 'none'}"]),
        )
    if not ready:
        raise ScopeUnreadable("the tenancy lists no region that is READY", hint="name the regions with --region")
    return tuple(sorted(set(requested or ready)))


def find_home_region(listed: Iterable[Region]) -> str | None:
    """Return the tenancy's home region; None if the listing does not name it."""
    return next((region.name for region in listed if region.is_home), None)


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
            hint="check the OCID; --no-subtree fetches exactly the OCIDs named, listed or not",
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
