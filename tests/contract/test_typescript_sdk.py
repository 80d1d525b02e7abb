"""Oracle's TypeScript SDK, which writes hours below ten with one digit, against the emulator."""

import json
import os
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from support.truth import find_compartment, list_events

SCRIPT = Path(__file__).parent / "typescript" / "list_events.js"


@pytest.fixture(scope="module")
def node_modules(repository):
    """The folder that the SDK is installed in; without npm the tests are skipped, but in CI they fail."""
    environment = Path(os.environ.get("OCI_AUDIT_CONTRACT_VENV", repository / ".venv-contract"))
    folder = environment / "typescript" / "node_modules"
    if shutil.which("node") is None or not (folder / "oci-audit").is_dir():
        reason = "Oracle's TypeScript SDK is missing: install Node 20 with npm, then run `make setup-contract`"
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return folder


def run_sdk(node_modules, emulator, *arguments):
    """Run the script with the SDK against the emulator, and return the finished process."""
    return subprocess.run(
        ["node", SCRIPT, emulator.config_path, emulator.url, *arguments],
        env={"PATH": os.environ["PATH"], "NODE_PATH": str(node_modules), "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        check=False,
        timeout=100,
    )


@pytest.mark.parametrize(("first_hour", "last_hour"), [(0, 9), (9, 20)])
def test_the_typescript_sdk_reads_every_event(node_modules, emulator, first_hour, last_hour):
    """The TypeScript SDK pages through a window whose times have hours of one digit, and gets every event."""
    day = datetime.now(UTC).replace(hour=first_hour, minute=0, second=0, microsecond=0) - timedelta(days=5)
    start, end = (f"{time:%Y-%m-%dT%H:%M:00Z}" for time in (day, day.replace(hour=last_hour)))
    compartment = find_compartment(emulator, "payments")
    done = run_sdk(node_modules, emulator, compartment, start, end)
    assert done.returncode == 0, done.stderr.decode()
    truth = list_events(emulator, start, end, regions=["us-ashburn-1"], compartments=[compartment])
    expected = sorted(json.loads(line)["eventId"] for line in truth)
    assert sorted(event["eventId"] for event in json.loads(done.stdout)) == expected
    assert expected
    (sent, *_) = [entry for entry in emulator.log() if entry["startTime"].startswith(f"{day:%Y-%m-%d}T{first_hour}:")]
    assert sent["userAgent"].startswith("Oracle-TypeScriptSDK/2.139.0")


def test_the_typescript_sdk_gets_the_services_error(node_modules, emulator):
    """A compartment that the key may not read is the service's 404 for the TypeScript SDK, too."""
    compartment = find_compartment(emulator, "investigations")
    now = datetime.now(UTC)
    times = [f"{now - timedelta(days=days):%Y-%m-%dT00:00:00Z}" for days in (2, 1)]
    done = run_sdk(node_modules, emulator, compartment, *times)
    assert done.returncode == 1
    assert b"\n404 NotAuthorizedOrNotFound: " in done.stderr


def test_the_lock_pins_one_release_and_names_no_registry(repository):
    """Both packages of the SDK are pinned to one release, by hash, and the lock names no registry."""
    lock = json.loads((repository / "tests/contract/typescript/package-lock.json").read_bytes())
    packages = {name.removeprefix("node_modules/"): package for name, package in lock["packages"].items() if name}
    assert {packages[name]["version"] for name in ("oci-audit", "oci-common")} == {"2.139.0"}
    assert all(package["integrity"].startswith("sha512-") for package in packages.values())
    assert not any("resolved" in package for package in packages.values())
