"""Every screen on a terminal of 80 columns."""

import re

import pytest
from rich.cells import cell_len

from support.emulator import Emulator
from support.exports import make_command, point_at
from support.processes import find_command
from support.terminals import read_lines, run_on_screen

DAYS = ("--start", "2025-06-02", "--end", "2025-06-03")
WIDTH = 80
OCID = re.compile(r"ocid1\.[a-z]+\.oc1\.[\w-]*\.[a-z0-9]{60}")
PART_OF_OCID = re.compile(r"ocid1\.[a-z]+\.oc1\.[\w-]*\.[a-z0-9]+(?![a-z0-9*])")
COLOR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(scope="module")
def served():
    """An emulator whose events are all within retention."""
    with Emulator("--retention-days", "36500", "--events-per-day", "300") as emulator:
        yield emulator


@pytest.fixture(scope="module")
def folder(tmp_path_factory, served):
    """A folder with an export that has gaps, and one that is complete."""
    folder = tmp_path_factory.mktemp("screens")
    for name, scope in (("audit.json", ()), ("root.json", ("--compartment", served.tenancy()["id"], "--no-subtree"))):
        run_on_screen(make_command(served, *DAYS, *scope, "-o", name), folder, point_at(served))
    return folder


SCREENS = {
    "export": ("export", *DAYS, "-o", "again.json"),
    "export, verbose": ("export", *DAYS, "-o", "verbose.json", "-vv"),
    "export, nothing to do": ("export", *DAYS, "-o", "root.json"),
    "no match": ("export", *DAYS, "-o", "none.json", "--event-type", "nothing like it"),
    "dry run": ("export", *DAYS, "--dry-run"),
    "probe": ("export", *DAYS, "--dry-run", "--probe"),
    "doctor": ("doctor",),
    "verify": ("verify", "audit.json"),
    "verify, complete": ("verify", "root.json"),
    "summary": ("summary", "audit.json"),
    "summary of two": ("summary", "audit.json", "root.json"),
    "query": ("query", "audit.json", "--named", "sign-in-failures"),
    "query of many columns": ("query", "audit.json", "SELECT * FROM events LIMIT 3"),
    "query list": ("query", "--list"),
    "diff": ("diff", "audit.json", "root.json"),
    "convert": ("convert", "audit.json", "-o", "copy.csv"),
    "presets": ("presets",),
    "error": ("export", *DAYS, "-o", "missing-folder/audit.json"),
}


@pytest.mark.parametrize("name", SCREENS)
def test_a_screen_fits_its_terminal(served, folder, name):
    """On a terminal of 80 columns no line is longer, unless it is one word, and no OCID is broken."""
    command, *arguments = SCREENS[name]
    options = ["--config-file", str(served.config_path)] if command in {"export", "doctor"} else []
    _, seen = run_on_screen([find_command("oci-audit"), command, *options, *arguments], folder, point_at(served))
    lines = read_lines(seen)
    assert len(lines) > 1
    for line in lines:
        assert cell_len(line.rstrip()) <= WIDTH or len(line.split()) == 1, line
        if "…" not in line:
            assert len(OCID.findall(line)) == len(PART_OF_OCID.findall(line)), line


def test_the_demo_fits_its_terminal(tmp_path):
    """The demo, too, fits a terminal of 80 columns."""
    _, seen = run_on_screen([find_command("oci-audit"), "demo", "--days", "1"], tmp_path, {})
    lines = read_lines(seen)
    assert any("targets complete" in line for line in lines)
    assert [line for line in lines if cell_len(line.rstrip()) > WIDTH and len(line.split()) > 1] == []


@pytest.mark.parametrize(
    ("arguments", "variables", "has_color"),
    [
        ((), {}, True),
        ((), {"NO_COLOR": "1"}, False),
        (("--color", "never"), {}, False),
        (("--color", "always"), {"NO_COLOR": "1"}, True),
    ],
)
def test_color_is_the_readers_choice(served, folder, arguments, variables, has_color):
    """What is incomplete is red on a terminal, unless `NO_COLOR` or `--color never` says otherwise."""
    command = [find_command("oci-audit"), *arguments, "verify", "audit.json"]
    _, seen = run_on_screen(command, folder, variables)
    assert "INCOMPLETE" in COLOR.sub("", seen)
    assert bool(COLOR.search(seen)) == has_color


def test_many_inputs_are_not_listed(folder):
    """The headline of a summary of 600 inputs names the first and says how many more there are."""
    (folder / "many").mkdir()
    names = [f"many/{number:03}.json" for number in range(600)]
    for name in names:
        (folder / name).write_text('[{"eventId":"1","eventType":"x","eventTime":"2025-06-02T10:00:00Z","data":{}}]')
    _, seen = run_on_screen([find_command("oci-audit"), "summary", *names], folder, {})
    lines = read_lines(seen)
    assert "and 596 more: 600 events" in " ".join(" ".join(lines).split())
    assert any("of 600 files: 600 unknown" in line for line in lines)
    assert len(lines) < 50
