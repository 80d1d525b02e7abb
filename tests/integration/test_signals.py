import os
import random
import re
import signal
import time
from itertools import islice

import pytest

from support.exports import make_command, point_at
from support.kills import empty_folder, measure, stop_at_random
from support.processes import finish_process, make_environment, start_process
from support.run_directories import list_files, read_journal
from support.stands import END, FLAGS, KILLED, PUBLISHED, REGION, START, Stand, find_call, list_commits
from support.truth import find_compartment, list_events, write_array

EMULATOR_FLAGS = FLAGS  # two pages for the first day and three for the second

CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}
SECONDS = 2.0
SAMPLES = 8


@pytest.fixture
def stand(emulator, command, tmp_path):
    """A stand in an empty folder."""
    return Stand(emulator, command, tmp_path, find_compartment(emulator, "payments"))


@pytest.fixture
def truth(emulator, stand):
    """The file that every complete export holds."""
    return write_array(list_events(emulator, START, END, regions=[REGION], compartments=[stand.compartment]))


def assert_stopped(ended, number, seconds) -> None:
    """Insist on a stop in time, with words and status that say that it can be gone on with."""
    assert seconds < SECONDS
    assert ended.status == CODES[number], ended.stderr
    assert re.search(r"error: interrupted .+(\n.*)*hint: .*same command again", ended.stderr), ended.stderr


def assert_finished(stand, truth, ended) -> None:
    """Insist on a complete output and nothing else."""
    assert ended.status == 0, ended.stderr
    assert stand.output.read_bytes() == truth
    assert list_files(stand.folder) == PUBLISHED


def test_sample_of_random_kills(stand, truth):
    """After kills at random moments, each gone on with, the bytes are those of an undisturbed run."""
    seed = random.randrange(1 << 32)
    stopped = stop_at_random(stand, signal.SIGKILL, seconds=measure(stand), randomness=random.Random(seed))
    for each in islice(stopped, SAMPLES):
        assert each.ended.status == KILLED
    assert_finished(stand, truth, stand.export())


@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
def test_sample_of_random_signals(stand, truth, number):
    """SIGTERM and SIGINT at random moments stop in time, with their status, and can be gone on with."""
    seed = random.randrange(1 << 32)
    for each in islice(stop_at_random(stand, number, seconds=measure(stand), randomness=random.Random(seed)), SAMPLES):
        # After the last moment at which a stop is looked for, or when the program does not listen any more.
        if each.ended.status in {0, -number} and "manifest" in each.ended.stderr:
            assert stand.output.read_bytes() == truth
        elif "requesting" in each.ended.stderr:
            assert_stopped(each.ended, number, each.seconds)
        else:  # before the program had begun with anything, or had put its handlers up
            assert each.ended.status in {CODES[number], -number}
    assert_finished(stand, truth, stand.export())


@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
def test_signal_while_the_service_stalls(stand, truth, number):
    """A service that says nothing does not keep a run from stopping; nothing is lost but the page in flight."""
    fault = {"kind": "stall", "seconds": 30}
    stand.emulator.faults([{"operation": "ListEvents", "skip": 3, "fault": fault}])
    running = stand.start()
    wait_until(lambda: stand.emulator.fault_states()[0]["fired"])
    sent = time.monotonic()
    os.kill(running.process_id, number)
    ended = running.wait()
    assert_stopped(ended, number, time.monotonic() - sent)
    assert re.search(rf"^kept: {re.escape(str(stand.run_directory))} \([\d.]+ \w+\)", ended.stderr, re.MULTILINE)
    assert re.search("(0|50)% of the plan's windows complete", ended.stderr)  # a page may still wait for the disk
    assert len([line for line in read_journal(stand.run_directory) if line["kind"] == "page"]) == 3
    stand.emulator.clear_faults()
    assert_finished(stand, truth, stand.export())
    assert len(stand.list_asked()) == 2


@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
def test_signal_during_backoff(stand, truth, number):
    """A wait of minutes that the service has asked for ends with the signal."""
    fault = {"kind": "status", "status": 429, "headers": {"Retry-After": "120"}}
    stand.emulator.faults([{"operation": "ListEvents", "skip": 3, "fault": fault}])
    running = stand.start("-v")
    wait_until(lambda: stand.emulator.fault_states()[0]["completed"])
    time.sleep(0.3)
    sent = time.monotonic()
    os.kill(running.process_id, number)
    ended = running.wait()
    assert_stopped(ended, number, time.monotonic() - sent)
    assert "waiting 120 s" in ended.stderr
    assert_finished(stand, truth, stand.export())


