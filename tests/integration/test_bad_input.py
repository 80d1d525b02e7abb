import http.server
import json
import os
import shutil
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from ociaudit.client.network import Endpoints
from ociaudit.client.transport import TransportLimits
from ociaudit.errors import ServiceUnreachable, SignInRejected
from ociaudit.operations.context import ExportOptions
from support.clocks import FastForwardClock, SkewedClock
from support.emulator import Emulator
from support.exports import export_here, make_command, make_tools, point_at, read_manifest, run_export
from support.processes import (
    Finished,
    find_command,
    finish_process,
    obey_file_modes,
    prepare_in_shell,
    run_process,
    start_process,
)
from support.truth import find_compartment, list_events, write_array

DAYS = ("--start", "2025-06-02", "--end", "2025-06-04")
START, END = "2025-06-02T00:00:00Z", "2025-06-05T00:00:00Z"
OUTPUT = ("-o", "audit.json")


def assert_explained(finished: Finished, code: int, *words: str) -> None:
    """Insist on an exit code, one clear sentence with these words, a hint, and no traceback."""
    assert finished.code == code, finished.stderr
    assert len(finished.error_lines) == 1, finished.stderr
    assert len(finished.hint_lines) == 1, finished.stderr
    for word in words:
        assert word in finished.error_lines[0], finished.stderr
    assert "Traceback" not in finished.stderr
    assert "bug" not in finished.stderr
    assert finished.stdout == b""


def list_names(folder: Path) -> list[str]:
    """Return what stands in a folder, however deep."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def write_profile(emulator, folder: Path, **changes: str | None) -> Path:
    """Write the emulator's profile with some fields changed, or left out where None."""
    lines = emulator.config_path.read_text().partition("[SESSION]")[0].splitlines()[1:]
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    kept = {**fields, **changes}
    text = "[DEFAULT]\n" + "".join(f"{name}={value}\n" for name, value in kept.items() if value is not None)
    path = folder / "config"
    path.write_text(text)
    return path


@pytest.fixture
def work(tmp_path):
    """An empty folder to run in."""
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def keep(tmp_path):
    """A folder for what a case needs, apart from where it runs."""
    folder = tmp_path / "keep"
    folder.mkdir()
    return folder


WRONG_ARGUMENTS = [
    (("--config-file", "missing"), ("missing", "does not exist")),
    (("--profile", "NOBODY"), ("no profile 'NOBODY'", "DEFAULT, SESSION")),
    (("--start", "2025-06-05"), ("2025-06-05", "2025-06-04", "not before")),
    (("--start", "2999-01-01", "--end", "2999-01-02"), ("2999-01-01", "future")),
    (("--start", "someday"), ("'someday'",)),
    (("--end", "2025-02-30"), ("'2025-02-30'", "does not exist")),
    (("--end", "2025-06-04T25:00:00Z"), ("2025-06-04T25:00:00Z",)),
    (("--end", "2025-06-04T10:00:00"), ("2025-06-04T10:00:00", "offset")),
    (("--event-type", "ok", "--event-type", "Launch(Inst"), ("'Launch(Inst'", "position 6")),
    (("--region", "mars-north"), ("no region 'mars-north'",)),
    (("--compartment", "ocid1.instance.oc1..aaaa"), ("'ocid1.instance.oc1..aaaa'", "compartment")),
    (("--compartment", "pro duction"), ("'pro duction'", "OCID")),
    (("--compartment", "productoin"), ("--compartment productoin",)),
    (("--compartment", "ocid1.compartment.oc1..bbbb"), ("lists no compartment ocid1.compartment.oc1..bbbb",)),
    (("--endpoint", "http://audit.example.com"), ("http://audit.example.com", "in the clear")),
    (("--endpoint", "ftp://127.0.0.1"), ("ftp://127.0.0.1", "URL")),
    (("--max-window-days", "0"), ("--max-window-days",)),
    (("--no-such-option",), ("--no-such-option",)),
    (("--settle", "90s"), ("'90s'",)),
    (("--settle", "-5m"), ("'-5m'",)),
    (("--settle", "soon"), ("'soon'",)),
    (("--settle", "999999999d"), ("'999999999d'",)),
    (("--settle", "3000d"), ("2025-06-02", "--settle")),
    (("--probe",), ("--probe", "--dry-run")),
    (("--json",), ("--json", "--dry-run")),
    (("--quiet", "-v"), ("--quiet", "--verbose")),
    (("--log-format", "xml"), ("--log-format",)),
    (("--resume",), ("no run to resume",)),
    (("--waive", "nobody"), ("--waive nobody",)),
    (("-o", "missing/audit.json"), ("missing", "does not exist")),
    (("--manifest", "missing/proof.json"), ("missing", "does not exist")),
]


