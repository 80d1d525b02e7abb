"""A file that a command is asked to write. Owns: the refusals that come before any work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ociaudit.errors import UsageError
from ociaudit.store.durable import check_replaceable, explain_disk


def check_output(path: Path, *, inputs: Sequence[Path], can_overwrite: bool) -> None:
    """Refuse an output that is an input, that exists, or that cannot be written.

    Raises:
        UsageError: it is an input, exists and may not be replaced, or is no file.
        DiskError: its folder cannot be written to.
    """
    check_replaceable(path)
    with explain_disk("look at", path):
        is_there = path.exists()
        is_input = is_there and any(one.exists() and path.samefile(one) for one in inputs)
    if is_input:
        raise UsageError(f"{path} is an input, and would be replaced by the output", hint="choose another output")
    if is_there and not can_overwrite:
        raise UsageError(f"{path} exists", hint="choose another name, or --overwrite to replace it")