def wait_until(is_so) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
def test_signal_at_chosen_calls(stand, truth, number):
    """A signal at the plan, a commit, within the publishing, at the manifest or the cleaning stops or ends the run."""
    calls = stand.export().calls
    empty_folder(stand)
    partial = find_call(calls, r"open\(.*/\.audit\.json\.partial")
    stopping = [find_call(calls, r"replace\(.*plan\.json"), *list_commits(calls)[1:4], partial, partial + 2]
    ending = [find_call(calls, r"replace\(.*/\.audit\.json\.manifest"), find_call(calls, r"rmdir")]
    for call in stopping:
        began = time.monotonic()
        assert_stopped(stand.export(call=call, when=number.name), number, time.monotonic() - began)
        assert not stand.output.exists()
        assert_finished(stand, truth, stand.export())
        empty_folder(stand)
    for call in ending:
        assert_finished(stand, truth, stand.export(call=call, when=number.name))
        empty_folder(stand)


@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
@pytest.mark.parametrize("program", ["export", "streamer", "convert"])
def test_signal_between_the_end_of_the_work_and_its_result(stand, truth, program, number):
    """A signal just before the first line of the result is printed changes neither the result nor the exit code."""
    if program == "convert":
        assert_finished(stand, truth, stand.export())
    arguments, printed = {
        "export": (stand.list_arguments(), " written to "),
        "streamer": (list_script_arguments(stand), " written to "),
        "convert": (["convert", "audit.json", "-o", "audit.ndjson"], "audit.json: "),
    }[program]
    ended = stand.command(
        arguments,
        cwd=stand.folder,
        variables=make_environment(stand.folder, **point_at(stand.emulator)),
        when=number.name,
        printed=printed,
        program="main_streamer" if program == "streamer" else "main",
    )
    assert ended.is_signalled, ended.stderr
    assert ended.status == 0, ended.stderr
    assert "written = " in ended.stderr or " written + " in ended.stderr, ended.stderr
    assert "interrupted" not in ended.stderr
    if program == "export":
        assert_finished(stand, truth, ended)


def list_script_arguments(stand) -> list[str]:
    """Return the arguments of the documented script for the two days."""
    config = ("--profilename", "DEFAULT", "--ociconfig", str(stand.emulator.config_path))
    scope = ("--eventfilter", stand.compartment, "--outputfile", "audit.json")
    return ["--startdate", "2025-06-02", "--enddate", "2025-06-03", *config, *scope]


def test_signal_while_a_leftover_is_read(stand, truth):
    """A signal that comes while a resume reads what there is stops it too, and changes nothing."""
    calls = stand.export().calls
    empty_folder(stand)
    stand.kill_half_way(calls)
    before = (stand.run_directory / "events.log").read_bytes()
    began = time.monotonic()
    ended = stand.export(call=find_call(calls, r"flock\("), when="SIGTERM")
    assert_stopped(ended, signal.SIGTERM, time.monotonic() - began)
    assert (stand.run_directory / "events.log").read_bytes() == before
    assert stand.emulator.log() == []
    assert_finished(stand, truth, stand.export())


def test_second_signal_ends_at_once(stand, truth):
    """Whoever does not want to wait sends a second signal; what was committed is still there."""
    fault = {"kind": "stall", "seconds": 30}
    stand.emulator.faults([{"operation": "ListEvents", "skip": 3, "fault": fault}])
    running = stand.start()
    wait_until(lambda: stand.emulator.fault_states()[0]["fired"])
    os.kill(running.process_id, signal.SIGTERM)
    os.kill(running.process_id, signal.SIGTERM)
    assert running.wait().status in {143, -signal.SIGTERM}
    stand.emulator.clear_faults()
    assert_finished(stand, truth, stand.export())
    assert len(stand.list_asked()) == 2


def test_stopped_run_to_stdout_promises_nothing(stand):
    """A run to stdout that is stopped says that nothing is kept."""
    fault = {"kind": "stall", "seconds": 30}
    stand.emulator.faults([{"operation": "ListEvents", "skip": 3, "fault": fault}])
    running = stand.start(output="-")
    wait_until(lambda: stand.emulator.fault_states()[0]["fired"])
    os.kill(running.process_id, signal.SIGINT)
    ended = running.wait()
    assert ended.status == 130
    assert ended.stdout == ""
    assert "is kept" not in ended.stderr.replace("nothing is kept", "")
    assert "continue from here" not in ended.stderr
    assert list_files(stand.folder) == set()


def test_installed_command_stops(stand, truth):
    """The command as it is installed, in a process of its own, stops with an exit status and not by the signal."""
    fault = {"kind": "stall", "seconds": 30}
    stand.emulator.faults([{"operation": "ListEvents", "skip": 3, "fault": fault}])
    arguments = stand.list_arguments()[3:]
    process = start_process(
        make_command(stand.emulator, *arguments), cwd=stand.folder, variables=point_at(stand.emulator)
    )
    wait_until(lambda: stand.emulator.fault_states()[0]["fired"])
    process.terminate()
    sent = time.monotonic()
    finished = finish_process(process)
    assert time.monotonic() - sent < SECONDS
    assert finished.code == 143
    assert finished.error_lines
    assert finished.hint_lines
    stand.emulator.clear_faults()
    assert_finished(stand, truth, stand.export())
