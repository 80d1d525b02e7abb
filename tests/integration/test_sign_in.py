import gc
import http.server
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import ociaudit
from support.emulator import Emulator
from support.exports import make_command, point_at, read_manifest
from support.processes import Finished, find_command, finish_process, run_process, start_process
from support.truth import find_compartment

REGION = "us-ashburn-1"
FLAGS = ("--retention-days", "36500", "--events-per-day", "400", "--page-size", "20", "--latency-ms", "40")
LEAVES_CONNECTIONS = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
DAYS = ("--start", "2025-06-02", "--end", "2025-06-06")
SESSION = ("--profile", "SESSION")


@dataclass(frozen=True)
class Desk:
    """A folder to export in, with a configuration of its own whose session and tokens a test may replace."""

    emulator: Emulator
    folder: Path
    compartment: str
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        """Give the folder of the configuration."""
        return self.folder / "oci"

    @property
    def output(self) -> Path:
        """Give the output's path."""
        return self.folder / "a.json"

    def refresh(self, name: str = "session_token", kind: str = "user", seconds: float = 3600) -> None:
        """Put a fresh token where the old one stands, as Oracle's tools do."""
        token = self.emulator.issue_token(self.config / "session_key.pem", kind=kind, seconds=seconds)
        (self.config / name).write_text(token)

    def make_command(self, *options: str) -> list[str]:
        """Return the command: five days of one compartment."""
        scope = ("--region", REGION, "--compartment", self.compartment, "--no-subtree")
        command = make_command(self.emulator, *DAYS, *scope, "-o", self.output.name, *options)
        command[command.index("--config-file") + 1] = str(self.config / "config")
        return command

    def export(self, *options: str, **variables: str) -> Finished:
        """Run the command to its end."""
        return run_process(
            self.make_command(*options),
            cwd=self.folder,
            variables={**point_at(self.emulator), **self.variables, **variables},
        )

    def export_through(self, disturb: Callable[[], None], *options: str) -> Finished:
        """Run the command, and do something when some of its pages have been answered."""
        process = start_process(
            self.make_command(*options), cwd=self.folder, variables={**point_at(self.emulator), **self.variables}
        )
        deadline = time.monotonic() + 30
        while self.count_pages() < 3:
            assert process.poll() is None, finish_process(process)
            assert time.monotonic() < deadline
            time.sleep(0.02)
        disturb()
        return finish_process(process)

    def count_pages(self) -> int:
        """Return how many pages of events were answered."""
        return sum(one["operation"] == "ListEvents" and one["status"] == 200 for one in self.emulator.log())

    def count_rejected(self) -> int:
        """Return how many signatures were not accepted."""
        return sum(one["status"] == 401 for one in self.emulator.log())

    def count_tokens(self) -> int:
        """Return how many tokens an instance was given."""
        return sum(one["path"] == "/v1/x509" and one["status"] == 200 for one in self.emulator.log())

    def read_asker(self) -> dict:
        """Return who the manifest says has asked."""
        return read_manifest(self.output)["asked_by"]


@dataclass(frozen=True)
class Expected:
    """What every sign-in must get."""

    content: bytes
    pages: int


@pytest.fixture(scope="module")
def running():
    """An emulator whose answers take long enough to be disturbed."""
    with Emulator(*FLAGS) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def expected(running, tmp_path_factory):
    """The bytes of the same export with an API key, undisturbed, and how many pages that takes."""
    desk = make_desk(running, tmp_path_factory.mktemp("expected"))
    done = desk.export()
    assert done.code == 0, done.stderr
    return Expected(desk.output.read_bytes(), desk.count_pages())


@pytest.fixture
def desk(running, tmp_path, expected) -> Desk:
    """A desk with a fresh session."""
    made = make_desk(running, tmp_path)
    made.refresh()
    made.refresh("resource_principal_token", "resource")
    return made