@pytest.fixture(scope="module")
def runs_with_wrong_arguments(tmp_path_factory):
    """A run for each of the wrong arguments, as many at once as there are cores."""
    with Emulator() as own, ThreadPoolExecutor(os.cpu_count()) as threads:

        def run(options):
            folder = tmp_path_factory.mktemp("work")
            return run_export(own, folder, *DAYS, *OUTPUT, *options), folder

        runs = {options: threads.submit(run, options) for options, _ in WRONG_ARGUMENTS}
        return {options: future.result() for options, future in runs.items()}


@pytest.mark.parametrize(("options", "words"), WRONG_ARGUMENTS, ids=" ".join)
def test_arguments_that_cannot_be_carried_out(runs_with_wrong_arguments, options, words):
    """A wrong argument is exit 2 with one sentence that names it and a hint; nothing is written."""
    finished, folder = runs_with_wrong_arguments[options]
    assert_explained(finished, 2, *words)
    assert list_names(folder) == []


def test_unknown_region_of_oracle(emulator, work):
    """Without an endpoint of one's own a misspelled region of Oracle's is refused before any request."""
    command = make_command(emulator, *DAYS, *OUTPUT, "--region", "eu-frankfrut-1")
    assert_explained(run_process(command, cwd=work), 2, "no region 'eu-frankfrut-1'")
    assert list_names(work) == []


@pytest.mark.parametrize("variable", ["OCI_CONFIG_FILE", "OCI_CLI_CONFIG_FILE"])
def test_a_configuration_that_a_variable_names_and_that_is_missing(work, variable):
    """The missing file is named with its variable; the default file, which nobody asked for, is not."""
    command = [find_command("oci-audit"), "export", *DAYS, *OUTPUT]
    finished = run_process(command, cwd=work, variables={variable: "/nowhere/config"})
    assert_explained(finished, 2, "/nowhere/config does not exist", variable)
    assert str(work) not in finished.stderr


def test_no_configuration_at_all(work):
    """Without any OCI configuration the default path is named."""
    finished = run_process([find_command("oci-audit"), "export", *DAYS, *OUTPUT], cwd=work)
    assert_explained(finished, 2, str(work / ".oci" / "config"), "does not exist")
    assert list_names(work) == []


WRONG_PROFILES = {
    "no user": ({"user": None}, ("user missing",)),
    "no tenancy": ({"tenancy": None}, ("tenancy missing",)),
    "no fingerprint": ({"fingerprint": None}, ("fingerprint missing",)),
    "no region": ({"region": None}, ("region missing",)),
    "no key": ({"key_file": None}, ("key_file missing",)),
    "tenancy": ({"tenancy": "my-company"}, ("tenancy malformed",)),
    "fingerprint": ({"fingerprint": "12:34"}, ("fingerprint malformed",)),
    "region": ({"region": "home"}, ("region malformed",)),
    "key elsewhere": ({"key_file": "/nowhere/key.pem"}, ("key_file",)),
    "token elsewhere": ({"security_token_file": "/nowhere/token"}, ("security_token_file", "/nowhere/token")),
}
WRONG_FILES = {
    "empty": b"",
    "no section": b"user=nobody\n",
    "half a section": b"[DEFAULT\nuser=nobody\n",
    "no text": b"\x00\xff",
}


@pytest.fixture(scope="module")
def runs_with_wrong_configurations(tmp_path_factory):
    """A run for each wrong configuration, as many at once as there are cores."""
    with Emulator() as own, ThreadPoolExecutor(os.cpu_count()) as threads:

        def run(name):
            keep = tmp_path_factory.mktemp("keep")
            if name in WRONG_FILES:
                config = keep / "config"
                config.write_bytes(WRONG_FILES[name])
            else:
                config = write_profile(own, keep, **WRONG_PROFILES[name][0])
            folder = tmp_path_factory.mktemp("work")
            return run_export(own, folder, *DAYS, *OUTPUT, "--config-file", str(config)), folder, config

        runs = {name: threads.submit(run, name) for name in (*WRONG_PROFILES, *WRONG_FILES)}
        return {name: future.result() for name, future in runs.items()}


