import json
import socket
import socketserver
import threading
from pathlib import Path

import pytest

from support.emulator import Emulator
from support.exports import make_command, point_at, run_export
from support.processes import run_process
from support.truth import find_compartment

DAYS = ("--start", "2025-06-02", "--end", "2025-06-03")
OUTPUT = ("-o", "audit.json")
JSON = ("--log-format", "json")
SECRET = "not-for-anybody-to-see"


def read_log(stderr: str) -> list[dict]:
    """The lines of a log; each must be an object."""
    return [json.loads(line) for line in stderr.splitlines()]


def list_secrets(config: Path) -> list[str]:
    """Everything below a configuration that must not be shown: the lines of private keys, the parts of a token."""
    secrets = []
    for path in sorted(config.parent.iterdir()):
        text = path.read_text()
        if "PRIVATE KEY" in text:
            secrets += [line for line in text.splitlines() if len(line) > 40]
        elif path.name == "session_token":
            secrets += [text, *text.split(".")]
    return secrets


def test_a_run_is_lines_of_json_with_an_end(emulator, tmp_path):
    """Plan, gaps and end are lines on stderr; the end has the exit code, the counts and the manifest's digest."""
    finished = run_export(emulator, tmp_path, *DAYS, *OUTPUT, *JSON)
    lines = read_log(finished.stderr)
    assert (finished.code, finished.stdout) == (10, b"")
    assert [line["event"] for line in lines if line["event"] != "progress"] == ["plan", "gap", "gap", "gap", "end"]
    manifest = json.loads((tmp_path / "audit.json.manifest.json").read_bytes())
    end = lines[-1]
    assert (end["complete"], end["exit_code"], end["gaps"]) == (False, 10, 3)
    assert (end["written"], end["digest"]) == (manifest["totals"]["written"], manifest["digest"])
    assert end["requests"] == len(emulator.log())
    assert len(end["slowest"]) == 5
    times = [one["seconds"] for one in end["slowest"]]
    assert times == sorted(times, reverse=True)


def test_waived_gaps_are_called_so_while_the_run_works(emulator, tmp_path):
    """In both forms a denial that is known is no gap, and the run is complete."""
    waive = ("--waive", find_compartment(emulator, "investigations"))
    text = run_export(emulator, tmp_path, *DAYS, *OUTPUT, *waive, "-v")
    assert text.code == 0
    assert len([line for line in text.stderr.splitlines() if line.startswith("waived: denied ")]) == 3
    assert not any(line.startswith("gap:") for line in text.stderr.splitlines())
    lines = read_log(run_export(emulator, tmp_path, *DAYS, "-o", "other.json", *waive, *JSON).stderr)
    assert [line["waived"] for line in lines if line["event"] == "gap"] == [True] * 3
    assert (lines[-1]["complete"], lines[-1]["gaps"], lines[-1]["waived"]) == (True, 0, 3)


def test_very_verbose_has_a_line_for_each_request(emulator, tmp_path):
    """As many lines as the emulator served requests, with the same paths, states and request ids."""
    emulator.faults([{"operation": "ListEvents", "skip": 3, "fault": {"kind": "status", "status": 503}}])
    lines = read_log(run_export(emulator, tmp_path, *DAYS, *OUTPUT, *JSON, "-vv").stderr)
    served = emulator.log()
    asked = [line for line in lines if line["event"] == "request"]
    assert sorted((one["requestId"], one["status"]) for one in served) == sorted(
        (line["request_id"], line["status"]) for line in asked
    )
    assert all(line["method"] == "GET" and "?" not in line["path"] for line in asked)
    (repeated,) = [line for line in asked if line["attempt"] == 2]
    assert repeated["status"] == 200
    (failed,) = [line for line in asked if line["status"] == 503]
    assert failed["error"].startswith("503")
    assert [line["reason"] for line in lines if line["event"] == "retry"] == [failed["error"]]
    shards = [line for line in lines if line["event"] == "shard"]
    assert len(shards) == 42
    assert sum(line["events"] for line in shards) == lines[-1]["scanned"]