@pytest.fixture
def instance(desk: Desk) -> Desk:
    """A desk on an instance."""
    desk.variables["OCI_METADATA_BASE_URL"] = f"{desk.emulator.url}/opc/v2"
    desk.variables["OCI_CLI_FEDERATION_ENDPOINT"] = f"{desk.emulator.url}/v1/x509"
    return desk


@pytest.fixture
def function(desk: Desk) -> Desk:
    """A desk in a function, whose token stands in a file."""
    desk.variables["OCI_RESOURCE_PRINCIPAL_VERSION"] = "2.2"
    desk.variables["OCI_RESOURCE_PRINCIPAL_RPST"] = str(desk.config / "resource_principal_token")
    desk.variables["OCI_RESOURCE_PRINCIPAL_PRIVATE_PEM"] = str(desk.config / "session_key.pem")
    desk.variables["OCI_RESOURCE_PRINCIPAL_REGION"] = "iad"
    return desk


def make_desk(emulator: Emulator, folder: Path) -> Desk:
    """Copy the emulator's configuration into a folder."""
    emulator.clear_faults()
    emulator.clear_log()
    source = emulator.config_path.parent
    shutil.copytree(source, folder / "oci")
    config = folder / "oci" / "config"
    config.write_text(config.read_text().replace(str(source), str(folder / "oci")))
    return Desk(emulator, folder, find_compartment(emulator, "payments"))


def assert_no_secret(desk: Desk, *finished: Finished) -> None:
    """Insist that no token and no key stands in anything that was printed or written."""
    token_files = [desk.config / "session_token", desk.config / "resource_principal_token"]
    secrets = [part for path in token_files for part in path.read_text().split(".")[1:]]
    secrets += (desk.config / "session_key.pem").read_text().splitlines()[1:3]
    written = [path for path in desk.folder.rglob("*") if path.is_file() and desk.config not in path.parents]
    texts = [text for done in finished for text in (done.stderr, done.stdout.decode())]
    texts += [path.read_bytes().decode("utf-8", "replace") for path in written]
    assert not [secret[:20] for secret in secrets for text in texts if secret in text]


def assert_complete(desk: Desk, done: Finished, expected: Expected) -> None:
    """Insist on a complete export of the same bytes as anybody else's."""
    assert done.code == 0, done.stderr
    assert desk.output.read_bytes() == expected.content
    assert_no_secret(desk, done)


def assert_stopped(desk: Desk, done: Finished, *words: str) -> None:
    """Insist on exit 3 with one sentence and a hint with these words, and a run that can be gone on with."""
    assert done.code == 3, done.stderr
    assert len(done.error_lines) == len(done.hint_lines) == 1, done.stderr
    for word in words:
        assert word in done.hint_lines[0], done.stderr
    assert not desk.output.exists()
    assert (desk.folder / "a.json.run" / "journal.ndjson").exists()
    assert_no_secret(desk, done)


def test_a_session_exports_what_a_key_does(desk: Desk, expected: Expected) -> None:
    """A session's export is the same, asked by the token's user, and no fingerprint is stated."""
    assert_complete(desk, desk.export(*SESSION), expected)
    assert desk.read_asker()["principal"] == desk.emulator.tenancy()["configUser"]
    assert desk.read_asker()["key_fingerprint"] is None


def test_a_session_that_ended_before_asks_for_a_new_one(desk: Desk, expected: Expected) -> None:
    """An ended session is exit 3 with the command that renews it and when it ended; renewed, the command goes on."""
    desk.refresh(seconds=-30)
    done = desk.export(*SESSION)
    assert_stopped_at_once(desk, done)
    assert "the token expired at 20" in done.error_lines[0]
    desk.refresh()
    assert_complete(desk, desk.export(*SESSION), expected)


def assert_stopped_at_once(desk: Desk, done: Finished) -> None:
    """Insist on exit 3 with the exact command that renews the session."""
    assert done.code == 3, done.stderr
    config = desk.config / "config"
    command = f"oci session authenticate --profile-name SESSION --region {REGION} --config-location {config}"
    assert command in done.hint_lines[0]
    assert "oci session refresh --profile SESSION" in done.hint_lines[0]
    assert_no_secret(desk, done)


