"""What a command does about what an earlier one left: one test for each row of docs/how-to/resuming.md."""

import json
import re
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ociaudit.operations.context import ExportOptions
from support.clocks import SkewedClock
from support.emulator import Emulator
from support.exports import export_here, make_tools, point_at, read_manifest
from support.kill_at_call import Ended
from support.processes import find_command, make_environment, run_process
from support.run_directories import list_files, list_requests
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
from support.truth import find_compartment, list_events, write_array

EMULATOR_FLAGS = FLAGS  # two pages for the first day and three for the second

# Refused without a repeat, so that nothing waits.
BROKEN = {"operation": "ListEvents", "times": None, "match": {"startTime": SECOND}, "fault": {"kind": "status"}}
BROKEN["fault"] |= {"status": 400}
ROWS: dict[str, Callable[..., None]] = {}


def row(words: str):
    """Say which row of the table a test proves."""

    def register(test: Callable[..., None]) -> Callable[..., None]:
        assert words not in ROWS
        ROWS[words] = test
        return test

    return register


@pytest.fixture(scope="module")
def truth(shared_emulator):
    """The file that every complete export of the two days holds."""
    compartment = find_compartment(shared_emulator, "payments")
    return write_array(list_events(shared_emulator, START, END, regions=[REGION], compartments=[compartment]))


@pytest.fixture(scope="module")
def calls(shared_emulator, command, tmp_path_factory):
    """The calls to the disk of an undisturbed export, so that a test can choose where to kill."""
    folder = tmp_path_factory.mktemp("undisturbed")
    stand = Stand(shared_emulator, command, folder, find_compartment(shared_emulator, "payments"))
    ended = stand.export()
    assert ended.status == 0
    return ended.calls


@pytest.fixture
def stand(emulator, command, tmp_path):
    """A stand in an empty folder."""
    return Stand(emulator, command, tmp_path, find_compartment(emulator, "payments"))


def kill_before(stand, calls, words, *options) -> None:
    """Kill an export before a call."""
    assert stand.export(*options, call=find_call(calls, words)).status == KILLED


def leave_a_gap(stand) -> Ended:
    """Leave an export whose second day is a gap that is no more."""
    stand.emulator.faults([BROKEN])
    ended = stand.export()
    assert ended.status == 10, ended.stderr
    assert stand.emulator.fault_states()[0]["fired"] > 0
    stand.emulator.clear_faults()
    return ended


def assert_whole(stand, truth, ended) -> None:
    """Insist on a complete output with its statement, and nothing else."""
    assert ended.status == 0, ended.stderr
    assert stand.output.read_bytes() == truth
    assert read_manifest(stand.output)["complete"] is True
    assert list_files(stand.folder) == PUBLISHED


def assert_refused(stand, ended, words, *, status=2) -> None:
    """Insist on an error that says why and what to do, and that nobody was asked."""
    assert ended.status == status, ended.stderr
    assert re.search(words, ended.stderr), ended.stderr
    assert "hint: " in ended.stderr
    assert stand.emulator.log() == []


def test_every_row_has_its_test(repository):
    """Each row of the table in docs/how-to/resuming.md is proved by a test of this file, and none twice."""
    text = (repository / "docs/how-to/resuming.md").read_text("utf-8")
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    assert sorted(rows[1:]) == sorted(ROWS)


@row("nothing")
def test_nothing_there(stand, truth):
    """Where nothing stands everything is asked for."""
    assert_whole(stand, truth, stand.export())
    assert stand.list_asked() == FIRST_DAY + SECOND_DAY


@row("a run that was killed or interrupted")
def test_killed_run(stand, truth, calls):
    """A killed run is gone on with from the page that was in flight."""
    stand.kill_half_way(calls)
    assert_whole(stand, truth, stand.export())
    assert stand.list_asked() == SECOND_DAY


@row("a run that was killed, with different windows now")
def test_other_windows(stand, truth, calls):
    """Coverage is minutes, not windows: with other windows only the missing day is asked."""
    stand.kill_half_way(calls)
    assert_whole(stand, truth, stand.export("--max-window-days", "14"))
    assert stand.list_asked() == SECOND_DAY


