"""A kill at every call that the store makes to the disk, one after the other, and the same command again."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ociaudit.operations.verify import verify_export
from support.emulator import Emulator
from support.exports import point_at, read_manifest
from support.kill_at_call import Ended, KillableCommand
from support.processes import make_environment
from support.run_directories import list_committed, list_files, list_requests, read_journal
from support.stands import END, KILLED, REGION, SECOND, START, list_commits
from support.truth import find_compartment, list_events, write_array

# Refused without a repeat, so that nothing waits.
BROKEN = {
    "operation": "ListEvents",
    "times": None,
    "match": {"startTime": SECOND},
    "fault": {"kind": "status", "status": 400},
}
# Calls that leave something else on the disk than stood there before.
CHANGES = ("mkdir(", "open(", "write(", "ftruncate(", "replace(", "rename(", "unlink(", "rmdir(")
WORKERS = 2
pytestmark = pytest.mark.timeout(600)  # hundreds of killed runs each; a busy machine may be slow
# Every page is a commit, and the few events are enough for a dictionary.
SMALL = {"COMMIT_BYTES": 0, "_SAMPLE_COUNT": 100}


@dataclass(frozen=True)
class Stand:
    """An emulator, a process that forks commands, and the same small export for both."""

    emulator: Emulator
    command: KillableCommand
    arguments: tuple[str, ...]

    def export(self, folder: Path, *options: str, call: int | None = None, when: str = "before") -> Ended:
        """Run the export in a folder, to its end or to a call."""
        variables = make_environment(folder, **point_at(self.emulator))
        return self.command((*self.arguments, *options), cwd=folder, variables=variables, call=call, when=when)


@dataclass(frozen=True)
class Scenario:
    """A command that is killed: `prepare` makes the folder in which it begins."""

    name: str
    prepare: Callable[[Stand, Path], object] = lambda _stand, _folder: None
    options: tuple[str, ...] = ()
    fault: dict[str, object] | None = None
    status: int = 0
    is_like_fresh: bool = False
    """Once its plan is written it does what a fresh run does; most of its pages are left out."""


def leave_a_gap(stand: Stand, folder: Path) -> None:
    """Leave an export with a gap, which is there no more."""
    stand.emulator.faults([BROKEN])
    assert stand.export(folder).status == 10
    stand.emulator.clear_faults()


def leave_a_damaged_run(stand: Stand, folder: Path) -> None:
    """Leave a killed run: a bit of its log flipped, its log and its journal torn."""
    calls = stand.export(folder).calls
    for path in folder.iterdir():
        path.unlink()
    torn = list_commits(calls)[4] - 1  # the write before the sync
    assert stand.export(folder, call=torn, when="torn").status == KILLED
    run = folder / "audit.json.run"
    pages = [line for line in read_journal(run) if line["kind"] == "page"]
    log = bytearray((run / "events.log").read_bytes())
    log[pages[1]["offset"] + 100] ^= 1
    (run / "events.log").write_bytes(log)


def leave_a_run_to_clean_up(stand: Stand, folder: Path) -> None:
    """Leave a run whose output is published and whose run directory has not been removed."""
    calls = stand.export(folder).calls
    for path in folder.iterdir():
        path.unlink()
    ledger = next(number for number, name in enumerate(calls, 1) if name.startswith("replace") and ".manifest" in name)
    assert stand.export(folder, call=ledger, when="after").status == KILLED


def leave_a_foreign_output(_stand: Stand, folder: Path) -> None:
    """Leave a file of somebody else under the output's name."""
    (folder / "audit.json").write_text("somebody else's")