def test_a_session_that_ends_half_way_can_be_gone_on_with(desk: Desk, expected: Expected) -> None:
    """A session that ends during the run stops it with exit 3; the same command with a new one asks for the rest."""
    done = desk.export_through(desk.emulator.end_tokens, *SESSION)
    assert_stopped(desk, done, "oci session authenticate --profile-name SESSION")
    desk.refresh()
    desk.emulator.clear_log()
    assert_complete(desk, desk.export(*SESSION), expected)
    assert desk.count_pages() < expected.pages


def test_a_session_renewed_meanwhile_is_taken_up(desk: Desk, expected: Expected) -> None:
    """When somebody has renewed the session in time, the run goes on with the new token."""

    def refresh() -> None:
        desk.refresh(seconds=7200)
        desk.emulator.end_tokens()

    assert_complete(desk, desk.export_through(refresh, *SESSION), expected)
    assert desk.count_rejected() >= 1


def test_an_instance_exports_what_a_key_does(instance: Desk, expected: Expected) -> None:
    """An instance's export is the same, with one token, asked by the instance."""
    assert_complete(instance, instance.export("--auth", "instance_principal"), expected)
    assert instance.count_tokens() == 1
    assert instance.read_asker()["principal"].startswith("ocid1.instance.")
    assert instance.read_asker()["key_fingerprint"] is None


def test_an_instance_renews_its_token_before_it_ends(instance: Desk, tmp_path: Path) -> None:
    """When a token's life is over before the run is, an instance asks for the next one without being refused first."""
    with Emulator(*FLAGS, "--token-seconds", "2") as own:
        desk = Desk(own, tmp_path, instance.compartment)
        shutil.rmtree(desk.config)
        shutil.copytree(own.config_path.parent, desk.config)
        desk.variables["OCI_METADATA_BASE_URL"] = f"{own.url}/opc/v2"
        desk.variables["OCI_CLI_FEDERATION_ENDPOINT"] = f"{own.url}/v1/x509"
        pause = {"kind": "status", "status": 503, "headers": {"Retry-After": "4"}}
        own.faults([{"operation": "ListEvents", "skip": 2, "fault": pause}])
        done = desk.export("--auth", "instance_principal")
        assert done.code == 0, done.stderr
        assert own.fault_states()[0]["completed"]
        # The first, one for each refusal that a slow machine may bring, and at least one that was asked for in time.
        assert desk.count_tokens() > 1 + desk.count_rejected()


def test_an_instance_that_is_refused_gets_a_new_token(instance: Desk, expected: Expected) -> None:
    """When its token ends too soon, an instance asks for another one, and once more for the page."""
    done = instance.export_through(instance.emulator.end_tokens, "--auth", "instance_principal")
    assert_complete(instance, done, expected)
    assert instance.count_tokens() == 2
    assert instance.count_rejected() >= 1


def test_a_refused_instance_stops_the_run(instance: Desk, expected: Expected) -> None:
    """When a new token does not help, the run stops with exit 3, and goes on when it is accepted again."""
    instance.emulator.faults(
        [{"operation": "ListEvents", "skip": 4, "times": None, "fault": {"kind": "status", "status": 401}}]
    )
    done = instance.export("--auth", "instance_principal")
    assert_stopped(instance, done, "ocid1.instance.")
    instance.emulator.clear_faults()
    assert_complete(instance, instance.export("--auth", "instance_principal"), expected)


def test_a_function_exports_what_a_key_does(function: Desk, expected: Expected) -> None:
    """A resource's export is the same, asked by the resource; its kind may come from the variable."""
    assert_complete(function, function.export(OCI_CLI_AUTH="resource_principal"), expected)
    assert function.read_asker()["principal"].startswith("ocid1.fnfunc.")
    assert function.read_asker()["key_fingerprint"] is None


