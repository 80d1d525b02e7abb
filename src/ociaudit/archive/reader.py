"""An archive open for reading: one commit's view of it, as events, coverage and verdict.

`open_archive` reads the chain; the view does not change when a sync commits meanwhile. `Selection`-like limits of a
reader, `ArchivePart`, are a range of event times and some targets.

Invariants
- A view is that of one commit: every live segment of it, each row once, in canonical order.
- Readers take no lock. A segment that is replaced meanwhile is read from `replaced/`.
- Nothing is written to the archive.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ociaudit.archive.commit import UNKNOWN_DATE, ArchiveHeader, Commit, SegmentEntry
from ociaudit.archive.commit_log import CommitLog
from ociaudit.archive.segments import open_engine, read_date
from ociaudit.archive.state import ArchiveState, judge_archive
from ociaudit.errors import UsageError
from ociaudit.events.event import parse_page
from ociaudit.events.fields import instant_of_minute
from ociaudit.events.filters import TimeSpan
from ociaudit.formats.base import Record
from ociaudit.planning.scope import find_compartment, suggest_region
from ociaudit.planning.shard import MINUTES_PER_DAY, Target, Window, format_minute
from ociaudit.storage.verdict import Verdict
