import base64
import json
import shlex
import socket
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from support.emulator import Emulator
from support.exports import point_at
from support.processes import Finished, find_command, obey_file_modes, run_process
from support.truth import find_compartment

READ_EVENTS = "Allow group <group> to read audit-events in tenancy"
INSPECT_COMPARTMENTS = "Allow group <group> to inspect compartments in tenancy"
INSPECT_TENANCIES = "Allow group <group> to inspect tenancies in tenancy"
DENIED = {"kind": "status", "status": 404}
SECRET = "pass-phrase-of-nobody"


def ask_doctor(
    emulator: Emulator, folder: Path, *options: str, config: Path | None = None, **variables: str
) -> Finished:
    """Run `oci-audit doctor` with the emulator's configuration, or another."""
    command = [find_command("oci-audit"), "doctor", "--config-file", str(config or emulator.config_path), *options]
    return run_process(obey_file_modes(command), cwd=folder, variables={**point_at(emulator), **variables})


def diagnose(emulator: Emulator, folder: Path, *options: str, **given: Any) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return the exit code and the findings by name; of several of one name the last."""
    finished = ask_doctor(emulator, folder, *options, "--json", **given)
    shown = json.loads(finished.stdout)
    assert shown["is_ready"] is (finished.code == 0)
    assert "Traceback" not in finished.stderr
    for finding in shown["findings"]:
        assert finding["status"] in {"ok", "warning", "failed", "skipped"}
        assert (finding["hint"] is not None) is (finding["status"] in {"warning", "failed"}), finding
    return finished.code, {finding["check"]: finding for finding in shown["findings"]}


def list_troubles(found: dict[str, dict[str, Any]], *statuses: str) -> set[str]:
    """The checks that ended so."""
    return {name for name, finding in found.items() if finding["status"] in statuses}


@pytest.fixture
def profile(emulator, tmp_path):
    """A copy of the emulator's profile and key, to be damaged."""
    folder = tmp_path / "profile"
    folder.mkdir(mode=0o700)
    fields = dict(
        line.split("=", 1)
        for line in emulator.config_path.read_text().partition("[SESSION]")[0].splitlines()
        if "=" in line
    )
    key = folder / "key.pem"
    key.write_bytes(Path(fields["key_file"]).read_bytes())
    key.chmod(0o600)
    fields["key_file"] = str(key)
    config = folder / "config"
    config.write_text("[DEFAULT]\n" + "".join(f"{name}={value}\n" for name, value in fields.items()))
    config.chmod(0o600)
    return config


def test_all_is_well_but_the_forbidden_compartment(emulator, tmp_path):
    """The made tenancy is ready; the compartment that nobody may read is a warning with its name and the policy."""
    code, found = diagnose(emulator, tmp_path)
    assert code == 0
    assert list_troubles(found, "failed", "skipped") == set()
    assert list_troubles(found, "warning") == {"compartments"}
    assert find_compartment(emulator, "investigations") in found["compartments"]["message"]
    assert found["compartments"]["message"].startswith("1 of 14 ")
    assert found["compartments"]["policy"] == READ_EVENTS
    assert "--waive" in found["compartments"]["hint"]
    assert {"region ap-tokyo-1", "region eu-frankfurt-1", "region us-ashburn-1"} <= found.keys()
    assert list(tmp_path.iterdir()) == []


def test_a_person_gets_a_line_for_each_finding(emulator, tmp_path):
    """Status, check and message stand on a line of stdout, what to do below it, and the sum at the end."""
    finished = ask_doctor(emulator, tmp_path)
    lines = finished.stdout.decode().splitlines()
    assert (finished.code, finished.stderr) == (0, "")
    assert lines[0].startswith("ok       configuration ")
    assert any(line.startswith("         hint: ") for line in lines)
    assert f"         policy: {READ_EVENTS}" in lines
    assert lines[-1].endswith("1 warning")


def test_no_configuration(emulator, tmp_path):
    """A file that is not there is named, and everything that needs it is skipped, not failed."""
    code, found = diagnose(emulator, tmp_path, config=tmp_path / "nowhere")
    assert code == 3
    assert list_troubles(found, "failed") == {"configuration"}
    assert "does not exist" in found["configuration"]["message"]
    assert {"service", "sign-in", "audit events", "retention"} <= list_troubles(found, "skipped")
    assert emulator.log() == []