def test_a_function_takes_up_a_token_that_was_put_there(function: Desk, expected: Expected) -> None:
    """When the token's file was renewed in time, the run goes on with it."""

    def refresh() -> None:
        function.refresh("resource_principal_token", "resource", seconds=7200)
        function.emulator.end_tokens()

    assert_complete(function, function.export_through(refresh, "--auth", "resource_principal"), expected)
    assert function.count_rejected() >= 1


def test_a_function_without_a_new_token_stops(function: Desk, expected: Expected) -> None:
    """When nobody renewed the file the run stops with exit 3, and the same command goes on later."""
    done = function.export_through(function.emulator.end_tokens, "--auth", "resource_principal")
    assert_stopped(function, done, "ocid1.fnfunc.")
    function.refresh("resource_principal_token", "resource")
    assert_complete(function, function.export("--auth", "resource_principal"), expected)


def test_the_contents_may_stand_in_the_variables(function: Desk, expected: Expected) -> None:
    """Token and key of a resource may be given themselves instead of their files."""
    for name in ("OCI_RESOURCE_PRINCIPAL_RPST", "OCI_RESOURCE_PRINCIPAL_PRIVATE_PEM"):
        function.variables[name] = Path(function.variables[name]).read_text()
    assert_complete(function, function.export("--auth", "resource_principal"), expected)


@pytest.mark.parametrize("way", ["option", "OCI_CLI_AUTH", "authentication_type"])
def test_an_instance_acts_for_a_user(instance: Desk, way: str, expected: Expected) -> None:
    """A delegation token makes an instance ask for its user, named in each of the three ways."""
    (instance.config / "delegation").write_text(instance.emulator.issue_token(instance.config / "session_key.pem"))
    instance.variables["OCI_CLI_DELEGATION_TOKEN_FILE"] = str(instance.config / "delegation")
    if way == "authentication_type":
        with (instance.config / "config").open("a") as config:
            config.write("authentication_type=instance_principal\n")
        instance.variables["OCI_CLI_PROFILE"] = "SESSION"
    elif way == "OCI_CLI_AUTH":
        instance.variables["OCI_CLI_AUTH"] = "instance_obo_user"
    options = ("--auth", "delegation_token") if way == "option" else ()
    assert_complete(instance, instance.export(*options), expected)
    assert instance.count_tokens() == 1
    assert instance.read_asker()["principal"] == instance.emulator.tenancy()["configUser"]


def test_the_variables_are_enough(desk: Desk, expected: Expected) -> None:
    """With the variables of Oracle's command an API key needs no configuration file."""
    lines = (desk.config / "config").read_text().partition("[SESSION]")[0].splitlines()[1:]
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    key = Path(fields.pop("key_file")).read_text()
    variables = {f"OCI_CLI_{name.upper()}": value for name, value in fields.items()} | {"OCI_CLI_KEY_CONTENT": key}
    command = desk.make_command()
    del command[command.index("--config-file") :][:2]
    command = [word for word in command if word not in {"--config-file", str(desk.config / "config")}]
    done = run_process(command, cwd=desk.folder, variables={**point_at(desk.emulator), **variables})
    assert_complete(desk, done, expected)
    assert key.splitlines()[1] not in done.stderr


