"""The files of an export while it runs, after it was killed and when it has ended, and the requests it sent.

The journal is parsed here independently: this module does not import the program.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs


class EventRequest(NamedTuple):
    """One request for events: target, window and page token."""

    region: str
    compartment: str
    start: str
    end: str
    token: str | None


def list_requests(log: Iterable[Mapping[str, Any]]) -> list[EventRequest]:
    """Return the requests for events in an emulator's request log."""
    return [
        EventRequest(
            entry["region"],
            entry["compartmentId"],
            entry["startTime"],
            entry["endTime"],
            parse_qs(entry["query"]).get("page", [None])[0],
        )
        for entry in log
        if entry["operation"] == "ListEvents"
    ]


def read_journal(run_directory: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a run's journal; a torn last line does not count."""
    path = run_directory / "journal.ndjson"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b'"}\n')]


def find_followers(attempts: dict[tuple[str, int], list[int]], offset: int) -> list[int]:
    """Return the offsets of the pages after one in its attempt: they are fetched again with the new page's token."""
    attempt = next((offsets for offsets in reversed(attempts.values()) if offset in offsets), [offset])
    return attempt[attempt.index(offset) + 1 :]


def list_committed(run_directory: Path) -> dict[int, EventRequest]:
    """Return the requests whose responses the journal refers to, by the offset of their block in the log.

    Without a plan nothing can be resumed, and nothing counts.
    """
    tokens: dict[tuple[str, int, int], str | None] = {}
    committed: dict[int, EventRequest] = {}
    attempts: dict[tuple[str, int], list[int]] = {}
    for line in read_journal(run_directory) if (run_directory / "plan.json").exists() else ():
        if line["kind"] == "void":
            for offset in [line["offset"], *find_followers(attempts, line["offset"])]:
                committed.pop(offset, None)
        if line["kind"] != "page":
            continue
        shard = line["shard"]
        name = json.dumps(shard)
        attempts.setdefault((name, line["attempt"]), []).append(line["offset"])
        tokens[name, line["attempt"], line["page"]] = line["next_token"]
        token = None if line["page"] == 1 else tokens[name, line["attempt"], line["page"] - 1]
        start, end = map(_format_minute, shard["window"])
        target = shard["target"]
        committed[line["offset"]] = EventRequest(target["region"], target["compartment"], start, end, token)
    return committed


def list_files(folder: Path) -> set[str]:
    """Return the relative path of every file and folder below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def _format_minute(minute: int) -> str:
    return datetime.fromtimestamp(minute * 60, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