def test_a_wrong_key(emulator, tmp_path, profile):
    """A good key that is not the user's is refused by the service: the sign-in failed, the clock is right."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (profile.parent / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    code, found = diagnose(emulator, tmp_path, config=profile)
    assert code == 3
    assert list_troubles(found, "failed") == {"sign-in"}
    assert "fingerprint" in found["sign-in"]["hint"]
    assert found["clock"]["status"] == "ok"
    assert "list of regions" in list_troubles(found, "skipped")


@pytest.mark.parametrize("change", ["missing", "damaged"])
def test_a_key_that_is_none(emulator, tmp_path, profile, change):
    """A key file that is gone or damaged is a failure of the configuration; its bytes are not shown."""
    key = profile.parent / "key.pem"
    inside = key.read_text().splitlines()[3]
    if change == "missing":
        key.unlink()
    else:
        key.write_text(key.read_text().replace("\n" + inside, "\n" + inside[::-1]))
    finished = ask_doctor(emulator, tmp_path, "--json", config=profile)
    found = {one["check"]: one for one in json.loads(finished.stdout)["findings"]}
    assert finished.code == 3
    assert "configuration" in list_troubles(found, "failed")
    assert "key" in found["configuration"]["message"]
    assert inside not in finished.stdout.decode()
    assert inside[::-1] not in finished.stdout.decode()


@pytest.mark.parametrize("name", ["key.pem", "config"])
def test_a_file_that_others_can_read(emulator, tmp_path, profile, name):
    """A key or configuration that others may read is a warning with the command that mends it; the run may go on."""
    (profile.parent / name).chmod(0o644)
    code, found = diagnose(emulator, tmp_path, config=profile)
    assert code == 0
    assert found["private files"]["status"] == "warning"
    assert "mode 0644" in found["private files"]["message"]
    assert found["private files"]["hint"] == f"chmod 600 {shlex.quote(str(profile.parent / name))}"
    (profile.parent / name).chmod(0o600)
    assert diagnose(emulator, tmp_path, config=profile)[1]["private files"]["status"] == "ok"


@pytest.mark.parametrize(("seconds", "words"), [(-400, "ahead of"), (400, "behind")])
def test_a_clock_that_is_wrong(emulator, tmp_path, seconds, words):
    """Beyond five minutes the clock is what failed, and not the key; which way it is wrong is told."""
    emulator.faults([{"times": None, "fault": {"kind": "skewed_clock", "seconds": seconds}}])
    code, found = diagnose(emulator, tmp_path)
    assert code == 3
    assert list_troubles(found, "failed") == {"clock"}
    assert words in found["clock"]["message"]
    assert "clock" in found["clock"]["hint"]
    assert found["sign-in"]["message"] == "not checked, because of: clock"
    assert emulator.fault_states()[0]["fired"]


def test_a_clock_that_is_a_little_wrong(emulator, tmp_path):
    """Two minutes are a warning: requests are still accepted."""
    emulator.faults([{"times": None, "fault": {"kind": "skewed_clock", "seconds": 120}}])
    code, found = diagnose(emulator, tmp_path)
    assert (code, found["clock"]["status"], found["sign-in"]["status"]) == (0, "warning", "ok")


@pytest.mark.parametrize(
    ("operation", "check", "policy"),
    [
        ("ListRegionSubscriptions", "list of regions", INSPECT_TENANCIES),
        ("ListCompartments", "list of compartments", INSPECT_COMPARTMENTS),
        ("ListEvents", "audit events", READ_EVENTS),
    ],
)
def test_a_missing_policy(emulator, tmp_path, operation, check, policy):
    """Each permission that is refused fails alone, with the very statement to ask for."""
    emulator.faults([{"operation": operation, "times": None, "fault": DENIED}])
    code, found = diagnose(emulator, tmp_path)
    assert code == 3
    assert list_troubles(found, "failed") == {check}
    assert found[check]["policy"] == policy
    assert "opc-request-id" in found[check]["message"]
    assert found["sign-in"]["status"] == "ok"


def test_without_the_list_of_regions_the_own_region_is_looked_at(emulator, tmp_path):
    """The regions are not known, so the profile's own is asked, or those that are named."""
    emulator.faults([{"operation": "ListRegionSubscriptions", "times": None, "fault": DENIED}])
    assert "region us-ashburn-1" in diagnose(emulator, tmp_path)[1]
    named = diagnose(emulator, tmp_path, "--region", "eu-frankfurt-1")[1]
    assert "region eu-frankfurt-1" in named
    assert "region us-ashburn-1" not in named


@pytest.mark.parametrize("fault", [{"kind": "reset"}, {"kind": "html"}, {"kind": "status", "status": 503}])
def test_a_dead_region(emulator, tmp_path, fault):
    """A region that does not answer as Audit does is named; the others, and what they can tell, are not affected."""
    emulator.faults([{"operation": "ListEvents", "match": {"region": "ap-tokyo-1"}, "times": None, "fault": fault}])
    code, found = diagnose(emulator, tmp_path)
    assert code == 3
    assert list_troubles(found, "failed") == {"region ap-tokyo-1"}
    assert list_troubles(found, "skipped") == set()
    assert found["audit events"]["status"] == "ok"