@row("an incomplete output, with its run")
def test_gaps_filled(stand, truth):
    """The gaps alone are asked for, and the incomplete output is replaced."""
    leave_a_gap(stand)
    assert stand.output.read_bytes() != truth
    assert_whole(stand, truth, stand.export())
    assert stand.list_asked() == SECOND_DAY


@row("an incomplete output, with its run, and the gaps fail again")
def test_gaps_that_fail_again(stand, truth):
    """A service that has answered before is not unreachable: what fails again is a gap again, not exit 4."""
    failing = {**BROKEN, "fault": {"kind": "status", "status": 503}}
    options = ExportOptions(
        start=START,
        end=END,
        regions=(REGION,),
        compartments=(stand.compartment,),
        is_subtree=False,
    )

    def export():
        return export_here(options, stand.output, make_tools(stand.emulator), max_window_days=1)

    stand.emulator.faults([failing])
    first = export()
    begun = stand.output.read_bytes()
    stand.emulator.clear_log()
    again = export()
    assert [gap.window for gap in again.gaps] == [gap.window for gap in first.gaps]
    assert len(again.gaps) == 1
    assert set(stand.list_asked()) == {SECOND}
    assert stand.output.read_bytes() == begun
    assert stand.emulator.fault_states()[0]["fired"] > 1
    stand.emulator.clear_faults()
    assert export().complete
    assert stand.output.read_bytes() == truth


@row("an output without its manifest, because the run was killed in between")
def test_killed_between_output_and_manifest(stand, truth, calls):
    """A published output without a manifest is stated without asking anybody."""
    kill_before(stand, calls, r"replace\(.*\.manifest\.json\.partial")
    assert stand.output.exists()
    assert_whole(stand, truth, stand.export())
    assert stand.emulator.log() == []


@row("a complete output with its run, which was killed before its cleanup")
def test_killed_between_publishing_and_cleaning_up(stand, truth, calls):
    """What is left of a finished run is removed, and nobody is asked."""
    number = [number for number, name in enumerate(calls, 1) if re.search(r"unlink\(.*plan\.json\)", name)][-1]
    assert stand.export(call=number).status == KILLED
    assert (stand.folder / "audit.json.run" / "plan.json").exists()
    statement = stand.folder.joinpath("audit.json.manifest.json").read_bytes()
    ended = stand.export()
    assert_whole(stand, truth, ended)
    assert "nothing was requested" in ended.stderr
    assert stand.emulator.log() == []
    assert stand.folder.joinpath("audit.json.manifest.json").read_bytes() == statement


@row("a complete output with its manifest")
def test_already_complete(stand, truth):
    """A finished export is finished: exit 0, and not one request."""
    assert stand.export().status == 0
    before = {path: path.read_bytes() for path in stand.folder.iterdir()}
    ended = stand.export()
    assert_whole(stand, truth, ended)
    assert "nothing was requested" in ended.stderr
    assert stand.emulator.log() == []
    assert {path: path.read_bytes() for path in stand.folder.iterdir()} == before


def export_later(emulator, output: Path, minutes: int, *, start: datetime, end: datetime):
    """Export root in this process, with a clock some minutes ahead; return the manifest and what was asked."""
    options = ExportOptions(
        start=show_time(start),
        end=show_time(end),
        regions=(REGION,),
        compartments=(emulator.tenancy()["id"],),
        is_subtree=False,
    )
    emulator.clear_log()
    context = make_tools(emulator, clock=SkewedClock(timedelta(minutes=minutes)))
    manifest = export_here(options, output, context).manifest
    return manifest, {(one.start, one.end) for one in list_requests(emulator.log())}


