"""An archive open for reading: one commit's view of it, as events, coverage and verdict.

`open_archive` reads the chain; the view does not change when a sync commits meanwhile. `Selection`-like limits of a
reader, `ArchivePart`, are a range of event times and some targets.

Invariants
- A view is that of one commit: every live segment of it, each row once, in canonical order.
- Readers take no lock. A segment that is replaced meanwhile is read from `replaced/`.
- Nothing is written to the archive.
"""

from __future__ import annotations