def test_a_region_that_is_not_subscribed(emulator, tmp_path):
    """A named region that the tenancy does not have is told twice: by the list, and by its own answer."""
    code, found = diagnose(emulator, tmp_path, "--region", "sa-saopaulo-1")
    assert code == 3
    assert {"list of regions", "region sa-saopaulo-1"} <= list_troubles(found, "failed")
    assert "not subscribed" in found["region sa-saopaulo-1"]["hint"]


def test_a_dead_service(emulator, tmp_path):
    """Where nobody listens, the service failed, and what only it could tell is skipped."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
        code, found = diagnose(emulator, tmp_path, "--endpoint", nobody)
    assert code == 3
    assert list_troubles(found, "failed") == {"service"}
    assert {"clock", "sign-in", "regions"} <= list_troubles(found, "skipped")


def test_a_short_retention(emulator, tmp_path):
    """Fewer than 365 days are a warning with the number; an answer that does not come is one, too."""
    emulator.faults([{"operation": "GetConfiguration", "fault": {"kind": "retention", "days": 90}}])
    code, found = diagnose(emulator, tmp_path)
    assert (code, found["retention"]["status"]) == (0, "warning")
    assert "90 days" in found["retention"]["message"]
    emulator.faults([{"operation": "GetConfiguration", "times": None, "fault": DENIED}])
    code, found = diagnose(emulator, tmp_path)
    assert (code, found["retention"]["status"]) == (0, "warning")


def test_a_proxy_that_is_not_there(emulator, tmp_path):
    """A proxy where nothing listens is what failed, and its password is not shown; NO_PROXY makes it unused."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        proxy = f"http://user:{SECRET}@127.0.0.1:{free.getsockname()[1]}"
        finished = ask_doctor(emulator, tmp_path, "--json", HTTP_PROXY=proxy, http_proxy=proxy)
        unused = ask_doctor(emulator, tmp_path, "--json", http_proxy=proxy, no_proxy="127.0.0.1")
    found = {one["check"]: one for one in json.loads(finished.stdout)["findings"]}
    assert finished.code == 3
    assert list_troubles(found, "failed") == {"proxy"}
    assert SECRET not in finished.stdout.decode() + finished.stderr
    assert unused.code == 0
    assert "NO_PROXY" in unused.stdout.decode()


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_certificates_that_are_none(emulator, tmp_path, content):
    """A file of authorities that is missing, empty or something else is named with its variable."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    code, found = diagnose(emulator, tmp_path, SSL_CERT_FILE=str(path))
    assert code == 3
    assert "SSL_CERT_FILE" in str(found)
    assert list_troubles(found, "failed") <= {"certificates", "configuration"}


@pytest.mark.parametrize("option", [("--endpoint", "ftp://127.0.0.1"), ("--region", "mars"), ("--nonsense",)])
def test_arguments_that_cannot_be_carried_out(emulator, tmp_path, option):
    """A wrong argument is exit 2 with one sentence and a hint, and nothing on stdout."""
    finished = ask_doctor(emulator, tmp_path, *option)
    assert (finished.code, finished.stdout) == (2, b"")
    assert len(finished.error_lines) == len(finished.hint_lines) == 1


def test_what_the_service_says_cannot_act_on_a_terminal(emulator, tmp_path):
    """Control characters in an error message are replaced, in words; in JSON they are escaped."""
    hostile = "\x1b]0;owned\x07\x1b[2J\u202e"
    fault = {"kind": "status", "status": 404, "code": "NotAuthorizedOrNotFound", "message": hostile}
    emulator.faults([{"operation": "ListEvents", "times": None, "fault": fault}])
    for options in ((), ("--json",)):
        said = ask_doctor(emulator, tmp_path, *options).stdout.decode()
        assert "owned" in said
        assert not set(said) & set("\x1b\x07\u202e")


def test_no_secret_is_shown(emulator, tmp_path, profile):
    """Neither the key nor the pass phrase stands in what is printed, whatever goes wrong."""
    key = (profile.parent / "key.pem").read_text()
    profile.write_text(profile.read_text() + f"pass_phrase={SECRET}\n")
    emulator.faults([{"times": None, "fault": {"kind": "status", "status": 401}}])
    finished = ask_doctor(emulator, tmp_path, config=profile)
    said = finished.stdout.decode() + finished.stderr
    assert finished.code == 3
    assert SECRET not in said
    assert not any(line in said for line in key.splitlines()[1:-2])
    assert base64.b64encode(SECRET.encode()).decode() not in said