def show_time(moment: datetime) -> str:
    """Write a moment as the manifest does."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture
def this_minute():
    """The present minute, with some seconds left of it."""
    second = datetime.now(UTC).second
    if second > 52:
        time.sleep(61 - second)
    return datetime.now(UTC).replace(second=0, microsecond=0)


@row("an output whose last windows were requested within 15 minutes of their end")
def test_provisional_windows(tmp_path, this_minute):
    """A window asked too soon is marked, asked again by the same command, and then it is settled."""
    output = tmp_path / "audit.json"
    start, end = this_minute - timedelta(hours=9), this_minute - timedelta(minutes=12)
    settled = show_time(this_minute - timedelta(minutes=15))
    with Emulator() as emulator:
        manifest, asked = export_later(emulator, output, 0, start=start, end=end)
        assert manifest.complete
        assert [(one.start, one.end) for one in manifest.provisional] == [(settled, show_time(end))]
        assert asked == {(show_time(start), settled), (settled, show_time(end))}
        manifest, asked = export_later(emulator, output, 4, start=start, end=end)
        span = (show_time(start), show_time(end))
        expected = list_events(emulator, *span, regions=[REGION], compartments=[emulator.tenancy()["id"]])
        assert asked == {(settled, show_time(end))}
        assert not manifest.provisional
        assert output.read_bytes() == write_array(expected)
        assert list_files(tmp_path) == PUBLISHED


@row("an output of a range that had not ended yet")
def test_range_that_had_not_ended(tmp_path, this_minute):
    """A range whose end was still to come grows with the present; what is settled is not asked again."""
    output = tmp_path / "audit.json"
    start, end = this_minute - timedelta(hours=9), this_minute + timedelta(minutes=2)
    with Emulator() as emulator:
        manifest, _ = export_later(emulator, output, 0, start=start, end=end)
        assert manifest.range.end == show_time(this_minute)
        assert (tmp_path / "audit.json.run").exists()
        before = output.read_bytes()
        manifest, asked = export_later(emulator, output, 4, start=start, end=end)
        assert manifest.complete
        assert manifest.range.end == show_time(end)
        assert min(asked)[0] == show_time(this_minute - timedelta(minutes=15))
        assert max(asked)[1] == show_time(end)
        assert set(before.splitlines()[1:-2]) <= set(output.read_bytes().splitlines())


@pytest.fixture
def left_relative(stand, calls):
    """A killed run over three days until now, and the range that it has resolved."""
    assert stand.export(start="3d", end="now", call=find_call(calls, r"write\(\d+, ") + 8).status == KILLED
    plan = json.loads((stand.folder / "audit.json.run" / "plan.json").read_bytes())
    return tuple(datetime.fromtimestamp(minute * 60, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for minute in plan["window"])


@row("a run over a range such as `7d` to `now`, without `--resume` or `--restart`")
def test_relative_range_left(stand, left_relative):
    """A leftover of a relative range is neither continued nor thrown away without a word, and its range is shown."""
    ended = stand.export(start="3d", end="now")
    assert_refused(stand, ended, "--resume .* --restart")
    assert left_relative[0] in ended.stderr
    assert left_relative[1] in ended.stderr
    assert (stand.folder / "audit.json.run" / "plan.json").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "run the same command again with --resume to continue"),
        (("--restart",), "run the same command again with --resume in place of --restart to continue"),
    ],
)
def test_an_interruption_names_the_options_that_continue(stand, calls, options, words):
    """What the hint of an interrupted run says continues it: with the words as typed, another range would be meant."""
    call = find_call(calls, r"write\(\d+, ") + 8
    ended = stand.export(*options, start="3d", end="now", call=call, when="SIGINT")
    assert ended.status == 130, ended.stderr
    assert words in ended.stderr
    assert stand.export("--resume", start="3d", end="now").status == 0


def test_a_restart_that_is_interrupted_is_not_to_be_restarted(stand, calls, truth):
    """The hint of a run that `--restart` began says that the option must not be repeated."""
    stand.kill_half_way(calls)
    ended = stand.export("--restart", call=list_commits(calls)[2], when="SIGTERM")
    assert ended.status == 143, ended.stderr
    assert "run the same command again without --restart to continue" in ended.stderr
    assert_whole(stand, truth, stand.export())
    assert len(stand.list_asked()) < len(FIRST_DAY + SECOND_DAY)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "the same command again requests only"),
        (("--restart",), "the same command again without --restart requests only"),
    ],
)
def test_the_hint_after_gaps_names_what_requests_only_the_gaps(stand, truth, options, words):
    """After gaps, what the hint says requests nothing but them."""
    stand.emulator.faults([BROKEN])
    ended = stand.export(*options)
    assert ended.status == 10
    assert f"hint: {words} the gaps" in ended.stderr
    stand.emulator.clear_faults()
    assert_whole(stand, truth, stand.export())
    assert stand.list_asked() == SECOND_DAY


@row("a run over a range such as `7d` to `now`, with `--resume`")
def test_relative_range_resumed(stand, left_relative):
    """`--resume` finishes exactly the range that was begun."""
    ended = stand.export("--resume", start="3d", end="now")
    manifest = read_manifest(stand.output)
    assert ended.status == 0, ended.stderr
    assert (manifest["range"]["start"], manifest["range"]["end"]) == left_relative
    events = list_events(stand.emulator, *left_relative, regions=[REGION], compartments=[stand.compartment])
    assert stand.output.read_bytes() == write_array(events)


@row("a run over a range such as `7d` to `now`, with `--restart`")
def test_relative_range_restarted(stand, left_relative):
    """`--restart` throws the run away and asks for the range that the words mean now."""
    plan = stand.folder / "audit.json.run" / "plan.json"
    content = json.loads(plan.read_bytes())
    ended = stand.export("--restart", start="3d", end="now")
    begun = read_manifest(stand.output)["range"]["start"]
    assert ended.status == 0, ended.stderr
    assert abs(datetime.fromisoformat(begun) - datetime.now(UTC) + timedelta(days=3)) < timedelta(minutes=3)
    assert content["started_at"] <= read_manifest(stand.output)["started_at"]
    assert len(stand.list_asked()) >= 4


@row("a complete output of a range such as `7d` to `now`")
def test_relative_range_complete(stand):
    """A complete output of a relative range is not taken for that of the present range."""
    assert stand.export(start="3d", end="now").status == 0
    assert_refused(stand, stand.export(start="3d", end="now"), "meant another range")


@pytest.fixture
def left_spent(stand):
    """A complete output of three days until now, whose run was killed before it was cleaned up."""
    plan = stand.run_directory / "plan.json"
    number = len(stand.export(start="3d", end="now").calls)
    while not plan.exists():  # commits vary from run to run, so the call is looked for, from the last one on
        shutil.rmtree(stand.run_directory, ignore_errors=True)
        for path in stand.folder.glob("audit.json*"):
            path.unlink()
        stand.export(start="3d", end="now", call=number)
        number -= 1
    assert read_manifest(stand.output)["complete"] is True
    return stand.output.read_bytes()


@row("the same, with its run, which was killed before its cleanup")
def test_relative_range_complete_and_its_run(stand, left_spent):
    """What is left of the run goes, and the output is neither replaced nor taken for that of the present range."""
    assert_refused(stand, stand.export(start="3d", end="now"), "meant another range")
    assert list_files(stand.folder) == PUBLISHED
    assert stand.output.read_bytes() == left_spent
    assert stand.export("--overwrite", start="3d", end="now").status == 0


@row("the same, with its run and `--resume`")
def test_relative_range_complete_and_its_run_resumed(stand, left_spent):
    """There is nothing to resume but the clean-up."""
    ended = stand.export("--resume", start="3d", end="now")
    assert ended.status == 0, ended.stderr
    assert "nothing was requested" in ended.stderr
    assert stand.emulator.log() == []
    assert list_files(stand.folder) == PUBLISHED
    assert stand.output.read_bytes() == left_spent


@row("a run with other arguments")
def test_run_with_other_arguments(stand, calls):
    """The difference is shown, and the run that was left stays as it is."""
    stand.kill_half_way(calls)
    before = list_files(stand.folder)
    ended = stand.export("--event-type", "Launch")
    assert_refused(stand, ended, r"event_types was \(all\), is Launch")
    assert list_files(stand.folder) == before


@row("a run with other arguments, with `--restart`")
def test_run_with_other_arguments_restarted(stand, truth, calls):
    """With `--restart` the other run is thrown away."""
    stand.kill_half_way(calls, "--event-type", "Launch")
    assert_whole(stand, truth, stand.export("--restart"))
    assert stand.list_asked() == FIRST_DAY + SECOND_DAY


@row("an incomplete output with other arguments and its run, with `--restart`")
def test_incomplete_output_with_other_arguments_restarted(stand, truth):
    """The hint names `--restart`, which discards the incomplete output with its run."""
    stand.emulator.faults([BROKEN])
    assert stand.export("--max-window-days", "1", "--event-type", ".").status == 10
    assert stand.emulator.fault_states()[0]["fired"] > 0
    stand.emulator.clear_faults()
    ended = stand.export()
    assert_refused(stand, ended, r"event_types was \., is \(all\)")
    assert "discard it with --restart\n" in ended.stderr
    assert_whole(stand, truth, stand.export("--restart"))


@row("an output with other arguments")
def test_output_with_other_arguments(stand, truth):
    """A finished export of something else is not replaced."""
    assert stand.export().status == 0
    assert_refused(stand, stand.export(end=SECOND), f"end was {END}, is {SECOND}")
    assert stand.output.read_bytes() == truth


@row("an output with other arguments, with `--overwrite`")
def test_output_overwritten(stand, truth, calls):
    """`--overwrite` replaces it, but not before the new one is whole."""
    assert stand.export(end=SECOND).status == 0
    before = stand.output.read_bytes()
    stand.kill_half_way(calls, "--overwrite")
    assert stand.output.read_bytes() == before
    assert_whole(stand, truth, stand.export("--overwrite"))


@row("a file that oci-audit did not write")
def test_foreign_file(stand):
    """A file of somebody else is not touched."""
    stand.output.write_text("somebody else's")
    assert_refused(stand, stand.export(), "audit.json exists")
    assert stand.output.read_text() == "somebody else's"
    assert list_files(stand.folder) == {"audit.json"}


@row("a file that appeared while the run was interrupted")
def test_file_that_appeared(stand, calls):
    """A file that was not there when the run began is not touched, even if it has the right size."""
    stand.kill_half_way(calls)
    stand.output.write_text("somebody else's")
    assert_refused(stand, stand.export(), "this run did not write it")
    stand.output.unlink()
    shutil.rmtree(stand.folder / "audit.json.run")
    kill_before(stand, calls, r"replace\(.*\.manifest\.json\.partial")
    stand.output.write_bytes(b"x" * stand.output.stat().st_size)
    assert_refused(stand, stand.export(), "this run did not write it")


@row("a file that appeared while the export worked")
@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_file_that_appears_meanwhile(stand, truth, name):
    """A file that another program puts under one of the names is not touched; without it, nothing is fetched again."""
    stand.emulator.faults([{"operation": "ListEvents", "fault": {"kind": "stall", "seconds": 2, "after": "half"}}])
    export = stand.start()
    while not stand.emulator.log():
        pass
    (stand.folder / name).write_text("somebody else's")
    ended = export.wait()
    assert ended.status == 2, ended.stderr
    assert f"{name} appeared while it was being written" in ended.stderr
    assert (stand.folder / name).read_text() == "somebody else's"
    assert {one.split("/")[0] for one in list_files(stand.folder)} == {name, "audit.json.run"}
    assert_refused(stand, stand.export(), "this run did not write it|no manifest says that oci-audit wrote it")
    (stand.folder / name).unlink()
    assert_whole(stand, truth, stand.export())
    assert stand.list_asked() == []


@row("an output that has been truncated since")
def test_output_that_was_cut(stand, truth):
    """An output that is shorter than its manifest states is not called complete."""
    assert stand.export().status == 0
    stand.output.write_bytes(truth[:-100])
    assert_refused(stand, stand.export(), "does not have the size(.|\n)*verify")


@row("an incomplete output, without its run")
def test_incomplete_output_without_run(stand, truth):
    """Without its run an incomplete output cannot be completed; `--overwrite` asks for everything."""
    leave_a_gap(stand)
    shutil.rmtree(stand.folder / "audit.json.run")
    assert_refused(stand, stand.export(), "is incomplete, and its run directory is gone")
    assert_whole(stand, truth, stand.export("--overwrite"))
    assert stand.list_asked() == FIRST_DAY + SECOND_DAY


@row("another oci-audit working on the same output")
def test_two_processes(stand, truth):
    """The second of two processes is refused, and the first one finishes undisturbed."""
    stand.emulator.faults([{"operation": "ListEvents", "fault": {"kind": "stall", "seconds": 4, "after": "half"}}])
    first = stand.start()
    while not stand.emulator.log():
        pass
    second = run_process(
        [find_command("oci-audit"), *stand.list_arguments()], cwd=stand.folder, variables=point_at(stand.emulator)
    )
    ended = first.wait()
    assert second.code == 2
    assert "another oci-audit process is using" in second.stderr
    assert stand.emulator.fault_states()[0]["fired"] == 1
    assert_whole(stand, truth, ended)


@row("a folder of that name that does not belong to oci-audit")
def test_foreign_folder(stand):
    """A folder with somebody else's files is not touched, although it has the run's name."""
    (stand.folder / "audit.json.run").mkdir()
    (stand.folder / "audit.json.run" / "thesis.txt").write_text("mine")
    assert_refused(stand, stand.export(), "contains files that oci-audit did not write")
    assert list_files(stand.folder) == {"audit.json.run", "audit.json.run/thesis.txt"}


@pytest.fixture
def damaged_run(stand, calls):
    """A killed run with a letter changed in the second line of its journal."""
    stand.kill_half_way(calls)
    journal = stand.folder / "audit.json.run" / "journal.ndjson"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"scanned", b"scamned")
    journal.write_bytes(b"".join(lines))
    return journal


@row("a run whose journal is damaged")
def test_damaged_journal(stand, damaged_run):
    """A journal that is damaged within is an error that names the line; nothing is guessed or thrown away."""
    before = damaged_run.read_bytes()
    assert_refused(stand, stand.export(), r"journal\.ndjson is damaged in line 2(.|\n)*--restart", status=6)
    assert damaged_run.read_bytes() == before


@row("a run whose journal is damaged, with `--restart`")
def test_damaged_journal_restarted(stand, truth, damaged_run):
    """`--restart` begins anew, whatever state the run is in."""
    assert damaged_run.exists()
    assert_whole(stand, truth, stand.export("--restart"))
    assert stand.list_asked() == FIRST_DAY + SECOND_DAY


@row("`-o 'audit-{start}.json'`, and an output of another day")
def test_expanded_name(stand):
    """With the range in its name every range has a file of its own, and each is complete by itself."""
    for start, end in ((START, SECOND), (SECOND, END)):
        assert stand.export(start=start, end=end, output="audit-{start}-{end}.json").status == 0
    names = {name for name in list_files(stand.folder) if name.endswith("[0-9].json") or "manifest" not in name}
    outputs = {name for name in names if "ledger" not in name}
    assert outputs == {"audit-2025-06-02-2025-06-02.json", "audit-2025-06-03-2025-06-03.json"}
    again = stand.export(start=START, end=SECOND, output="audit-{start}-{end}.json")
    assert "nothing was requested" in again.stderr


@row("`-o 'audit-{start}.json'`, and an unfinished run of another range")
def test_unfinished_run_of_another_name(stand):
    """The present range is exported, and the command that the notice names finishes the other one."""
    stand.emulator.faults([BROKEN])
    assert stand.export(start=SECOND, end=END, output="audit-{start}.json").status == 10
    assert stand.emulator.fault_states()[0]["fired"] > 0
    stand.emulator.clear_faults()
    ended = stand.export(start=START, end=SECOND, output="audit-{start}.json")
    assert ended.status == 0, ended.stderr
    words = (
        f"in place of its own range and -o: --start {SECOND} --end {END} -o {stand.folder / 'audit-2025-06-03.json'}"
    )
    assert words in ended.stderr
    finished = stand.export(start=SECOND, end=END, output=str(stand.folder / "audit-2025-06-03.json"))
    assert finished.status == 0
    assert stand.list_asked() == SECOND_DAY
    assert not [name for name in list_files(stand.folder) if ".run" in name]


@row("`-o 'audit-{start}.json'`, and an unfinished run over `7d` to `now`, with `--resume`")
def test_relative_range_of_another_name_resumed(stand, calls):
    """`--resume` finds the run whose name has moved on, and finishes its range under its name."""
    options = {"start": "3d", "end": "now", "output": "audit-{start}.json"}
    assert stand.export(call=find_call(calls, r"write\(\d+, ") + 8, **options).status == KILLED
    (run,) = stand.folder.glob("*.run")
    left = stand.folder / "audit-2025-06-03T0000Z.json.run"  # as if it had begun long ago
    run.rename(left)
    window = json.loads((left / "plan.json").read_bytes())["window"]
    ended = stand.export("--resume", **options)
    assert ended.status == 0, ended.stderr
    manifest = read_manifest(left.with_suffix(""))
    begun = datetime.fromtimestamp(window[0] * 60, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert manifest["range"]["start"] == begun
    assert not left.exists()


@row("`-o -`")
def test_stdout(stand, truth):
    """A run to stdout leaves nothing, is stopped without a promise, and begins anew."""
    for _ in range(2):
        ended = stand.export(output="-")
        assert ended.status == 0
        assert ended.stdout.encode() == truth
        assert stand.list_asked() == FIRST_DAY + SECOND_DAY
    assert list_files(stand.folder) == set()


def run_streamer(stand, *, end: str, call: int | None = None) -> Ended:
    """Run the documented script's command line."""
    script = ["--startdate", "2025-06-02", "--enddate", end, "--profilename", "DEFAULT", "--outputfile", "audit.json"]
    stand.emulator.clear_log()
    return stand.command.start(
        [*script, "--eventfilter", stand.compartment, "--ociconfig", str(stand.emulator.config_path)],
        cwd=stand.folder,
        variables=make_environment(stand.folder, **point_at(stand.emulator)),
        call=call,
        program="main_streamer",
    ).wait()


