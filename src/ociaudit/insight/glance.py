"""A first look at an export: how many events, of which kinds, and which sign-ins failed.

Owns: the counting. Must not: print, or hold the events.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ociaudit.events.outcome import is_sign_in, read_outcome
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
    with explain_disk("read", path), path.open(encoding="utf-8") as file:
        for line in file:
            text = line.rstrip("\n").rstrip(",")
            if text not in {"[", "]"}:
                _count(glance, json.loads(text, parse_int=_keep_digits))
    return glance


def _count(glance: Glance, event: dict[str, Any]) -> None:
    data = _mapping(event.get("data"))
    glance.events += 1
    glance.names[str(data.get("eventName") or "(none)")] += 1
    if is_sign_in(event) and read_outcome(event) == "failure":
        identity = _mapping(data.get("identity"))
        who = str(identity.get("principalName") or "(unknown)")
        glance.sign_in_failures[who, str(identity.get("ipAddress") or "(no address)")] += 1


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _keep_digits(digits: str) -> str:
    """A number of thousands of digits, which Python will not convert, is valid JSON; none is computed with here."""
    return digits