def test_quiet_and_complete_says_nothing_in_json_either(emulator, tmp_path):
    """With `--quiet` a complete run writes not a byte; one with gaps ends with its `end`."""
    scope = ("--compartment", emulator.tenancy()["id"], "--no-subtree")
    finished = run_export(emulator, tmp_path, *DAYS, *OUTPUT, *scope, *JSON, "--quiet")
    assert (finished.code, finished.stderr) == (0, "")
    lines = read_log(run_export(emulator, tmp_path, *DAYS, "-o", "other.json", *JSON, "-q").stderr)
    assert [line["event"] for line in lines] == ["gap", "gap", "gap", "end"]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--start", "soon"), 2, "'soon'"),
        (("--probe",), 2, "--dry-run"),
        (("--settle", "90s"), 2, "'90s'"),
        (("--profile", "NOBODY"), 2, "NOBODY"),
        (("--waive", "nobody"), 2, "nobody"),
        (("--end", "2025-06-01"), 2, "not before"),
    ],
)
def test_what_stops_a_run_is_a_line(emulator, tmp_path, options, code, words):
    """A wrong argument is one `error` line with its hint and exit code, and the process ends with that."""
    finished = run_export(emulator, tmp_path, *DAYS, *OUTPUT, *JSON, *options)
    (line,) = read_log(finished.stderr)
    assert finished.code == line["exit_code"] == code
    assert line["event"] == "error"
    assert words in line["message"]
    assert line["hint"]


@pytest.mark.parametrize("options", [("--log-format", "xml"), ("-q", "-v"), ("--dry-run", "--log-format")])
def test_wrong_options_of_the_log_are_refused(emulator, tmp_path, options):
    """An unknown form, and quiet together with verbose, are exit 2 with one sentence and a hint."""
    finished = run_export(emulator, tmp_path, *DAYS, *OUTPUT, *options)
    assert finished.code == 2
    assert len(finished.error_lines) == len(finished.hint_lines) == 1
    assert list(tmp_path.iterdir()) == []


class Forward(socketserver.BaseRequestHandler):
    """A forward proxy for one request after the other, in the clear."""

    def handle(self):
        """Pass a request on, without what is for the proxy alone."""
        head = b""
        while b"\r\n\r\n" not in head:
            data = self.request.recv(65536)
            if not data:
                return
            head += data
        lines = head.split(b"\r\n")
        self.server.seen.append(head)
        method, url, version = lines[0].split()
        host, _, path = url.removeprefix(b"http://").partition(b"/")
        kept = [line for line in lines[1:] if not line.lower().startswith((b"proxy-", b"connection:"))]
        with socket.create_connection(tuple(host.decode().split(":"))) as onward:
            onward.sendall(b"\r\n".join([b" ".join([method, b"/" + path, version]), b"Connection: close", *kept]))
            while data := onward.recv(65536):
                self.request.sendall(data)


@pytest.fixture
def proxy():
    """A forward proxy that wants a password, as far as its URL goes."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Forward) as server:
        server.seen = []
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("profile", ["DEFAULT", "SESSION"])
@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_is_in_a_log(tmp_path, proxy, profile, form):
    """Keys, pass phrase, session and page tokens, signatures and a proxy's password are in no line, even with -vv."""
    flags = ("--retention-days", "36500", "--events-per-day", "300", "--page-size", "40", "--pass-phrase", SECRET)
    with Emulator(*flags) as own:
        address = f"http://user:{SECRET}@127.0.0.1:{proxy.server_address[1]}"
        own.faults(
            [{"operation": "ListEvents", "match": {"page": "later"}, "fault": {"kind": "status", "status": 503}}]
        )
        own.faults([{"operation": "ListEvents", "match": {"page": "later"}, "fault": {"kind": "html"}}])
        scope = ("--compartment", find_compartment(own, "payments"), "--region", "us-ashburn-1")
        command = make_command(own, *DAYS, *OUTPUT, *scope, "--profile", profile, "-vv", "--log-format", form)
        finished = run_process(command, cwd=tmp_path, variables={**point_at(own), "http_proxy": address})
        assert finished.code == 0, finished.stderr
        secrets = [SECRET, *list_secrets(own.config_path)]
        assert all(state["completed"] for state in own.fault_states())
    seen = b"".join(proxy.seen).decode()
    assert "page=" in seen
    tokens = [part.split()[0].split("&")[0] for part in seen.split("page=")[1:]]
    signatures = [part.split('"')[0] for part in seen.split('signature="')[1:]]
    assert tokens
    assert signatures
    assert len(secrets) > 10
    for secret in (*secrets, *tokens, *signatures, "page=", "compartmentId=", "Authorization", "keyId"):
        assert secret not in finished.stderr, secret[:20]
