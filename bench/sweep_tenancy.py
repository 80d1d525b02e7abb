"""Tenancies for sweeps: many targets, most of them quiet, and the command that exports all of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from bench.contenders import find_command
from bench.emulator import EmulatorProcess
from bench.events_file import ServedEvents

HOME = "us-ashburn-1"
REGIONS = (HOME, "eu-frankfurt-1", "ap-tokyo-1")
PAGE_EVENTS = 100
_READABLE_COMPARTMENTS = 14
_MINUTE_LENGTH = len("2025-06-15T00:00")


@dataclass(frozen=True, slots=True)
class SweepTenancy:
    """A served tenancy: a file of events for each region, and the number of additional compartments."""

    served: ServedEvents
    files: Mapping[str, Path]
    more_compartments: int

    def serve(self, folder: Path, *flags: str) -> EmulatorProcess:
        """Return the emulator of the tenancy, which is not started yet."""
        also = [f"--events-also={region}={path}" for region, path in self.files.items() if region != HOME]
        more = f"--compartments={self.more_compartments}"
        return EmulatorProcess(folder, more, f"--page-size={PAGE_EVENTS}", *also, *flags, events=self.files[HOME])

    def make_command(self, emulator: EmulatorProcess, output: Path, *options: str) -> list[str]:
        """Return the command that exports the whole tenancy."""
        command = [find_command(), "export", "--start", self.served.start, "--end", self.served.end, "-o", str(output)]
        command += [
            "--config-file",
            str(emulator.config_path),
            "--endpoint",
            emulator.url + "/{region}",
            "--no-subtree",
        ]
        command += [f"--region={region}" for region in self.files]
        return [*command, *(f"--compartment={one}" for one in self.served.compartments), *options]

    def count_pages(self, window_days: int) -> int:
        """Return how many pages a sweep with windows of this many days needs; each window has at least one."""
        start, end = (datetime.fromisoformat(text) for text in (self.served.start, self.served.end))
        windows = -(-(end - start).days // window_days)
        counts = Counter(
            (region, compartment, (moment - start).days // window_days)
            for region, path in self.files.items()
            for compartment, moment in _list_events(path)
        )
        empty = len(self.files) * len(self.served.compartments) * windows - len(counts)
        return empty + sum(-(-count // PAGE_EVENTS) for count in counts.values())


def list_compartments(folder: Path, count: int) -> tuple[int, list[str]]:
    """Return the number of additional compartments, and this many readable compartments, root first."""
    more = max(0, count - _READABLE_COMPARTMENTS)
    with EmulatorProcess(folder, f"--compartments={more}") as emulator:
        compartments = emulator.read_json("tenancy")["compartments"]
    return more, [one["id"] for one in compartments if not one["isForbidden"]][:count]


def join_served(parts: Sequence[ServedEvents], whole: ServedEvents) -> ServedEvents:
    """Return the events of all parts, which have none in common, with the range and compartments of `whole`."""
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
