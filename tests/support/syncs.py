"""A sync as a process, to be killed, and the small tenancy that it follows.

Run by `support.kill_at_call` as the program "sync": its argument is JSON with the members of `SyncOptions`, and
`config_file`.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.emulator import Emulator
from support.exports import point_at
from support.kill_at_call import Ended, KillableCommand, Running, When
from support.processes import make_environment
from support.truth import find_compartment

REGION = "us-ashburn-1"
FLAGS = ("--retention-days", "36500", "--events-per-day", "300", "--page-size", "30", "--now", "2026-03-03T12:00:00Z")
START = "2026-03-02T00:00:00Z"
RESCAN = "90m"


@dataclass(frozen=True)
class SyncStand:
    """An emulator, a process that forks syncs, and an archive in a folder."""

    emulator: Emulator
    command: KillableCommand
    folder: Path

    @property
    def archive(self) -> Path:
        """Return the path of the archive."""
        return self.folder / "archive"

    def start(self, *, call: int | None = None, when: When = "before", **options: Any) -> Running:
        """Start a sync of two targets; with `call`, it comes to an end there."""
        given = {
            "config_file": str(self.emulator.config_path),
            "archive": str(self.archive),
            "start": START,
            "rescan": RESCAN,
            "regions": [REGION],
            "compartments": [self.emulator.tenancy()["id"], find_compartment(self.emulator, "payments")],
            "is_subtree": False,
            **options,
        }
        return self.command.start(
            [json.dumps(given)],
            cwd=self.folder,
            variables=make_environment(self.folder, **point_at(self.emulator)),
            call=call,
            when=when,
            program="sync",
        )

    def sync(self, *, call: int | None = None, when: When = "before", **options: Any) -> Ended:
        """Sync to the end, or to a call."""
        return self.start(call=call, when=when, **options).wait()

    def restore(self, kept: Path) -> None:
        """Put a copy of an archive in place of the present one; without one, remove that."""
        shutil.rmtree(self.archive, ignore_errors=True)
        if kept.exists():
            shutil.copytree(kept, self.archive, symlinks=True)


def main() -> None:
    """Sync as the argument says, and exit as the command line does."""
    from ociaudit import api
    from ociaudit.cli import console
    from ociaudit.errors import OciAuditError, find_exit_status
    from ociaudit.operations.context import Cancellation, ConnectionOptions
    from ociaudit.operations.sync import SyncOptions, sync_archive

    options = json.loads(sys.argv[1])
    connection = ConnectionOptions(config_file=options.pop("config_file"), concurrency=1)  # so that calls have an order
    options["archive"] = Path(options["archive"])
    cancellation = Cancellation()
    with console.handle_signals(cancellation.cancel):
        try:
            context = api.resolve_connection(connection, cancellation=cancellation)
            result = sync_archive(SyncOptions(**options), context)
        except OciAuditError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(find_exit_status(error))
    print(result.state.sequence)
