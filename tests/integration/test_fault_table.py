"""The faults of docs/explanation/reliability.md that no other file has."""

import asyncio
import re
import shutil
from datetime import timedelta

import pytest

from ociaudit.operations.context import ExportOptions
from ociaudit.operations.verify import verify_export
from support.clocks import NoWaitClock
from support.emulator import Emulator
from support.exports import export_here, make_tools, read_manifest, run_export
from support.processes import obey_file_modes
from support.run_directories import list_files, list_requests, read_journal
from support.stands import (
    END,
    FIRST_DAY,
    FLAGS,
    KILLED,
    PUBLISHED,
    REGION,
    SECOND,
    SECOND_DAY,
    START,
    Stand,
    find_call,
    list_commits,
)
from support.truth import find_compartment, list_events, list_regions, write_array

EMULATOR_FLAGS = FLAGS  # two pages for the first day and three for the second


@pytest.fixture(scope="module")
def payments(shared_emulator):
    """The compartment that is asked."""
    return find_compartment(shared_emulator, "payments")


@pytest.fixture(scope="module")
def truth(shared_emulator, payments):
    """The events of both days, as lines."""
    return list_events(shared_emulator, START, END, regions=[REGION], compartments=[payments])


@pytest.fixture(scope="module")
def calls(shared_emulator, command, payments, tmp_path_factory):
    """The calls to the disk of an undisturbed export, so that a test can choose its moment."""
    ended = Stand(shared_emulator, command, tmp_path_factory.mktemp("undisturbed"), payments).export()
    assert ended.status == 0, ended.stderr
    return ended.calls


@pytest.fixture
def stand(emulator, command, tmp_path, payments):
    """A stand in an empty folder."""
    return Stand(emulator, command, tmp_path, payments)


def assert_whole(stand, truth, ended) -> None:
    """Insist on a complete output with a good statement, and nothing else."""
    assert ended.status == 0, ended.stderr
    assert stand.output.read_bytes() == write_array(truth)
    assert list_files(stand.folder) == PUBLISHED
    assert (
        verify_export(stand.output, manifest_path=stand.folder / "audit.json.manifest.json").verdict.kind == "complete"
    )


def ask_here(emulator, compartments, *, regions=(REGION,)):
    """Return the arguments of an export of both days in this process."""
    return ExportOptions(
        start=START,
        end=END,
        regions=tuple(regions),
        compartments=tuple(compartments),
        is_subtree=False,
    )


def test_storm_of_429(tmp_path):
    """Where nearly every request is one too many the run takes its time, and loses nothing."""
    with Emulator(*FLAGS[:-1], "8", "--rate-limit", "5") as emulator:
        payments = find_compartment(emulator, "payments")
        outcome = export_here(
            ask_here(emulator, [payments]), tmp_path / "audit.json", make_tools(emulator, clock=HurriedClock())
        )
        statuses = [entry["status"] for entry in emulator.log() if entry["operation"] == "ListEvents"]
        expected = list_events(emulator, START, END, regions=[REGION], compartments=[payments])
    assert statuses.count(429) >= 2
    assert outcome.complete
    assert (tmp_path / "audit.json").read_bytes() == write_array(expected)


class HurriedClock(NoWaitClock):
    """A clock that waits, but not for long."""

    async def sleep(self, seconds):
        self.waits.append(seconds)
        await asyncio.sleep(min(seconds, 0.4))


def test_lone_surrogates_are_kept(emulator, tmp_path):
    """An event with half of a surrogate pair in it comes out as it was served."""
    root = emulator.tenancy()["id"]
    span = ("2025-06-02T00:00:00Z", "2025-06-06T00:00:00Z")
    expected = list_events(emulator, *span, regions=[REGION], compartments=[root])
    lonely = [line for line in expected if re.search(rb"(?i)\\ud8[0-9a-f]{2}(?!\\ud[c-f])", line)]
    finished = run_export(
        emulator,
        tmp_path,
        *("--start", span[0], "--end", span[1], "--region", REGION, "--compartment", root, "--no-subtree"),
        *("-o", "audit.json"),
    )
    assert lonely
    assert finished.code == 0, finished.stderr
    assert (tmp_path / "audit.json").read_bytes() == write_array(expected)


