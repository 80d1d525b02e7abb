"""A small export that can be run, killed and looked at again and again, in milliseconds each.

Owns: its arguments, and the places in it at which a test may kill. Must not: judge what comes out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from support.emulator import Emulator
from support.exports import point_at
from support.kill_at_call import Ended, KillableCommand, Running, When
from support.processes import make_environment
from support.run_directories import list_requests

REGION = "us-ashburn-1"
START, SECOND, END = "2025-06-02T00:00:00Z", "2025-06-03T00:00:00Z", "2025-06-04T00:00:00Z"
KILLED = -9
PUBLISHED = {"audit.json", "audit.json.manifest.json", "audit.json.ledger.ndjson"}
# Two pages for the first day, and three for the second, of the compartment `payments`.
FLAGS = ("--retention-days", "36500", "--events-per-day", "300", "--page-size", "40")
FIRST_DAY, SECOND_DAY = [START] * 2, [SECOND] * 3


@dataclass(frozen=True)
class Stand:
    """An emulator, a process that forks commands, and the folder they work in."""

    emulator: Emulator
    command: KillableCommand
    folder: Path
    compartment: str

    @property
    def output(self) -> Path:
        """Give the path of the output."""
        return self.folder / "audit.json"

    @property
    def run_directory(self) -> Path:
        """Give the path of the run directory."""
        return self.folder / "audit.json.run"

    def list_arguments(
        self, *options: str, start: str = START, end: str = END, output: str = "audit.json"
    ) -> list[str]:
        """Return the arguments of the export: two windows of one day, in one region and one compartment."""
        return [
            *("export", "--config-file", str(self.emulator.config_path), "--start", start, "--end", end),
            *("--max-window-days", "1", "--region", REGION, "--no-subtree", "-o", output),
            *("--compartment", self.compartment, "--concurrency", "1", *options),  # so that calls have an order
        ]

    def start(self, *options: str, call: int | None = None, when: When = "before", **given: str) -> Running:
        """Start the export; with `call`, it comes to an end there."""
        self.emulator.clear_log()
        return self.command.start(
            self.list_arguments(*options, **given),
            cwd=self.folder,
            variables=make_environment(self.folder, **point_at(self.emulator)),
            call=call,
            when=when,
        )

    def export(self, *options: str, call: int | None = None, when: When = "before", **given: str) -> Ended:
        """Run the export to its end, or to a call."""
        return self.start(*options, call=call, when=when, **given).wait()

    def list_asked(self) -> list[str]:
        """Return the begin of the window of each question that the last export asked."""
        return [request.start for request in list_requests(self.emulator.log())]

    def kill_half_way(self, calls: Sequence[str], *options: str) -> None:
        """Kill an export when two of its pages are committed."""
        if self.export(*options, call=list_commits(calls)[2]).status != KILLED:
            message = "it came to its end"
            raise AssertionError(message)


def find_call(calls: Sequence[str], words: str) -> int:
    """Return the number of the first call whose words this expression is found in."""
    return next(number for number, name in enumerate(calls, 1) if re.search(words, name))


def list_commits(calls: Sequence[str]) -> list[int]:
    """Return the numbers of the calls that make the journal's lines durable; the first is that of its first line."""
    log = find_call(calls, r"open\(.*events\.log, ")
    journal = next(name for name in calls[log:] if name.startswith("write("))[6:].partition(",")[0]
    syncs = (f"fdatasync({journal})", f"fcntl({journal}, ")
    return [number for number, name in enumerate(calls, 1) if number > log and name.startswith(syncs)]
