"""Commands that work with Object Storage: run, killed and looked at again and again.

Owns: their arguments, and a bucket and a folder without anything in them. Must not: judge what comes out.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.emulator import Emulator
from support.exports import point_at
from support.kill_at_call import Ended, KillableCommand
from support.processes import make_environment
from support.stands import END, REGION, START
from support.truth import find_compartment

BUCKET = "exports"
NAME = "2025/audit.json"
URL = f"oci://{BUCKET}/{NAME}"
REQUESTS = ("HEAD ", "GET ", "PUT ", "POST ", "DELETE ")


@dataclass(frozen=True)
class Stand:
    """An emulator with a bucket, a process that forks commands, and a folder that is their home."""

    emulator: Emulator
    command: KillableCommand
    folder: Path

    def run(self, *arguments: str, **options: Any) -> Ended:
        """Run a command; `call` and `when` kill it."""
        variables = make_environment(self.folder, **point_at(self.emulator))
        return self.command(arguments, cwd=self.folder, variables=variables, **options)

    def list_arguments(self, *options: str, output: str = URL) -> list[str]:
        """Return the arguments of a small export."""
        compartment = find_compartment(self.emulator, "payments")
        return [
            *("export", "--config-file", str(self.emulator.config_path), "--start", START, "--end", END),
            *("--max-window-days", "1", "--region", REGION, "--no-subtree", "--concurrency", "1"),
            *("--compartment", compartment, "-o", output, *options),
        ]

    def export(self, *options: str, output: str = URL, **kill: Any) -> Ended:
        """Run a small export to an object."""
        return self.run(*self.list_arguments(*options, output=output), **kill)

    def use(self, command: str, *arguments: str, **kill: Any) -> Ended:
        """Run a command with the emulator's sign-in."""
        return self.run(command, *arguments, "--config-file", str(self.emulator.config_path), **kill)

    def list_objects(self) -> list[str]:
        """Return the names of the objects."""
        return [one["name"] for one in self.emulator.list_objects(BUCKET)]

    def list_files(self) -> list[str]:
        """Return the files in the folder, however deep."""
        return sorted(str(one.relative_to(self.folder)) for one in self.folder.rglob("*") if one.is_file())

    def count_asked(self) -> int:
        """Return how many pages of events were requested."""
        return sum(one["operation"] == "ListEvents" for one in self.emulator.log())

    def empty(self) -> None:
        """Remove all objects and files."""
        for name in self.list_objects():
            self.emulator.delete_object(BUCKET, name)
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextlib.contextmanager
def open_stand(emulator: Emulator, command: KillableCommand, parent: Path) -> Iterator[Stand]:
    """Yield a stand without objects, files, faults and a log, in memory where there is a folder for that."""
    emulator.clear_faults()
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        dir=memory if os.access(memory, os.W_OK) else parent, prefix="oci-audit-test-"
    ) as folder:
        made = Stand(emulator, command, Path(folder))
        made.empty()
        emulator.clear_log()
        yield made
    emulator.clear_faults()
