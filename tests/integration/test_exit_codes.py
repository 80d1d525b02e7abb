import json
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from support.emulator import Emulator
from support.exports import make_command, point_at, run_export
from support.processes import Finished, finish_process, prepare_in_shell, start_process

DAYS = ("--start", "2025-06-02", "--end", "2025-06-03")
OUTPUT = ("-o", "audit.json")
NOT_FOUND = {"kind": "status", "status": 404}


def complete(emulator: Emulator, folder: Path) -> Finished:
    """Ask what can be read."""
    return run_export(emulator, folder, *DAYS, *OUTPUT, "--compartment", emulator.tenancy()["id"], "--no-subtree")


def waive_all(emulator: Emulator, folder: Path) -> Finished:
    """Ask everything, and expect the one denial that there is."""
    forbidden = next(one["id"] for one in emulator.tenancy()["compartments"] if one["isForbidden"])
    (folder / "known").write_text(f"# not ours\n{forbidden}  # investigations\n")
    return run_export(emulator, folder, *DAYS, *OUTPUT, "--waive", "known")


def require_final(emulator: Emulator, folder: Path) -> Finished:
    """Require a final export of a range that ends tomorrow."""
    days = [(datetime.now(UTC) + timedelta(days=number)).strftime("%Y-%m-%d") for number in (-1, 1)]
    scope = ("--compartment", emulator.tenancy()["id"], "--no-subtree", "--require-final")
    return run_export(emulator, folder, "--start", days[0], "--end", days[1], *OUTPUT, *scope)


def repeat(emulator: Emulator, folder: Path) -> Finished:
    """Ask again what is complete already."""
    complete(emulator, folder)
    emulator.clear_log()
    finished = complete(emulator, folder)
    assert emulator.log() == []
    assert "nothing was requested" in finished.stderr
    return finished


def misuse(emulator: Emulator, folder: Path) -> Finished:
    """Ask for a time that has no form."""
    return run_export(emulator, folder, *DAYS, *OUTPUT, "--start", "soon")


def misconfigure(emulator: Emulator, folder: Path) -> Finished:
    """Name a profile that does not exist."""
    return run_export(emulator, folder, *DAYS, *OUTPUT, "--profile", "NOBODY")


def be_rejected(emulator: Emulator, folder: Path) -> Finished:
    """Sign in where nobody may."""
    emulator.faults([{"operation": "*", "times": None, "fault": {"kind": "status", "status": 401}}])
    return run_export(emulator, folder, *DAYS, *OUTPUT)


def be_kept_in_the_dark(emulator: Emulator, folder: Path) -> Finished:
    """Ask where the compartments may not be listed."""
    emulator.faults([{"operation": "ListCompartments", "times": None, "fault": NOT_FOUND}])
    return run_export(emulator, folder, *DAYS, *OUTPUT)


def be_ignored(emulator: Emulator, folder: Path) -> Finished:
    """Ask where nobody answers as Oracle does."""
    emulator.faults([{"operation": "*", "times": None, "fault": {"kind": "status", "status": 404, "code": ""}}])
    return run_export(emulator, folder, *DAYS, *OUTPUT)


def run_out_of_disk(emulator: Emulator, folder: Path) -> Finished:
    """Write where there is no room."""
    return run_export(emulator, folder, *DAYS, *OUTPUT, wrap=partial(prepare_in_shell, "ulimit -f 100"))


def damage_the_plan(emulator: Emulator, folder: Path) -> Finished:
    """Go on with a run whose plan is not what was written."""
    run_export(emulator, folder, *DAYS, *OUTPUT)
    (folder / "audit.json.run" / "plan.json").write_text('{"schema":"something else"}')
    return run_export(emulator, folder, *DAYS, *OUTPUT)


def damage_the_journal(emulator: Emulator, folder: Path) -> Finished:
    """Go on with a run whose journal was changed in its middle."""
    run_export(emulator, folder, *DAYS, *OUTPUT)
    journal = folder / "audit.json.run" / "journal.ndjson"
    first, second, *rest = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([first, second.replace(b"e", b"E", 1), *rest]))
    return run_export(emulator, folder, *DAYS, *OUTPUT)


def leave_gaps(emulator: Emulator, folder: Path) -> Finished:
    """Ask everything, one compartment of which is forbidden."""
    return run_export(emulator, folder, *DAYS, *OUTPUT)


def interrupt(number: signal.Signals, emulator: Emulator, folder: Path) -> Finished:
    """Send a signal while pages are under way."""
    emulator.faults([{"operation": "ListEvents", "skip": 5, "times": None, "fault": {"kind": "stall", "seconds": 30}}])
    process = start_process(make_command(emulator, *DAYS, *OUTPUT), cwd=folder, variables=point_at(emulator))
    deadline = time.monotonic() + 30
    while not emulator.fault_states()[0]["fired"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    return finish_process(process)


@dataclass(frozen=True)
class Row:
    """A row of the table of exit codes: the code, a way to it, whether an output stands, whether a run stays."""

    code: int
    act: Callable[[Emulator, Path], Finished]
    has_output: bool = False
    has_run: bool = False

    def __str__(self) -> str:
        act = getattr(self.act, "func", self.act)
        return f"{self.code} {act.__name__}"


TABLE = [
    Row(0, complete, has_output=True),
    Row(0, waive_all, has_output=True),
    Row(0, repeat, has_output=True),
    Row(2, misuse),
    Row(2, misconfigure),
    Row(3, be_rejected),
    Row(3, be_kept_in_the_dark),
    Row(4, be_ignored),
    Row(5, run_out_of_disk, has_run=True),
    Row(6, damage_the_plan, has_output=True, has_run=True),
    Row(6, damage_the_journal, has_output=True, has_run=True),
    Row(10, leave_gaps, has_output=True, has_run=True),
    Row(11, require_final, has_output=True, has_run=True),
    Row(130, partial(interrupt, signal.SIGINT), has_run=True),
    Row(143, partial(interrupt, signal.SIGTERM), has_run=True),
]


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_exit_code(emulator, tmp_path, row):
    """Each exit code comes when the table says so, with a sentence and a hint unless all is well."""
    finished = row.act(emulator, tmp_path)
    assert finished.code == row.code, finished.stderr
    assert finished.stdout == b""
    assert "Traceback" not in finished.stderr
    assert (tmp_path / "audit.json").exists() is row.has_output
    assert (tmp_path / "audit.json.run").exists() is row.has_run
    if row.code not in {0, 10, 11}:
        assert len(finished.error_lines) == len(finished.hint_lines) == 1, finished.stderr
    if row.has_output:
        json.loads((tmp_path / "audit.json").read_bytes())


def test_interrupted_run_can_be_finished(emulator, tmp_path):
    """An interrupted run says how far it came, and the same command goes on to the end."""
    finished = interrupt(signal.SIGTERM, emulator, tmp_path)
    assert "everything received is kept" in finished.error_lines[0]
    assert "same command" in finished.hint_lines[0]
    emulator.clear_faults()
    assert run_export(emulator, tmp_path, *DAYS, *OUTPUT).code == 10


def test_help_and_version_are_complete(tmp_path):
    """`--help` and `--version` are exit 0 and answer on stdout."""
    from support.processes import find_command, run_process

    for option, word in (("--help", b"export"), ("--version", b"oci-audit ")):
        finished = run_process([find_command("oci-audit"), option], cwd=tmp_path)
        assert (finished.code, finished.stderr) == (0, "")
        assert word in finished.stdout