@row("a documented script, and its own unfinished run")
def test_script_resumes(stand):
    """A script goes on with its own unfinished run."""
    undisturbed = run_streamer(stand, end="2025-06-03")
    assert undisturbed.status == 0, undisturbed.stderr
    expected = stand.output.read_bytes()
    for path in stand.folder.iterdir():
        path.unlink()
    assert run_streamer(stand, end="2025-06-03", call=list_commits(undisturbed.calls)[2]).status == KILLED
    ended = run_streamer(stand, end="2025-06-03")
    assert ended.status == 0, ended.stderr
    assert stand.output.read_bytes() == expected
    assert 0 < len(stand.list_asked()) < len(FIRST_DAY + SECOND_DAY)
    assert "discarding" not in ended.stderr


@row("a documented script, and an unfinished run of another request")
def test_script_discards(stand):
    """A script throws the unfinished run of another request away, and says so."""
    undisturbed = run_streamer(stand, end="2025-06-03")
    for path in stand.folder.iterdir():
        path.unlink()
    assert run_streamer(stand, end="2025-06-03", call=list_commits(undisturbed.calls)[1]).status == KILLED
    ended = run_streamer(stand, end="2025-06-02")
    assert ended.status == 0, ended.stderr
    assert "discarding" in ended.stderr
    assert len(json.loads(stand.output.read_bytes())) > 10
    assert not (stand.folder / "audit.json.run").exists()