class Stranger(http.server.BaseHTTPRequestHandler):
    """Answers everything with a web page, as a captive portal does."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>please sign in</html>")

    do_POST = do_GET  # noqa: N815 -- the base class's form

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def stranger():
    """A server that is none of Oracle's."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def silence():
    """A server that accepts connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def assert_refused(desk: Desk, code: int, words: str, monkeypatch: pytest.MonkeyPatch, **options: str) -> None:
    """Insist that an export in this process ends with this code and words and a hint, and asks the tenancy nothing."""
    for name, value in desk.variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ociaudit.OciAuditError) as caught:
        ociaudit.export(
            "2025-06-02",
            "2025-06-02",
            output=desk.output,
            config_file=str(desk.config / "config"),
            endpoint=desk.emulator.url + "/{region}",
            **options,
        )
    message, hint, exit_code = str(caught.value), caught.value.hint, caught.value.exit_code
    told = f"{message} {hint}"
    del caught
    gc.collect()  # the SDK leaves the connections of a sign-in that failed to whoever collects them
    assert exit_code == code, told
    assert words in message
    assert hint
    assert not [one for one in desk.emulator.log() if one["operation"]]
    assert_no_secret(desk, Finished(code, b"", told))


@LEAVES_CONNECTIONS
@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"OCI_METADATA_BASE_URL": "http://127.0.0.1:9/opc/v2"}, 2, "metadata service"),
        ({"OCI_METADATA_BASE_URL": "http://[::1/opc"}, 2, "OCI_METADATA_BASE_URL"),
        ({"OCI_METADATA_BASE_URL": "{emulator}/elsewhere"}, 2, "metadata service answered"),
        ({"OCI_METADATA_BASE_URL": "{stranger}"}, 2, "no certificate"),
        ({"OCI_CLI_FEDERATION_ENDPOINT": "http://127.0.0.1:9/v1/x509"}, 4, "127.0.0.1:9"),
        ({"OCI_CLI_FEDERATION_ENDPOINT": "{stranger}"}, 2, "cannot sign in here"),
        ({"OCI_CLI_FEDERATION_ENDPOINT": "http://auth.example.com/v1/x509"}, 2, "OCI_CLI_FEDERATION_ENDPOINT"),
        ({"OCI_CLI_FEDERATION_ENDPOINT": "{emulator}/20160918/compartments"}, 3, "401"),
        ({"OCI_CLI_REGION": "../x"}, 2, "region malformed"),
    ],
)
def test_an_instance_that_is_none_is_told_so(
    instance: Desk, stranger: str, changes: dict[str, str], code: int, words: str, monkeypatch
) -> None:
    """Where metadata or tokens cannot be had, the run ends before anything is asked, and says why."""
    for name, value in changes.items():
        instance.variables[name] = value.replace("{emulator}", instance.emulator.url).replace("{stranger}", stranger)
    assert_refused(instance, code, words, monkeypatch, auth="instance_principal")


def test_nobody_waits_for_ever_for_a_token(instance: Desk, silence: str) -> None:
    """A service of tokens that accepts and never answers ends the run, long before the SDK's minutes are over."""
    instance.variables["OCI_CLI_FEDERATION_ENDPOINT"] = f"{silence}/v1/x509"
    done = instance.export("--auth", "instance_principal")  # has a time-out of its own, well below those minutes
    assert done.code == 4, done.stderr
    assert "no token was issued" in done.error_lines[0]
    assert len(done.hint_lines) == 1


@LEAVES_CONNECTIONS
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"OCI_RESOURCE_PRINCIPAL_VERSION": ""}, "OCI_RESOURCE_PRINCIPAL_VERSION is not set"),
        ({"OCI_RESOURCE_PRINCIPAL_VERSION": "9.9"}, "Unsupported OCI_RESOURCE_PRINCIPAL_VERSION"),
        ({"OCI_RESOURCE_PRINCIPAL_RPST": ""}, "OCI_RESOURCE_PRINCIPAL_RPST not set"),
        ({"OCI_RESOURCE_PRINCIPAL_RPST": "/missing/token"}, "/missing/token cannot be read"),
        ({"OCI_RESOURCE_PRINCIPAL_RPST": "garbage"}, "token cannot be parsed"),
        ({"OCI_RESOURCE_PRINCIPAL_PRIVATE_PEM": "/missing/key"}, "/missing/key cannot be read"),
        ({"OCI_RESOURCE_PRINCIPAL_PRIVATE_PEM": "garbage"}, "private key cannot be read"),
        ({"OCI_RESOURCE_PRINCIPAL_PRIVATE_PEM_PASSPHRASE": "/missing/phrase"}, "resource_principal: "),
        ({"OCI_RESOURCE_PRINCIPAL_REGION": ""}, "region is not known"),
    ],
)
def test_a_function_without_its_surroundings_is_told_so(
    function: Desk, changes: dict[str, str], words: str, monkeypatch
) -> None:
    """What a resource's sign-in misses is named, before anything is asked."""
    function.variables.update(changes)
    assert_refused(function, 2, words, monkeypatch, auth="resource_principal")