def test_identical_events_across_pages(emulator, payments, truth, tmp_path):
    """Pages that come a second time, because a token was refused, add nothing but to the count."""
    emulator.faults(
        [
            {
                "operation": "ListEvents",
                "match": {"page": "later", "startTime": SECOND},
                "skip": 1,
                "fault": {"kind": "expired_token"},
            }
        ]
    )
    context = make_tools(emulator)
    outcome = export_here(ask_here(emulator, [payments]), tmp_path / "audit.json", context, max_window_days=1)
    assert emulator.fault_states()[0]["fired"] == 1
    assert outcome.manifest.totals.identical == 80
    assert outcome.manifest.totals.scanned == len(truth) + 80
    assert (tmp_path / "audit.json").read_bytes() == write_array(truth)


def test_compartment_forbidden_half_way(stand, truth):
    """What came before the refusal is kept and stated; the rest is one denied gap, asked again later."""
    stand.emulator.faults(
        [
            {
                "operation": "ListEvents",
                "match": {"page": "later", "startTime": SECOND},
                "times": None,
                "fault": {"kind": "status", "status": 404},
            }
        ]
    )
    ended = stand.export()
    gaps = read_manifest(stand.output)["gaps"]
    assert ended.status == 10, ended.stderr
    assert stand.emulator.fault_states()[0]["fired"] == 1
    assert [(gap["start"], gap["end"], gap["kind"]) for gap in gaps] == [(SECOND, END, "denied")]
    lines = {line.removesuffix(b",") for line in stand.output.read_bytes().splitlines()[1:-1]}
    assert set(truth[:10]) < lines < set(truth)
    verified = verify_export(stand.output, manifest_path=stand.folder / "audit.json.manifest.json")
    assert (verified.verdict.kind, verified.problems) == ("incomplete", [])
    stand.emulator.clear_faults()
    assert_whole(stand, truth, stand.export())
    assert set(stand.list_asked()) == {SECOND}


def test_region_that_is_down(emulator, payments, tmp_path):
    """A region that never answers is a gap of all its windows; the others are complete."""
    down, *up = list_regions(emulator)
    fault = {"kind": "status", "status": 503}
    emulator.faults([{"operation": "ListEvents", "match": {"region": down}, "times": None, "fault": fault}])
    options = ask_here(emulator, [payments], regions=[down, *up])
    outcome = export_here(options, tmp_path / "audit.json", make_tools(emulator), max_window_days=1)
    assert emulator.fault_states()[0]["fired"] >= 8
    assert {gap.region for gap in outcome.manifest.gaps} == {down}
    expected = list_events(emulator, START, END, regions=up, compartments=[payments])
    assert (tmp_path / "audit.json").read_bytes() == write_array(expected)
    covered = {target.region: target.windows for target in outcome.manifest.coverage}
    assert covered == {down: (), **dict.fromkeys(up, ((START, END),))}


def test_key_revoked_half_way(stand, truth):
    """A key that is refused after good answers stops the run with exit 3; with a good one it goes on."""
    fault = {"kind": "status", "status": 401}
    stand.emulator.faults([{"operation": "*", "skip": 4, "times": None, "fault": fault}])
    ended = stand.export()
    assert ended.status == 3, ended.stderr
    assert stand.emulator.fault_states()[0]["fired"] >= 1
    assert "hint: " in ended.stderr
    assert not stand.output.exists()
    stand.emulator.clear_faults()
    assert_whole(stand, truth, stand.export())
    assert 0 < len(stand.list_asked()) < len(FIRST_DAY + SECOND_DAY)


