"""The model of a benchmark: its rows, and the workspace that it runs in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
Figure = float | int | str


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: what was measured, the figures by name, and whether the target was reached.

    `is_reached` is None without a target, or when nothing could be measured.
    """

    name: str
    figures: Mapping[str, Figure] = field(default_factory=dict)
    target: str = ""
    is_reached: bool | None = None


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folder of a benchmark, and the amount of work: numbers of events, rounds and shards."""

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

    def has_space(self, needed_bytes: int) -> bool:
        """Return whether the disk has space for this and 10 % more."""
        return shutil.disk_usage(self.folder).free > needed_bytes * 1.1


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark: its name, its title, and the function that measures.

    A benchmark that takes long or needs much disk is not run by default.
    """

    name: str
    title: str
    run: Callable[[Workspace], Sequence[Row]]
    is_default: bool = True


def find_contract_folder() -> Path | None:
    """Return the folder of programs in the environment with Oracle's own CLI; None without that environment."""
    folder = Path(os.environ.get("OCI_AUDIT_CONTRACT_VENV") or ROOT / ".venv-contract") / "bin"
    return folder if (folder / "oci").exists() else None


def skip_without_space(name: str, needed_bytes: int) -> list[Row]:
    """Return the row of a benchmark that is skipped because the disk is too small."""
    return [Row(f"{name}: skipped, needs {needed_bytes / 1e9:.0f} GB of disk")]