@pytest.mark.parametrize("name", WRONG_PROFILES)
def test_profile_that_cannot_be_used(runs_with_wrong_configurations, name):
    """A missing or malformed field is exit 2, and names the profile, the file and the field."""
    finished, folder, config = runs_with_wrong_configurations[name]
    assert_explained(finished, 2, "'DEFAULT'", str(config), *WRONG_PROFILES[name][1])
    assert list_names(folder) == []


@pytest.mark.parametrize("name", WRONG_FILES)
def test_file_that_is_no_configuration(runs_with_wrong_configurations, name):
    """A file that is no configuration is exit 2, without showing what stands in it."""
    finished, folder, config = runs_with_wrong_configurations[name]
    assert_explained(finished, 2, str(config))
    assert "nobody" not in finished.stderr
    assert list_names(folder) == []


@pytest.mark.parametrize("kind", ["folder", "forbidden", "garbage", "public", "elliptic"])
def test_key_that_cannot_be_read(emulator, work, keep, kind):
    """A key file that is a folder, forbidden, damaged, public or of another kind is exit 2 with what it should be."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = keep / "key.pem"
    source = emulator.config_path.parent
    if kind == "folder":
        key.mkdir()
    elif kind == "forbidden":
        shutil.copy(source / "oci_api_key.pem", key)
        key.chmod(0)
    elif kind == "garbage":
        key.write_text("-----BEGIN RSA PRIVATE KEY-----\nnonsense\n-----END RSA PRIVATE KEY-----\n")
    elif kind == "public":
        shutil.copy(source / "oci_api_key_public.pem", key)
    else:
        key.write_bytes(
            ec.generate_private_key(ec.SECP256R1()).private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
    config = write_profile(emulator, keep, key_file=str(key))
    finished = run_export(emulator, work, *DAYS, *OUTPUT, "--config-file", str(config), wrap=obey_file_modes)
    assert_explained(finished, 2, "'DEFAULT'", "key")
    assert list_names(work) == []


@pytest.mark.parametrize(("pass_phrase", "words"), [("wrong", "pass_phrase is wrong"), (None, "no pass phrase")])
def test_wrong_pass_phrase(emulator, work, keep, pass_phrase, words):
    """A wrong or missing pass phrase is exit 2 and is not shown."""
    from cryptography.hazmat.primitives import serialization

    plain = (emulator.config_path.parent / "oci_api_key.pem").read_bytes()
    key = serialization.load_pem_private_key(plain, None)
    encryption = serialization.BestAvailableEncryption(b"the right one")
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, encryption)
    (keep / "key.pem").write_bytes(pem)
    config = write_profile(emulator, keep, key_file=str(keep / "key.pem"), pass_phrase=pass_phrase)
    finished = run_export(emulator, work, *DAYS, *OUTPUT, "--config-file", str(config))
    assert_explained(finished, 2, words)
    assert "the right one" not in finished.stderr
    assert list_names(work) == []


def test_key_that_the_service_rejects(emulator, work, keep):
    """A key that the service does not know is exit 3, with user and fingerprint to look for."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    pem = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    (keep / "key.pem").write_bytes(pem)
    config = write_profile(emulator, keep, key_file=str(keep / "key.pem"))
    finished = run_export(emulator, work, *DAYS, *OUTPUT, "--config-file", str(config))
    assert_explained(finished, 3, "does not accept the signature", "401 NotAuthenticated", "opc-request-id")
    assert emulator.tenancy()["configUser"] in finished.hint_lines[0]
    assert "fingerprint" in finished.hint_lines[0]
    assert list_names(work) == []
    assert [entry["status"] for entry in emulator.log()] == [401]


