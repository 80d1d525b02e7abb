"""An export of a service on which time passes: what it cannot see yet, and what it finds later."""

import pytest

from support.emulator import Emulator
from support.exports import run_export
from support.truth import find_compartment, join_lines, sort_events, write_array

REGION = "us-ashburn-1"
START, END = "2025-06-02T00:00:00Z", "2025-06-03T00:00:00Z"
FLAGS = ("--retention-days", "36500", "--events-per-day", "2000", "--now", "2025-06-03T00:20:00Z")


def export(emulator, folder, compartment, name):
    """Export the day of one target, and return the bytes of the file."""
    scope = ("--region", REGION, "--compartment", compartment, "--no-subtree")
    finished = run_export(emulator, folder, "--start", START, "--end", END, *scope, "-o", name)
    assert finished.code == 0, finished.stderr
    return (folder / name).read_bytes()


def write_truth(emulator, compartment, at):
    """The file that an export at an instant must be."""
    seen = emulator.truth(REGION, compartment, START, END, at)
    return write_array(sort_events(join_lines(one.event) for one in seen))


def test_late_events_are_found_by_a_later_export(tmp_path):
    """An export lacks exactly the events that have not appeared; after the clock has advanced, it has them."""
    with Emulator(*FLAGS, "--delayed-share", "0.3", "--delayed-by", "26h") as emulator:
        compartment = find_compartment(emulator, "payments")
        first = export(emulator, tmp_path, compartment, "first.json")
        assert first == write_truth(emulator, compartment, "2025-06-03T00:20:00Z")
        assert emulator.clock(advance="26h")["now"] == "2025-06-04T02:20:00.000Z"
        second = export(emulator, tmp_path, compartment, "second.json")
        everything = emulator.truth(REGION, compartment, START, END)
        assert second == write_array(sort_events(join_lines(one.event) for one in everything))
    assert 20 < first.count(b"\n") < second.count(b"\n") - 20


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_reserialised_events_are_other_bytes_of_the_same_events(tmp_path, turns):
    """A later export holds the same events, some of them in the other bytes that the truth states."""
    with Emulator(*FLAGS, "--reserialised-share", "0.5", "--reserialised-after", "2d") as emulator:
        compartment = find_compartment(emulator, "payments")
        first = export(emulator, tmp_path, compartment, "first.json")
        at = emulator.clock(advance=f"{2 * turns}d")["now"]
        second = export(emulator, tmp_path, compartment, "second.json")
        assert second == write_truth(emulator, compartment, at)
    assert second.count(b"\n") == first.count(b"\n")
    assert second != first