@LEAVES_CONNECTIONS
@pytest.mark.parametrize(
    ("options", "variables", "words"),
    [
        ({"auth": "magic"}, {}, "unknown kind of sign-in: 'magic'"),
        ({}, {"OCI_CLI_AUTH": "magic"}, "OCI_CLI_AUTH is 'magic'"),
        ({}, {"OCI_CLI_AUTH": "pkcs11"}, "OCI_CLI_AUTH is 'pkcs11'"),
        ({"auth": "security_token"}, {}, "security_token_file missing"),
        ({"auth": "delegation_token"}, {}, "delegation_token_file missing"),
        ({"auth": "oke_workload_identity"}, {}, "KUBERNETES_SERVICE_HOST is not set"),
        ({"auth": "oke_workload_identity"}, {"KUBERNETES_SERVICE_HOST": "127.0.0.1"}, "ca.crt"),
        ({}, {"OCI_CLI_PROFILE": "NOBODY"}, "no profile 'NOBODY'"),
        ({}, {"OCI_CLI_SECURITY_TOKEN_FILE": "/missing/token"}, "OCI_CLI_SECURITY_TOKEN_FILE"),
        ({"profile": "SESSION"}, {"OCI_CLI_SECURITY_TOKEN_FILE": "{config}/config"}, "holds no token"),
        ({"profile": "SESSION"}, {"OCI_CLI_KEY_FILE": "{config}/oci_api_key.pem"}, "token of another key"),
        ({}, {"OCI_CLI_KEY_CONTENT": "garbage"}, "OCI_CLI_KEY_CONTENT"),
        ({}, {"OCI_CLI_TENANCY": "nonsense"}, "tenancy malformed"),
        ({}, {"OCI_CLI_REGION": "../x"}, "region malformed"),
    ],
)
def test_a_sign_in_that_cannot_be_is_explained(
    desk: Desk, options: dict[str, str], variables: dict[str, str], words: str, monkeypatch
) -> None:
    """An impossible choice is exit 2 that names what is wrong and where it was said."""
    desk.variables.update({name: value.replace("{config}", str(desk.config)) for name, value in variables.items()})
    assert_refused(desk, 2, words, monkeypatch, **options)


def test_a_sign_in_that_does_not_exist_ends_the_command(desk: Desk) -> None:
    """The command refuses another kind in one sentence that lists those that there are."""
    done = desk.export("--auth", "magic")
    assert done.code == 2, done.stderr
    assert len(done.error_lines) == len(done.hint_lines) == 1
    assert "oke_workload_identity" in done.error_lines[0]


def test_the_scripts_know_no_variables_of_the_command(desk: Desk) -> None:
    """The documented scripts read the configuration they are given, whatever OCI_CLI_* says."""
    command = [find_command("oci-audit-streamer"), "--startdate", "2025-06-02", "--enddate", "2025-06-02"]
    command += ["--profilename", "DEFAULT", "--outputfile", "a.json", "--eventfilter", desk.compartment]
    command += ["--ociconfig", str(desk.config / "config")]
    strange = {"OCI_CLI_AUTH": "instance_principal", "OCI_CLI_TENANCY": "nonsense", "OCI_CLI_PROFILE": "NOBODY"}
    done = run_process(command, cwd=desk.folder, variables={**point_at(desk.emulator), **strange})
    assert done.code == 0, done.stderr
    assert len(json.loads(desk.output.read_bytes())) > 0
    assert os.stat(desk.output).st_mode & 0o777 == 0o600  # noqa: PTH116 -- follows no link on purpose