@pytest.mark.parametrize("scope", ["whole tenancy", "named places"])
def test_expired_session(emulator, work, keep, scope):
    """A session that the service does not accept any more is exit 3, and says how to renew it."""
    text = emulator.config_path.read_text().replace("security_token_file=", "security_token_file=/nowhere/../")
    token = emulator.config_path.parent / "session_token"
    head, payload, signature = token.read_text().split(".")
    (keep / "token").write_text(f"{head}.{payload}.{signature[::-1]}")
    lines = [
        f"security_token_file={keep / 'token'}" if line.startswith("security_token_file") else line
        for line in text.splitlines()
    ]
    (keep / "config").write_text("\n".join(lines))
    targets = ("--region", "us-ashburn-1", "--compartment", emulator.tenancy()["id"], "--no-subtree")
    finished = run_export(
        emulator,
        work,
        *(*DAYS, *OUTPUT, "--config-file", str(keep / "config"), "--profile", "SESSION"),
        *(targets if scope == "named places" else ()),
    )
    assert_explained(finished, 3, "does not accept the signature")
    assert "oci session authenticate --profile-name SESSION" in finished.hint_lines[0]
    assert list_names(work) == []


@pytest.mark.parametrize(("minutes", "words"), [(10, "600 s ahead of"), (-10, "600 s behind")])
@pytest.mark.parametrize("scope", ["whole tenancy", "named places"])
def test_skewed_clock(emulator, work, minutes, words, scope):
    """A clock that is ten minutes wrong is exit 3, and the message says by how much and in which direction."""
    targets = {"regions": ("us-ashburn-1",), "compartments": (emulator.tenancy()["id"],), "is_subtree": False}
    options = ExportOptions(start="2025-06-02", end="2025-06-04", **(targets if scope == "named places" else {}))
    context = make_tools(emulator, clock=SkewedClock(timedelta(minutes=minutes)))
    with pytest.raises(SignInRejected) as caught:
        export_here(options, work / "audit.json", context)
    shown = int(str(caught.value).partition("clock is ")[2].partition(" s ")[0])
    assert abs(shown - 600) <= 2
    assert words.partition(" s ")[2] in str(caught.value)
    assert "set the clock" in caught.value.hint
    assert caught.value.exit_code == 3
    assert list_names(work) == []


def test_list_of_compartments_that_may_not_be_read(emulator, work):
    """A listing that is refused stops the run with exit 3, the policy to ask for and how to do without."""
    emulator.faults(
        [
            {
                "operation": "ListCompartments",
                "times": None,
                "fault": {"kind": "status", "status": 404, "code": "NotAuthorizedOrNotFound"},
            }
        ]
    )
    finished = run_export(emulator, work, *DAYS, *OUTPUT)
    assert_explained(finished, 3, "the list of compartments cannot be read", "404", "opc-request-id")
    assert "inspect compartments in tenancy" in finished.hint_lines[0]
    assert "--compartment" in finished.hint_lines[0]
    assert list_names(work) == []
    assert not [entry for entry in emulator.log() if entry["operation"] == "ListEvents"]


def test_output_that_exists(emulator, work):
    """An output that was not made by the same command is kept, exit 2, unless `--overwrite` says otherwise."""
    (work / "audit.json").write_text("precious")
    scope = ("--compartment", find_compartment(emulator, "network"), "--no-subtree")
    finished = run_export(emulator, work, *DAYS, *OUTPUT, *scope)
    assert_explained(finished, 2, "audit.json exists")
    assert "--overwrite" in finished.hint_lines[0]
    assert list_names(work) == ["audit.json"]
    assert (work / "audit.json").read_text() == "precious"
    assert emulator.log() == []
    assert run_export(emulator, work, *DAYS, *OUTPUT, *scope, "--overwrite").code == 0
    assert json.loads((work / "audit.json").read_bytes())


@pytest.mark.parametrize("target", ["a file", "read-only"])
def test_folder_that_takes_no_file(emulator, work, target):
    """A folder that is a file, or cannot be written, is refused before anything is asked."""
    folder = work / "target"
    if target == "a file":
        folder.write_text("")
    else:
        folder.mkdir(mode=0o500)
    finished = run_export(emulator, work, *DAYS, "-o", "target/audit.json", wrap=obey_file_modes)
    assert_explained(finished, 2 if target == "a file" else 5, str(folder))
    assert list_names(work) == ["target"]
    assert emulator.log() == []


