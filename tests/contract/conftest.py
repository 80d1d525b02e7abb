"""Oracle's own clients, and an emulator for them to ask."""

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta

import pytest

from support.emulator import Emulator

FORM = "%Y-%m-%dT%H:%M:00Z"


class OfficialClients:
    """Oracle's command and SDK, run from their own environment as a user would."""

    def __init__(self, folder, home, emulator):
        self.folder = folder
        self.emulator = emulator
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LC_ALL": "C.UTF-8",
            "OCI_CLI_SUPPRESS_FILE_PERMISSIONS_WARNING": "True",
            # The command cannot print a lone surrogate, which an audit event may hold.
            "PYTHONIOENCODING": "utf-8:surrogatepass",
            "NO_PROXY": "127.0.0.1",
        }

    def run_cli(self, *arguments, region="", profile="DEFAULT", config_path=None, check=True, variables=None):
        """Run the command against the emulator; give the finished process."""
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
        """Run the command; give the `data` that it printed."""
        output = self.run_cli(*arguments, **options).stdout
        return json.loads(output.decode("utf-8", "surrogatepass"))["data"]

    def run_sdk(self, script, *arguments):
        """Run a Python script with the SDK; give the JSON that it printed."""
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
    """An emulator with the usual behaviour."""
    with Emulator() as running:
        yield running


@pytest.fixture(scope="module")
def clients(contract_bin, tmp_path_factory, emulator):
    """Oracle's clients, asking this module's emulator."""
    return OfficialClients(contract_bin, tmp_path_factory.mktemp("home"), emulator)


@pytest.fixture(scope="module")
def tenancy(emulator):
    """What the emulator says that its tenancy is."""
    return emulator.tenancy()


@pytest.fixture(scope="module")
def week():
    """The last seven whole days, as two texts."""
    midnight = datetime.now(UTC).replace(hour=0, minute=0)
    return (midnight - timedelta(days=7)).strftime(FORM), midnight.strftime(FORM)