def test_full_disk_at_every_write(stand, truth, calls):
    """A write that the system refuses for lack of room, whichever it is, is exit 5 and costs nothing that was there."""
    writes = [number for number, name in enumerate(calls, 1) if name.startswith("write(")]
    files = set()
    for number in writes:
        shutil.rmtree(stand.run_directory, ignore_errors=True)
        for path in stand.folder.iterdir():
            path.unlink()
        ended = stand.export(call=number, when="full")
        where = f"write {number} of {calls[number - 1]}: {ended.stderr}"
        assert ended.status == 5, where
        named = re.search(r"error: cannot write to (\S+):", ended.stderr)
        assert named, where
        assert "is full; make room" in ended.stderr, where
        files.add(named[1].rpartition("/")[2])
        assert not [name for name in list_files(stand.folder) if name.endswith(".partial")], where
        if stand.output.exists():
            assert stand.output.read_bytes() == write_array(truth), where
        assert_whole(stand, truth, stand.export())
    assert files == {"plan.json", "journal.ndjson", "events.log", *PUBLISHED}


def test_full_disk_keeps_an_earlier_output(stand, truth, calls):
    """A disk that is full while an earlier output is replaced leaves that one as it was."""
    assert stand.export(end=SECOND).status == 0
    before = stand.output.read_bytes()
    number = find_call(calls, r"open\(.*/\.audit\.json\.partial")
    write = next(n for n, name in enumerate(calls, 1) if n > number and name.startswith("write("))
    ended = stand.export("--overwrite", call=write, when="full")
    assert ended.status == 5, ended.stderr
    assert stand.output.read_bytes() == before
    assert_whole(stand, truth, stand.export("--overwrite"))