@pytest.mark.parametrize(
    ("max_blocks", "is_begun"),
    [(0, False), (200, True), (4_000, True)],
    ids=["nothing fits", "the log does not fit", "the output does not fit"],
)
def test_full_disk(emulator, work, max_blocks, is_begun):
    """A full disk is exit 5; no output stands there, and with room the same command writes all of it."""
    limit = partial(prepare_in_shell, f"ulimit -f {max_blocks}")  # blocks of 512 bytes
    finished = run_export(emulator, work, *DAYS, *OUTPUT, wrap=limit)
    assert_explained(finished, 5, str(work))
    assert "make room" in finished.hint_lines[0]
    assert not [name for name in list_names(work) if not name.startswith("audit.json.run")]
    assert (work / "audit.json.run").exists() == is_begun
    again = run_export(emulator, work, *DAYS, *OUTPUT)
    assert again.code == 10
    assert "damaged" not in again.stderr
    assert (work / "audit.json").read_bytes() == write_array(list_events(emulator, START, END))


def test_full_disk_of_a_run_to_stdout(emulator, work):
    """When there is no room for temporary files a run to stdout is exit 5 and writes nothing there."""
    limit = partial(prepare_in_shell, "ulimit -f 0")
    finished = run_export(emulator, work, *DAYS, "-o", "-", wrap=limit)
    assert_explained(finished, 5, "temporary")
    assert list_names(work) == []


def test_stdout_closed_early(emulator, work, tmp_path):
    """A reader that goes away is exit 5 with a sentence, and nothing is left behind."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = start_process(
        make_command(emulator, *DAYS, "-o", "-", "--quiet"),
        cwd=work,
        variables={**point_at(emulator), "TMPDIR": str(temporary)},
    )
    assert process.stdout.read(2) == b"[\n"
    process.stdout.close()
    stderr = process.stderr.read().decode()
    process.stderr.close()
    assert_explained(Finished(process.wait(), b"", stderr), 5, "stdout was closed")
    assert list_names(work) == list_names(temporary) == []


def test_stdout_closed_from_the_beginning(emulator, work):
    """With `>&-` a run to stdout is exit 5, and its data reaches no other file by accident."""
    closed = partial(prepare_in_shell, "exec >&-")
    finished = run_export(emulator, work, *DAYS, "-o", "-", "--quiet", wrap=closed)
    assert_explained(finished, 5, "stdout was closed")
    assert list_names(work) == []


@pytest.mark.parametrize("how", ["closed from the beginning", "closed early"])
def test_screen_that_nobody_reads(emulator, work, how):
    """A closed stderr stops nothing: the file and the exit code are those of any other run."""
    if how == "closed early":
        process = start_process(make_command(emulator, *DAYS, *OUTPUT), cwd=work, variables=point_at(emulator))
        process.stderr.close()
        process.stdout.close()
        code = process.wait()
    else:
        code = run_export(emulator, work, *DAYS, *OUTPUT, wrap=partial(prepare_in_shell, "exec 2>&-")).code
    assert code == 10
    assert (work / "audit.json").read_bytes() == write_array(list_events(emulator, START, END))


class Elsewhere(http.server.BaseHTTPRequestHandler):
    """A web server that is no OCI service; its first path part says how it answers."""

    asked: list[str]

    def do_GET(self):
        """Answer in the way that the path says."""
        self.server.asked.append(self.path)
        kind = self.path.split("/")[1]
        body = b"<!DOCTYPE html><title>Welcome</title>" if kind != "json" else b'{"hello":"world"}'
        self.send_response({"404": 404, "301": 301, "401": 401}.get(kind, 200))
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Location", f"http://{self.headers['Host']}/elsewhere")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture(scope="module")
def elsewhere():
    """A web server on loopback that is no OCI service."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def silent_port():
    """A port that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def find_closed_port() -> int:
    """Return a port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture(scope="module", autouse=True)
def wrong_endpoints(shared_emulator, elsewhere, silent_port, tmp_path_factory):
    """Runs against every kind of wrong endpoint; each waits for long, so all begin when the module does."""
    base = f"http://127.0.0.1:{elsewhere.server_address[1]}"
    urls = {kind: f"{base}/{kind}" for kind in ("html", "json", "404", "401", "301")}
    urls |= {"refuses": f"http://127.0.0.1:{find_closed_port()}", "silent": f"http://127.0.0.1:{silent_port}"}
    runs = {}
    for kind, url in urls.items():
        folder = tmp_path_factory.mktemp("endpoint")
        command = make_command(shared_emulator, *DAYS, *OUTPUT, "--endpoint", url)
        runs[kind] = (start_process(command, cwd=folder), folder, url)
    yield runs
    for process, *_ in runs.values():
        process.kill()
        process.communicate()


