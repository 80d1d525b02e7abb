"""What integration tests share: an environment without a user, and an emulator without faults."""

import os
from pathlib import Path

import pytest

from ociaudit.operations.context import ExportOptions
from support.emulator import Emulator
from support.exports import export_here, make_tools
from support.kill_at_call import KillableCommand
from support.stands import END, REGION, START

# The fixed days of these tests stay inside it for as long as anyone will run them.
KEPT = ("--retention-days", "36500")


@pytest.fixture(autouse=True)
def no_user(monkeypatch, tmp_path):
    """Let nothing of the user who runs the tests reach the program."""
    for name in list(os.environ):
        if name.startswith("OCI_") and name != "OCI_AUDIT_CONTRACT_VENV":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture(scope="module")
def shared_emulator(request):
    """One emulator for all tests of a module, with the module's `EMULATOR_FLAGS`."""
    flags = getattr(request.module, "EMULATOR_FLAGS", ("--events-per-day", "300"))
    with Emulator(*KEPT, *flags) as running:
        yield running


@pytest.fixture(scope="module")
def original(shared_emulator, tmp_path_factory) -> Path:
    """An export of two days, with its manifest and ledger."""
    path = tmp_path_factory.mktemp("original") / "audit.json"
    options = ExportOptions(start=START, end=END, regions=(REGION,))
    export_here(options, path, make_tools(shared_emulator))
    return path


@pytest.fixture(scope="module")
def command():
    """A process that forks commands; every page is a commit."""
    with KillableCommand(COMMIT_BYTES=0) as running:
        yield running


@pytest.fixture
def emulator(shared_emulator):
    """The module's emulator, with an empty log and without faults."""
    shared_emulator.clear_faults()
    shared_emulator.clear_log()
    yield shared_emulator
    shared_emulator.clear_faults()
