"""`oci-audit summary`: what a file of events tells at a glance. Owns: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ociaudit.cli import console


def summary(
    files: Annotated[list[Path], typer.Argument(help="Files with audit events; - is stdin.", metavar="FILE...")],
    *,
    is_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
    event_counts: Annotated[
        Path | None, typer.Option(help="Write how often each eventName occurs, as a JSON object.", metavar="FILE")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace that file if it exists.")] = False,
) -> int:
    """Show what a file tells: range, gaps, what is worth a look, most frequent, failures, sign-ins, new, IAM."""
    from ociaudit.cli.output_file import check_output
    from ociaudit.cli.signals import raise_on_signals
    from ociaudit.cli.summary_view import describe_summary, encode_summary
    from ociaudit.insight.counting import count_files
    from ociaudit.insight.summary import encode_counts, make_summary, read_coverage
    from ociaudit.store.durable import write_file

    paths = [None if str(path) == "-" else path for path in files]
    if event_counts:
        check_output(event_counts, inputs=files, can_overwrite=overwrite)
    with raise_on_signals():
        census = count_files(paths)
    result = make_summary(census, [read_coverage(path) for path in paths])
    if event_counts:
        write_file(event_counts, encode_counts(census))
    if is_json:
        console.say_answer(encode_summary(result))
    else:
        for line in describe_summary(result):
            console.say_answer(line)
    return 0
