"""Tenancies in which events lie here and there, for the sweeps: many places, most of them quiet.

Owns: where the events lie, the emulator that serves them, and the command that asks for all of it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from bench.contenders import find_command
from bench.events_file import Made
from bench.server import Server

HOME = "us-ashburn-1"
REGIONS = (HOME, "eu-frankfurt-1", "ap-tokyo-1")
PAGE_EVENTS = 100
_ROOT_AND_MADE = 14
_MINUTE_LENGTH = len("2025-06-15T00:00")


@dataclass(frozen=True, slots=True)
class Scene:
    """What is served: a file of events for each region, and how many compartments there are beside the made ones."""

    made: Made
    files: Mapping[str, Path]
    more_compartments: int

    def serve(self, folder: Path, *flags: str) -> Server:
        """Return the emulator of it, which still has to be started."""
        also = [f"--events-also={region}={path}" for region, path in self.files.items() if region != HOME]
        more = f"--compartments={self.more_compartments}"
        return Server(folder, more, f"--page-size={PAGE_EVENTS}", *also, *flags, events=self.files[HOME])

    def make_command(self, server: Server, output: Path, *options: str) -> list[str]:
        """Return the command that exports all of it."""
        command = [find_command(), "export", "--start", self.made.start, "--end", self.made.end, "-o", str(output)]
        command += ["--config-file", str(server.config_path), "--endpoint", server.url + "/{region}", "--no-subtree"]
        command += [f"--region={region}" for region in self.files]
        return [*command, *(f"--compartment={one}" for one in self.made.compartments), *options]

    def count_pages(self, window_days: int) -> int:
        """Return how many pages a sweep in windows of so many days needs, each of at least one page."""
        start, end = (datetime.fromisoformat(text) for text in (self.made.start, self.made.end))
        windows = -(-(end - start).days // window_days)
        full = Counter(
            (region, compartment, (moment - start).days // window_days)
            for region, path in self.files.items()
            for compartment, moment in _list_events(path)
        )
        empty = len(self.files) * len(self.made.compartments) * windows - len(full)
        return empty + sum(-(-count // PAGE_EVENTS) for count in full.values())


def list_compartments(folder: Path, count: int) -> tuple[int, list[str]]:
    """Return so many compartments that can be read, root first, and how many of them have to be made for it."""
    more = max(0, count - _ROOT_AND_MADE)
    with Server(folder, f"--compartments={more}") as server:
        compartments = server.read_json("tenancy")["compartments"]
    return more, [one["id"] for one in compartments if not one["isForbidden"]][:count]


def join_made(parts: Sequence[Made], whole: Made) -> Made:
    """Return `whole`'s range and compartments with the events of all parts, which have none in common."""
    return replace(
        whole,
        count=sum(part.count for part in parts),
        size_bytes=sum(part.size_bytes for part in parts),
        lines_digest=sum(part.lines_digest for part in parts) % (1 << 128),
        ids_digest=sum(part.ids_digest for part in parts) % (1 << 128),
    )


def _list_events(path: Path) -> list[tuple[str, datetime]]:
    with path.open("rb") as file:
        events = [json.loads(line) for line in file]
    return [
        (event["data"]["compartmentId"], datetime.fromisoformat(event["eventTime"][:_MINUTE_LENGTH] + ":00+00:00"))
        for event in events
    ]
