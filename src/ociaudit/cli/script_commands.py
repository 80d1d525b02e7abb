"""The two documented scripts, with the command lines that their documentation shows.

A script is an export with fixed options: both write one JSON array in the shape of Oracle's SDK, and replace their
output by rename. In `--eventfilter`, a part that is an OCID names the compartment; any other part is a regular
expression that is searched in the event type.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ociaudit.cli import console
from ociaudit.cli.app import run_guarded
from ociaudit.errors import DiskError, ExitCode, OciAuditError, UsageError

if TYPE_CHECKING:
    from ociaudit.cli.progress import QuietProgress
    from ociaudit.operations.context import Cancellation
    from ociaudit.operations.export import ExportResult

_OPTIONS = {"--config-file": "--ociconfig", "--profile": "--profilename", "-o": "--outputfile"}
_OPTION = re.compile(r"(?<!\S)(?:--config-file|--profile|-o)(?![\w-])")
_RESTART = "remove the folder {output}.run and run the same command again, which starts again"


@dataclass(frozen=True, slots=True)
class Script:
    """What distinguishes the two scripts."""

    name: str
    description: str
    date_form: re.Pattern[str]
    date_words: str
    max_chunk_days: int
    is_filter_required: bool
    counts_path: Path | None


STREAMER = Script(
    name="oci_audit_streamer.py",
    description="Write the audit events of one compartment as one JSON array, in chunks of at most 14 days.",
    date_form=re.compile(r"\d{4}-\d\d-\d\d", re.ASCII),
    date_words="YYYY-MM-DD, for example 2024-01-31",
    max_chunk_days=14,
    is_filter_required=True,
    counts_path=None,
)
LOGSTREAMER = Script(
    name="logstreamer.py",
    description="Write the audit events of the tenancy's root compartment as one JSON array, in chunks of "
    "at most 7 days, and count their names in allevents.json.",
    date_form=re.compile(r"\d\d\.\d\d\.\d\d", re.ASCII),
    date_words="DD.MM.YY, for example 31.12.25",
    max_chunk_days=7,
    is_filter_required=False,
    counts_path=Path("allevents.json"),
)


def main_streamer() -> None:
    """Run `oci_audit_streamer.py`."""
    sys.exit(run_guarded(lambda: run_script(STREAMER, sys.argv[1:]), sys.argv[1:]))


def main_logstreamer() -> None:
    """Run `logstreamer.py`."""
    sys.exit(run_guarded(lambda: run_script(LOGSTREAMER, sys.argv[1:]), sys.argv[1:]))


def run_script(script: Script, arguments: Sequence[str]) -> int:
    """Run a script with the arguments of its command line, and return the exit status.

    Raises:
        OciAuditError: as `export`, with hints that name the script's own options.
    """
    from ociaudit.operations.context import Cancellation

    given = _make_parser(script).parse_args(arguments)
    cancellation = Cancellation()
    try:
        with console.handle_signals(cancellation.cancel):
            return _export(script, given, cancellation)
    except OciAuditError as error:
        error.hint = _name_script_options(error.hint, script, given.outputfile)
        raise


def _export(script: Script, given: argparse.Namespace, cancellation: Cancellation) -> int:
    from ociaudit.cli.export_command import choose_progress, describe_empty_filter, describe_result

    for text in (given.startdate, given.enddate):
        _check_date(script, text)
    if script.counts_path and Path(given.outputfile).resolve() == script.counts_path.resolve():
        raise UsageError(
            f"--outputfile {given.outputfile} is the file for the counts of events by name",
            hint=f"choose another name: the counts are written to {script.counts_path}",
        )
    progress = choose_progress(is_quiet=False)
    try:
        result = _run_export(script, given, progress, cancellation)
    finally:
        progress.close()
    if script.counts_path and not result.was_complete_before:
        _write_counts(script.counts_path, result.tally)
    for line in (*describe_empty_filter(result), *describe_result(result)):
        console.print_message(line)
    for line in (
        console.describe_gaps(
            result.gaps,
            policy=result.policy,
            paths=result.manifest.scope.compartment_paths,
            requested=result.manifest.range,
        )
        if result.gaps
        else ()
    ):
        console.print_message(line)
    return ExitCode.OK if result.complete else ExitCode.INCOMPLETE


def _run_export(
    script: Script, given: argparse.Namespace, progress: QuietProgress, cancellation: Cancellation
) -> ExportResult:
    from ociaudit import api
    from ociaudit.client.auth import load_credentials
    from ociaudit.operations.context import ConnectionOptions, ExportOptions
    from ociaudit.operations.resume import ResumeOptions

    compartment, patterns = split_filter(given.eventfilter, given.compartment)
    credentials = load_credentials(given.ociconfig, given.profilename)
    return api.run_export(
        ExportOptions(
            start=given.startdate,
            end=given.enddate,
            output=api.resolve_path(given.outputfile),
            regions=[credentials.region],
            compartments=[compartment or credentials.tenancy],
            is_subtree=False,
            event_types=patterns,
            shape="sdk",
            max_window_days=script.max_chunk_days,
            resume=ResumeOptions(is_script=True),
            counted_name="event_name" if script.counts_path else None,
        ),
        ConnectionOptions(profile=given.profilename, config_file=given.ociconfig, uses_cli_variables=False),
        file_format="json",
        callbacks=progress,
        cancellation=cancellation,
    )


def split_filter(eventfilter: str | None, compartment: str | None) -> tuple[str | None, tuple[str, ...]]:
    """Return the compartment and the expressions that `--eventfilter` and `--compartment` name.

    Raises:
        UsageError: they name more than one compartment.
    """
    parts = [part.strip() for part in (eventfilter or "").split(";") if part.strip()]
    named = {part for part in parts if part.startswith("ocid1.")} | ({compartment} if compartment else set())
    if len(named) > 1:
        raise UsageError(
            f"more than one compartment is named: {', '.join(sorted(named))}",
            hint="name one; `oci-audit export --compartment A --compartment B` covers several",
        )
    patterns = tuple(part for part in parts if not part.startswith("ocid1."))
    return (named.pop() if named else None), patterns


def _name_script_options(hint: str, script: Script, output: str) -> str:
    """Return a hint with the option names of a script, which lacks some of `oci-audit export` and renames others."""
    hint = hint.replace("oci-audit export --help", f"{script.name} --help")
    hint = hint.replace("run the same command with --restart to start again", _RESTART.format(output=output))
    return _OPTION.sub(lambda match: _OPTIONS[match[0]], hint)


def _make_parser(script: Script) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=script.name, description=script.description)
    parser.add_argument("--startdate", required=True, help=f"first day, {script.date_words}")
    parser.add_argument("--enddate", required=True, help="last day, included, in the same form")
    parser.add_argument("--profilename", required=True, help="profile of the OCI configuration, for example DEFAULT")
    parser.add_argument("--outputfile", required=True, help="JSON file to write; it is overwritten")
    parser.add_argument(
        "--eventfilter",
        required=script.is_filter_required,
        help="OCID of the compartment to ask, and expressions to search in the event type, separated by ;",
    )
    parser.add_argument("--compartment", help="OCID of the compartment to ask (default: the profile's tenancy)")
    parser.add_argument("--ociconfig", help="OCI configuration file (default: ~/.oci/config)")
    return parser


def _check_date(script: Script, text: str) -> None:
    from ociaudit.planning.time_range import parse_date

    hint = f"write {script.date_words}"
    try:
        is_date = script.date_form.fullmatch(text) is not None and parse_date(text) is not None
    except UsageError as error:
        raise UsageError(str(error), hint=hint) from error
    if not is_date:
        raise UsageError(f"the date {text!r} does not have the required form", hint=hint)


def _write_counts(path: Path, tally: Mapping[str, int]) -> None:
    from ociaudit.storage.atomic_io import write_file

    counts = dict(sorted(tally.items(), key=lambda item: (-item[1], item[0])))
    try:
        write_file(path.absolute(), json.dumps(counts, indent=2).encode() + b"\n")
    except (DiskError, UsageError) as error:
        console.print_message(f"notice: the counts of event names were not written: {error}")
