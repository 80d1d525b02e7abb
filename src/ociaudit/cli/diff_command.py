"""`oci-audit diff`: do two exports hold the same? Owns: its options and its words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ociaudit.cli import console

DIFFERENT_EXIT_CODE = 7


def diff(
    a: Annotated[Path, typer.Argument(help="An export, or any JSON array of audit events.", metavar="A")],
    b: Annotated[Path, typer.Argument(help="Another one.", metavar="B")],
    *,
    is_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> int:
    """Compare two exports event by event, within what both of them cover.

    Exit codes: 0 no difference, 7 they differ, 6 a file cannot be read as a JSON array of events.
    """
    from ociaudit.cli.diff_view import describe_difference, encode_difference
    from ociaudit.jobs.diff import compare_exports

    difference = compare_exports(a, b)
    if is_json:
        console.say_answer(encode_difference(difference))
    else:
        for line in describe_difference(difference, a, b):
            console.say_answer(line)
    return 0 if difference.is_same else DIFFERENT_EXIT_CODE
