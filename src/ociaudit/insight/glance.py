"""A first look at an export: how many events, of which kinds, and which sign-ins failed.

Owns: the counting. Must not: print, or hold the events.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ociaudit.events.facts import Facts, read_facts
from ociaudit.store.durable import explain_disk


@dataclass(slots=True)
class Glance:
    """Counts over an export. The strings are the events' own: treat them as hostile on a screen."""

    events: int = 0
    names: Counter[str] = field(default_factory=Counter)
    sign_in_failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(principal, address) -> failed sign-ins."""


def glance_at(path: Path) -> Glance:
    """Read an uncompressed JSON array as `oci-audit export` writes it, line by line.

    Raises:
        DiskError: the file cannot be read.
    """
    glance = Glance()
    with explain_disk("read", path), path.open("rb") as file:
        for line in file:
            text = line.rstrip(b"\n").rstrip(b",")
            if text not in {b"[", b"]"}:
                _count(glance, read_facts(text))
    return glance


def _count(glance: Glance, facts: Facts) -> None:
    glance.events += 1
    glance.names[facts.details.event_name or "(none)"] += 1
    if facts.is_sign_in and facts.outcome == "failure":
        who = facts.identity.principal_name or "(unknown)"
        glance.sign_in_failures[who, facts.identity.ip_address or "(no address)"] += 1