FRESH = Scenario("fresh")
SCENARIOS = [
    FRESH,
    Scenario("a gap filled", leave_a_gap),
    Scenario("a gap that stays", leave_a_gap, fault=BROKEN, status=10),
    Scenario("a damaged run resumed", leave_a_damaged_run),
    Scenario("a run cleaned up", leave_a_run_to_clean_up),
    Scenario("an output replaced", leave_a_foreign_output, ("--overwrite",), is_like_fresh=True),
    Scenario("an incomplete output restarted", leave_a_gap, ("--restart",), is_like_fresh=True),
    Scenario("a run restarted", leave_a_damaged_run, ("--restart",), is_like_fresh=True),
]


@pytest.fixture(scope="module")
def stands():
    """As many stands as there are workers."""
    with ExitStack() as stack:
        made = []
        for _ in range(WORKERS):
            emulator = stack.enter_context(
                Emulator("--retention-days", "36500", "--events-per-day", "240", "--page-size", "60")
            )
            compartments = (find_compartment(emulator, "payments"), emulator.tenancy()["id"])
            arguments = ("export", "--config-file", str(emulator.config_path), "--start", START, "--end", END)
            arguments += ("--max-window-days", "1", "--region", REGION, "--no-subtree", "-o", "audit.json")
            arguments += tuple(f"--compartment={one}" for one in compartments)
            made.append(Stand(emulator, stack.enter_context(KillableCommand(**SMALL)), arguments))
        yield made