@pytest.mark.parametrize("damage", ["cut", "cut to nothing", "flipped", "deleted"])
def test_damaged_log(stand, truth, calls, damage):
    """Pages that are not in the log as they were written are found and asked again, and only they."""
    assert stand.export(call=list_commits(calls)[-1], when="after").status == KILLED
    log = stand.run_directory / "events.log"
    pages = [line for line in read_journal(stand.run_directory) if line["kind"] == "page"]
    assert len(pages) == 5
    data = bytearray(log.read_bytes())
    if damage == "cut":
        log.write_bytes(data[: pages[-1]["offset"] + 10])
    elif damage == "cut to nothing":
        log.write_bytes(b"")
    elif damage == "flipped":
        data[pages[-1]["offset"] + pages[-1]["length"] // 2] ^= 4
        log.write_bytes(data)
    else:
        log.unlink()
    ended = stand.export()
    assert_whole(stand, truth, ended)
    assert "damaged" in ended.stderr
    assert stand.list_asked() == ([SECOND] if damage in {"cut", "flipped"} else FIRST_DAY + SECOND_DAY)


def test_damaged_log_that_cannot_be_asked_again(stand, truth, calls):
    """A page that is damaged and does not come again is a gap, and the statement about that is consistent."""
    assert stand.export(call=list_commits(calls)[-1], when="after").status == KILLED
    log = stand.run_directory / "events.log"
    pages = [line for line in read_journal(stand.run_directory) if line["kind"] == "page"]
    data = bytearray(log.read_bytes())
    data[pages[-2]["offset"] + 100] ^= 4
    log.write_bytes(data)
    fault = {"kind": "status", "status": 400}
    stand.emulator.faults([{"operation": "ListEvents", "times": None, "fault": fault}])
    ended = stand.export()
    assert ended.status == 10, ended.stderr
    assert stand.emulator.fault_states()[0]["fired"] > 0
    assert [gap["start"] for gap in read_manifest(stand.output)["gaps"]] == [SECOND]
    verified = verify_export(stand.output, manifest_path=stand.folder / "audit.json.manifest.json")
    assert (verified.verdict.kind, verified.problems) == ("incomplete", [])
    stand.emulator.clear_faults()
    assert_whole(stand, truth, stand.export())


@pytest.mark.parametrize("cut", [1, 30, 300])
def test_torn_journal(stand, truth, calls, cut):
    """What a torn last line spoke of is asked again; the lines before it count."""
    stand.kill_half_way(calls)
    journal = stand.run_directory / "journal.ndjson"
    data = journal.read_bytes()
    journal.write_bytes(data[:-cut])
    ended = stand.export()
    assert_whole(stand, truth, ended)
    assert "torn" in ended.stderr
    assert len(stand.list_asked()) == 4


@pytest.mark.parametrize("has_more", [False, True])
def test_journal_with_unwritten_blocks(stand, truth, calls, has_more):
    """Zeros where a loss of power kept lines from the disk are cut off, with all that got there behind them."""
    stand.kill_half_way(calls)
    journal = stand.run_directory / "journal.ndjson"
    lines = journal.read_bytes().splitlines(keepends=True)
    kept = b"".join(lines[:-1])
    hole = b"\0" * (512 - len(kept) % 512)
    journal.write_bytes(kept + hole + (b"torn}\n" + lines[-1] if has_more else b""))
    ended = stand.export()
    assert_whole(stand, truth, ended)
    assert "the journal's end is torn" in ended.stderr
    assert len(stand.list_asked()) == 4


@pytest.mark.parametrize("damage", ["garbage within", "garbage at the end", "of another run"])
def test_foreign_journal(stand, truth, calls, damage):
    """A journal that this run did not write is refused, with the place, and nothing is thrown away unasked."""
    stand.kill_half_way(calls)
    journal = stand.run_directory / "journal.ndjson"
    lines = journal.read_bytes().splitlines(keepends=True)
    if damage == "garbage within":
        lines[1] = b"\0\xff garbage\n"
    elif damage == "garbage at the end":
        lines += [b"some\n", b"garbage\n"]
    else:
        plan = (stand.run_directory / "plan.json").read_bytes()
        shutil.rmtree(stand.run_directory)
        stand.kill_half_way(calls, "--event-type", "Launch")
        lines = journal.read_bytes().splitlines(keepends=True)
        (stand.run_directory / "plan.json").write_bytes(plan)
    journal.write_bytes(b"".join(lines))
    ended = stand.export()
    assert ended.status == 6, ended.stderr
    assert re.search(r"journal\.ndjson (is damaged in line \d|does not belong to the plan)", ended.stderr)
    assert "--restart" in ended.stderr
    assert journal.read_bytes() == b"".join(lines)
    assert stand.emulator.log() == []
    assert_whole(stand, truth, stand.export("--restart"))


def test_folder_that_is_read_only(stand, truth, calls, tmp_path_factory):
    """A folder that cannot be written to is exit 5 before anybody is asked, and later it goes on."""
    stand.kill_half_way(calls)
    stand.folder.chmod(0o500)
    home = tmp_path_factory.mktemp("home")
    try:
        stand.emulator.clear_log()
        arguments = [*stand.list_arguments()[3:]]
        arguments[arguments.index("audit.json")] = str(stand.output)
        finished = run_export(stand.emulator, home, *arguments, wrap=obey_file_modes)
    finally:
        stand.folder.chmod(0o700)
    assert finished.code == 5, finished.stderr
    assert "is not writable" in finished.stderr
    assert stand.emulator.log() == []
    assert_whole(stand, truth, stand.export())
    assert stand.list_asked() == SECOND_DAY


class FastForwardClock(NoWaitClock):
    """A clock that is set back by some minutes each time somebody has looked at it ten times."""

    def __init__(self, step: timedelta) -> None:
        super().__init__()
        self._step = step
        self.looks = 0

    def now(self):
        self.looks += 1
        return super().now() - self._step * (self.looks // 10 % 2)


def test_clock_that_jumps_back(emulator, payments, truth, tmp_path):
    """A clock that jumps back by minutes, again and again, within a run and between two, changes no byte."""
    output = tmp_path / "audit.json"
    fault = {"kind": "status", "status": 400}
    emulator.faults([{"operation": "ListEvents", "match": {"startTime": SECOND}, "times": None, "fault": fault}])
    clock = FastForwardClock(timedelta(minutes=4))
    assert not export_here(
        ask_here(emulator, [payments]), output, make_tools(emulator, clock=clock), max_window_days=1
    ).complete
    assert clock.looks > 10
    emulator.clear_faults()
    emulator.clear_log()
    back = FastForwardClock(timedelta(minutes=-4))
    outcome = export_here(ask_here(emulator, [payments]), output, make_tools(emulator, clock=back), max_window_days=1)
    assert outcome.complete
    assert output.read_bytes() == write_array(truth)
    assert {one.start for one in list_requests(emulator.log())} == {SECOND}
    assert verify_export(output, manifest_path=tmp_path / "audit.json.manifest.json").verdict.kind == "complete"
    assert list_files(tmp_path) == PUBLISHED
