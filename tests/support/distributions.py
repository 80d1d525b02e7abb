"""Distributions of a checkout, built by the locked build backend without a network."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_SUFFIXES = {"wheel": "*.whl", "sdist": "*.tar.gz"}


def build_distributions(
    source: Path, output: Path, *targets: str, variables: Mapping[str, str] | None = None
) -> dict[str, Path]:
    """Build targets (`wheel`, `sdist`) of a source tree into a folder, and return the files by target."""
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(output)]
    for target in targets:
        command += ["-t", target]
    environment = dict(os.environ) | {"SOURCE_DATE_EPOCH": "1767225600"} | dict(variables or {})
    subprocess.run(command, cwd=source, env=environment, check=True, capture_output=True)
    return {target: next(output.glob(_SUFFIXES[target])) for target in targets}
