"""The modes of `oci-audit export`: which options go together, and the dry run's answer.

Owns: the refusal of options that would be ignored. Must not: resolve anything.
"""

from __future__ import annotations

import json

from ociaudit.cli import console
from ociaudit.cli.preview_view import describe_preview, show_preview
from ociaudit.errors import UsageError
from ociaudit.jobs.preview import Preview


def check_modes(*, output: str | None, dry_run: bool, probe: bool, as_json: bool) -> None:
    """Refuse options that mean nothing beside the others.

    Raises:
        UsageError: one of them would be ignored, or the output is missing.
    """
    if not dry_run:
        for name, is_given in (("--probe", probe), ("--json", as_json)):
            if is_given:
                raise UsageError(f"{name} means nothing without --dry-run", hint=f"add --dry-run, or leave {name} away")
        if output is None:
            raise UsageError("Missing option '-o' / '--output'.", hint="see `oci-audit export --help`")


def say_preview(preview: Preview, *, as_json: bool) -> int:
    """Print the dry run as what the command was asked for, and return the exit code."""
    if as_json:
        console.say_answer(json.dumps(show_preview(preview)))
    else:
        for line in describe_preview(preview):
            console.say_answer(line)
    return 0
