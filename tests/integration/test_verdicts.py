"""One verdict, in one wording, on every screen that speaks of an export."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from support.emulator import start_emulator
from support.exports import point_at, read_manifest, run_export
from support.processes import find_command, run_process

DAY = ("--start", "2025-06-02", "--end", "2025-06-02")


@pytest.fixture(scope="module")
def emulator(tmp_path_factory):
    """A tenancy of one region with three compartments, one of them forbidden."""
    folder = tmp_path_factory.mktemp("emulator")
    with start_emulator(
        folder, "--regions", "1", "--compartments", "4", "--events", "3000", "--forbidden", "1"
    ) as running:
        yield running


def run(folder, *arguments):
    """Run the installed command in a folder."""
    return run_process([find_command("oci-audit"), *arguments], cwd=folder)