@pytest.mark.parametrize("kind", ["html", "json", "404", "401", "301", "refuses", "silent"])
def test_endpoint_that_is_no_oci_service(wrong_endpoints, elsewhere, kind):
    """An endpoint that refuses, is silent or is something else is exit 4 and named; no redirect is followed."""
    process, folder, url = wrong_endpoints[kind]
    assert_explained(finish_process(process), 4, url.split("/")[2])
    assert list_names(folder) == []
    assert not [path for path in elsewhere.asked if path.startswith("/elsewhere")]
    assert kind in {"refuses", "silent"} or [path for path in elsewhere.asked if path.startswith(f"/{kind}/")]


@pytest.mark.parametrize("kind", ["refuses", "html", "silent"])
def test_first_answer_is_waited_for_15_seconds_at_most(shared_emulator, elsewhere, silent_port, work, kind):
    """Until the first usable answer all attempts and waits together take less than 15 seconds."""
    url = {
        "refuses": f"http://127.0.0.1:{find_closed_port()}",
        "html": f"http://127.0.0.1:{elsewhere.server_address[1]}/html",
        "silent": f"http://127.0.0.1:{silent_port}",
    }[kind]
    clock = FastForwardClock()
    limits = TransportLimits(silence_seconds=0.1)
    context = replace(make_tools(shared_emulator, clock=clock, limits=limits), endpoints=Endpoints(url))
    begun = clock.monotonic()
    with pytest.raises(ServiceUnreachable) as caught:
        export_here(ExportOptions(start=START, end=END), work / "audit.json", context)
    assert 5 < clock.monotonic() - begun < 15
    assert "--endpoint" in caught.value.hint


def test_leftovers_of_another_request_are_kept(emulator, work):
    """A run that was left is not thrown away by other arguments: exit 2 with the difference."""
    assert run_export(emulator, work, *DAYS, *OUTPUT).code == 10
    before = {name: (work / name).stat().st_mtime_ns for name in list_names(work)}
    finished = run_export(emulator, work, *DAYS, *OUTPUT, "--region", "ap-tokyo-1")
    assert_explained(finished, 2, "regions was (all), is ap-tokyo-1")
    assert "--restart" in finished.hint_lines[0]
    assert {name: (work / name).stat().st_mtime_ns for name in list_names(work)}.keys() == before.keys()
    assert read_manifest(work / "audit.json")["complete"] is False


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("verify", "."), ". is a folder"),
        (("diff", ".", "."), ". is a folder"),
        (("summary", "."), ". is a folder"),
        (("report", ".", "-o", "report.html"), ". is a folder"),
        (("convert", ".", "-o", "events.csv"), ". is a folder"),
        (("query", ".", "SELECT 1 FROM events"), ". is a folder"),
    ],
)
def test_a_folder_is_no_file_of_events(tmp_path, arguments, words):
    """Every command that reads a file says that this is a folder, or no file, and what to name instead."""
    finished = run_process([find_command("oci-audit"), *arguments], cwd=tmp_path)
    assert_explained(finished, 2, words)
    assert "name a file in it" in finished.hint_lines[0]
    assert list_names(tmp_path) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify", "{}"),
        ("diff", "{}", "a.json"),
        ("diff", "a.json", "{}"),
        ("reconcile", "a.json", "{}"),
        ("summary", "{}"),
        ("report", "{}", "-o", "report.html"),
        ("convert", "{}", "-o", "events.csv"),
        ("query", "{}", "SELECT 1 FROM events"),
        ("import", "archive", "{}"),
        ("status", "{}"),
        ("convert", "a.json", "-o", "{}"),
    ],
)
def test_a_name_longer_than_any_file_has(tmp_path, arguments):
    """Every command that takes a file says that no file can have so long a name, which is a usage error."""
    name = "x" * 300 + ".json"
    finished = run_process([find_command("oci-audit"), *(one.format(name) for one in arguments)], cwd=tmp_path)
    assert_explained(finished, 2, "cannot be the name of a file: it is too long")
    assert list_names(tmp_path) == []