@pytest.fixture
def quick_folder(tmp_path):
    """A folder in memory where there is one: what counts here is the order of the calls, and syncs take their time."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="oci-audit-test-") as folder:
        yield Path(folder)


@dataclass(frozen=True)
class Undisturbed:
    """What a scenario comes to when nobody kills it."""

    start: Path
    calls: tuple[str, ...]
    data: bytes
    files: set[str]
    questions: set[object]


def run_undisturbed(stand: Stand, scenario: Scenario, folder: Path) -> Undisturbed:
    """Prepare a scenario and run it to its end."""
    start, end = folder / "start", folder / "end"
    start.mkdir()
    scenario.prepare(stand, start)
    shutil.copytree(start, end)
    if scenario.fault:
        stand.emulator.faults([scenario.fault])
    stand.emulator.clear_log()
    ended = stand.export(end, *scenario.options)
    assert ended.status == scenario.status, ended.stderr
    questions = set(list_requests(stand.emulator.log()))
    return Undisturbed(start, ended.calls, (end / "audit.json").read_bytes(), list_files(end), questions)


def check_kill(stand: Stand, scenario: Scenario, expected: Undisturbed, folder: Path, call: int, when: str) -> None:
    """Kill the scenario at a call, run the same command again, and compare."""
    shutil.copytree(expected.start, folder)
    where = f"{scenario.name}, killed {when} call {call}: {expected.calls[call - 1]}"
    killed = stand.export(folder, *scenario.options, call=call, when=when)
    assert killed.status == KILLED, f"{where}: {killed}"
    before, after = (list_committed(one / "audit.json.run") for one in (expected.start, folder))
    # What stands behind a damaged page is asked again with it, as an undisturbed resume does.
    committed = {asked for at, asked in after.items() if at not in before or asked not in expected.questions}
    is_over = (folder / "audit.json.manifest.json").exists() and not scenario.status and not scenario.options
    is_over = is_over and read_manifest(folder / "audit.json")["complete"]
    stand.emulator.clear_log()
    again = stand.export(folder, *scenario.options)
    assert again.status == scenario.status, f"{where}: {again.stderr}"
    data = (folder / "audit.json").read_bytes()
    assert hashlib.sha256(data).digest() == hashlib.sha256(expected.data).digest(), where
    assert list_files(folder) == expected.files, where
    result = verify_export(folder / "audit.json", manifest_path=folder / "audit.json.manifest.json")
    assert (result.verdict.kind, result.problems) == ("incomplete" if scenario.status else "complete", []), where
    if "--restart" not in scenario.options:
        log = stand.emulator.log()
        asked = list_requests(log)
        assert not committed & set(asked), f"{where}: asked again for what was there"
        assert set(asked) <= expected.questions, where
        assert not (is_over and log), f"{where}: {log}"
    shutil.rmtree(folder)


def check_all(stands, scenario, folder, when, *, wanted="", is_every=False):
    """Kill a scenario at each of its calls whose words begin with `wanted`, some at a time.

    Before a call that leaves the disk as it is (a sync, a close, a lock) a kill leaves what one before the next call
    does; only with `is_every` it is done all the same.
    """
    for stand in stands:
        stand.emulator.clear_faults()
    expected = run_undisturbed(stands[0], scenario, folder)
    begins = wanted or (() if is_every else CHANGES)
    numbers = [number for number, name in enumerate(expected.calls, 1) if not begins or name.startswith(begins)]
    if scenario.is_like_fresh:
        commits = list_commits(expected.calls)
        numbers = [number for number in numbers if not commits[2] < number < commits[-1]]
    if scenario.fault:
        for stand in stands[1:]:
            stand.emulator.faults([scenario.fault])

    def work(first: int) -> None:
        for number in numbers[first::WORKERS]:
            check_kill(stands[first], scenario, expected, folder / f"{number}", number, when)

    try:
        with ThreadPoolExecutor(WORKERS) as threads:
            list(threads.map(work, range(WORKERS)))
    finally:
        for stand in stands:
            stand.emulator.clear_faults()
    return expected, len(numbers)


def test_kill_before_every_call(stands, quick_folder):
    """A kill before any call to the disk, then the same command again, comes to what an undisturbed run does."""
    expected, killed = check_all(stands, FRESH, quick_folder, "before", is_every=True)
    assert killed == len(expected.calls)


@pytest.mark.parametrize("scenario", SCENARIOS[1:], ids=lambda scenario: scenario.name)
def test_kill_before_every_change(stands, quick_folder, scenario):
    """The same for commands that find something: a kill before each call that changes the disk."""
    expected, killed = check_all(stands, scenario, quick_folder, "before")
    changes = sum(name.startswith(CHANGES) for name in expected.calls)
    assert killed == changes or (scenario.is_like_fresh and killed > 20)


def test_kill_after_the_last_call(stands, quick_folder):
    """A kill when all is done, which no kill before a call is, changes nothing either."""
    expected = run_undisturbed(stands[0], FRESH, quick_folder)
    check_kill(stands[0], FRESH, expected, quick_folder / "killed", len(expected.calls), "after")


@pytest.mark.parametrize("scenario", SCENARIOS[:2], ids=lambda scenario: scenario.name)
def test_kill_within_every_write(stands, quick_folder, scenario):
    """A kill that leaves half of what was being written, then the same command again, comes to the same."""
    _, killed = check_all(stands, scenario, quick_folder, "torn", wanted="write(")
    assert killed > 10


def test_every_kind_of_call_is_met(stands, quick_folder):
    """The export that is killed takes a dictionary, syncs, renames, locks and removes, and is the truth."""
    expected = run_undisturbed(stands[0], FRESH, quick_folder)
    kinds = {name.partition("(")[0] for name in expected.calls}
    assert kinds >= {"mkdir", "open", "flock", "write", "fsync", "replace", "unlink", "rmdir", "close"}
    assert kinds & {"fdatasync", "fcntl"}
    compartments = [part.partition("=")[2] for part in stands[0].arguments if part.startswith("--compartment=")]
    events = list_events(stands[0].emulator, START, END, regions=[REGION], compartments=compartments)
    assert expected.data == write_array(events)
    assert len(events) > 200
    interrupted = replace(FRESH, name="dictionary")
    number = next(n for n, name in enumerate(expected.calls, 1) if name.startswith("rmdir"))
    assert stands[0].export(expected.start, *interrupted.options, call=number - 2).status == KILLED
    assert "dictionary" in {line["kind"] for line in read_journal(expected.start / "audit.json.run")}
