"""One event on its way between files: its JSON as Oracle spells it, and where it was asked from.

Owns: that pair. Readers of every kind of file give it, writers of every format take it.

Invariant: an origin that a file does not know is None; it is never guessed from the event.
"""

from __future__ import annotations

from typing import NamedTuple

from ociaudit.plan.shard import Place


class Record(NamedTuple):
    """An event: `raw` is one line of JSON in shape `api`; `origin` is the (region, compartment) asked, if known."""

    raw: bytes
    origin: Place | None
