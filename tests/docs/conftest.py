"""The environment in which the documentation is tested: an emulator that keeps every day, and a home folder."""

import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.emulator import Emulator
from support.processes import make_environment
from support.truth import find_compartment


@dataclass(frozen=True)
class Reader:
    """A person who tries the examples: an environment, and a tenancy's own names for those in the documents."""

    environment: dict[str, str]
    names: dict[str, str]

    def fill_in(self, text: str) -> str:
        """Replace the names of the examples by the tenancy's own."""
        for example, real in self.names.items():
            text = text.replace(example, real)
        return text


@pytest.fixture(scope="session")
def reader(tmp_path_factory: pytest.TempPathFactory):
    """A reader whose `~/.oci/config` leads to an emulator, and whose PATH leads to the installed commands."""
    home = tmp_path_factory.mktemp("home")
    flags = ("--retention-days", "36500", "--events-per-day", "100", "--bucket", "audit-exports")
    with Emulator(*flags, config_folder=home / ".oci") as emulator:
        environment = make_environment(home, OCI_AUDIT_ENDPOINT=emulator.url + "/{region}")
        environment["PATH"] = f"{sysconfig.get_path('scripts')}:{environment['PATH']}"
        names = {
            "ocid1.compartment.oc1..aaaa": find_compartment(emulator, "payments"),
            "ocid1.compartment.oc1..bbbb": find_compartment(emulator, "investigations"),
        }
        yield Reader(environment, names)


@pytest.fixture(scope="session")
def make_folder(tmp_path_factory: pytest.TempPathFactory, repository: Path):
    """Return a function that makes a folder with the two scripts in it; the package is the installed one."""

    def make() -> Path:
        folder = tmp_path_factory.mktemp("reader")
        (folder / "files").mkdir()
        for name in ("oci_audit_streamer.py", "files/logstreamer.py"):
            (folder / name).write_bytes((repository / name).read_bytes())
        return folder

    return make


@pytest.fixture(scope="session")
def day_with_gaps(reader, make_folder) -> Path:
    """The folder of an export of a day with gaps: `a.json` with its manifest and ledger."""
    folder = make_folder()
    command = ["oci-audit", "export", "--start=2025-12-01", "--end=2025-12-01", "-o", "a.json", "--quiet"]
    done = subprocess.run(command, cwd=folder, env=reader.environment, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 10, done.stderr
    return folder
