"""Oracle's own clients, and an emulator that serves them."""

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta

import pytest

from support.emulator import Emulator

MINUTE_FORMAT = "%Y-%m-%dT%H:%M:00Z"


class OfficialClients:
    """Oracle's CLI and SDK, run in an environment of their own, as a user runs them."""

    def __init__(self, folder, home, emulator):
        self.folder = folder
        self.emulator = emulator
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LC_ALL": "C.UTF-8",
            "OCI_CLI_SUPPRESS_FILE_PERMISSIONS_WARNING": "True",
            # The CLI cannot print a lone surrogate, which an audit event may contain.
            "PYTHONIOENCODING": "utf-8:surrogatepass",
            "NO_PROXY": "127.0.0.1",
        }

    def run_cli(self, *arguments, region="", profile="DEFAULT", config_path=None, check=True, variables=None):
        """Run the CLI against the emulator, and return the finished process."""
        endpoint = self.emulator.endpoint(region) if region else self.emulator.url
        command = [self.folder / "oci", "--config-file", config_path or self.emulator.config_path]
        command += ["--profile", profile, "--endpoint", endpoint, "--no-retry", *arguments]
        done = subprocess.run(
            list(map(str, command)),
            env={**self.environment, **(variables or {})},
            capture_output=True,
            check=False,
            timeout=100,
        )
        if check and done.returncode:
            raise AssertionError(done.stderr.decode(errors="replace"))
        return done

    def read_cli(self, *arguments, **options):
        """Run the CLI, and return the `data` in its output."""
        output = self.run_cli(*arguments, **options).stdout
        return json.loads(output.decode("utf-8", "surrogatepass"))["data"]

    def run_sdk(self, script, *arguments):
        """Run a Python script with the SDK, and return the JSON in its output."""
        command = [self.folder / "python", "-c", SDK_HEAD + script, self.emulator.config_path, self.emulator.url]
        done = subprocess.run(
            list(map(str, [*command, *arguments])),
            env=self.environment,
            capture_output=True,
            check=False,
            timeout=100,
        )
        if done.returncode:
            raise AssertionError(done.stderr.decode(errors="replace"))
        return json.loads(done.stdout)


SDK_HEAD = """
import json, sys
from datetime import datetime
import oci
config = oci.config.from_file(sys.argv[1])
url, arguments = sys.argv[2], sys.argv[3:]
none = oci.retry.NoneRetryStrategy()
audit = oci.audit.AuditClient(config, service_endpoint=url + "/20190901", retry_strategy=none)
identity = oci.identity.IdentityClient(config, service_endpoint=url + "/20160918", retry_strategy=none)
read_time = datetime.fromisoformat
"""


@pytest.fixture(scope="module")
def emulator():
    """An emulator with the default settings."""
    with Emulator() as running:
        yield running


@pytest.fixture(scope="module")
def clients(contract_bin, tmp_path_factory, emulator):
    """Oracle's clients, connected to this module's emulator."""
    return OfficialClients(contract_bin, tmp_path_factory.mktemp("home"), emulator)


@pytest.fixture(scope="module")
def tenancy(emulator):
    """The emulator's description of its tenancy."""
    return emulator.tenancy()


@pytest.fixture(scope="module")
def week():
    """The last seven whole days, as two texts."""
    midnight = datetime.now(UTC).replace(hour=0, minute=0)
    return (midnight - timedelta(days=7)).strftime(MINUTE_FORMAT), midnight.strftime(MINUTE_FORMAT)
