"""What a benchmark is.

Owns: rows, settings, and the workshop that every benchmark works in.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
Figure = float | int | str


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: what was measured, the figures by name, and whether a target was reached.

    `is_reached` is None where there is no target, or where nothing could be measured.
    """

    name: str
    run_stats: dict[str, Figure] = field(default_factory=dict)
    target: str = ""
    is_reached: bool | None = None


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where a benchmark works and how much it does."""

    folder: Path
    events: int
    rounds: int
    many_events: int
    shards: int
    is_quick: bool = False

    def make_folder(self, name: str) -> Path:
        """Return an empty folder of this name."""
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def has_room(self, needed_bytes: int) -> bool:
        """Tell whether the disk has room for this, and a tenth more."""
        return shutil.disk_usage(self.folder).free > needed_bytes * 1.1


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A function that measures, with its name and what it measures in a sentence.

    One that takes long or needs much disk is not run by default.
    """

    name: str
    title: str
    run: Callable[[Workshop], Sequence[Row]]
    is_default: bool = True


def find_contract_folder() -> Path | None:
    """Return the folder with the programs of the environment that holds Oracle's own command, if there is one."""
    folder = Path(os.environ.get("OCI_AUDIT_CONTRACT_VENV") or ROOT / ".venv-contract") / "bin"
    return folder if (folder / "oci").exists() else None


def note_lack_of_room(name: str, needed_bytes: int) -> list[Row]:
    """Return the row that stands for a benchmark that the disk has no room for."""
    return [Row(f"{name}: skipped, it needs {needed_bytes / 1e9:.0f} GB of disk")]
