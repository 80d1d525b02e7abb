import http.client
import json
import time
from dataclasses import replace

import pytest

from support.emulator import Emulator, EmulatorError
from support.hand_signing import SigningCredentials, get, make_target, sign_headers

NOW = ("--now", "2026-01-10T00:00:00Z")


@pytest.fixture(scope="module")
def emulator():
    """An emulator that no test of this module changes."""
    with Emulator(*NOW) as unchanged:
        yield unchanged


@pytest.fixture
def running():
    """An emulator of this test's own, so that faults and the log are too."""
    with Emulator(*NOW) as own:
        yield own


@pytest.fixture(scope="module")
def other_credentials(tmp_path_factory):
    """The credentials of an emulator that has ended."""
    folder = tmp_path_factory.mktemp("other") / "oci"
    with Emulator(config_folder=folder):
        return SigningCredentials.read(folder / "config")


def make_events_target(credentials, **changes):
    """The target of a ListEvents request over one day."""
    parameters = {
        "compartmentId": credentials.tenancy_id,
        "startTime": "2026-01-05T00:00:00Z",
        "endTime": "2026-01-06T00:00:00Z",
    }
    return make_target("/20190901/auditEvents", **{**parameters, **changes})


def ask(emulator, target=None, *, credentials=None, sent=None, seconds=10.0, skew_seconds=0.0, **headers):
    """Sign a target, send it or another one, and give the answer."""
    credentials = credentials or SigningCredentials.read(emulator.config_path)
    target = target or make_target("/20190901/configuration", compartmentId=credentials.tenancy_id)
    signed = sign_headers(credentials, f"127.0.0.1:{emulator.port}", target, skew_seconds=skew_seconds)
    return get(emulator.port, sent or target, {**signed, **headers}, seconds)


def test_a_request_signed_by_hand_is_answered(emulator):
    """A correctly signed GET gets 200 with a request id that begins with the client's own, and a Date."""
    answer = ask(emulator, **{"opc-request-id": "mine"})
    assert answer.status == 200
    assert answer.headers["opc-request-id"].startswith("mine/")
    assert answer.headers["Date"].endswith("GMT")
    assert json.loads(answer.body) == {"retentionPeriodDays": 365}


def test_an_unsigned_request_is_refused(emulator):
    """A request without a signature gets 401 NotAuthenticated, even for a good path."""
    credentials = SigningCredentials.read(emulator.config_path)
    answer = get(emulator.port, make_events_target(credentials), {})
    assert (answer.status, json.loads(answer.body)["code"]) == (401, "NotAuthenticated")


def test_an_unknown_key_is_refused(emulator, other_credentials):
    """The first bad signature: a keyId that the emulator never trusted gets 401."""
    assert ask(emulator, credentials=other_credentials).status == 401


def test_a_known_key_id_with_another_key_is_refused(emulator, other_credentials):
    """The second bad signature: a trusted keyId signed with another key gets 401."""
    forged = replace(SigningCredentials.read(emulator.config_path), key=other_credentials.key)
    assert ask(emulator, credentials=forged).status == 401


def test_an_altered_query_is_refused(emulator):
    """The third bad signature: a query changed after it was signed gets 401."""
    credentials = SigningCredentials.read(emulator.config_path)
    target = make_events_target(credentials)
    assert ask(emulator, target).status == 200
    altered = make_events_target(credentials, endTime="2026-01-07T00:00:00Z")
    assert ask(emulator, target, sent=altered).status == 401


@pytest.mark.parametrize(("skew_seconds", "status"), [(-320, 401), (-200, 200), (200, 200), (320, 401)])
def test_a_skewed_clock_is_refused(emulator, skew_seconds, status):
    """A signature whose date is more than five minutes off gets 401."""
    assert ask(emulator, skew_seconds=skew_seconds).status == status


def test_a_config_folder_outlives_its_emulator(tmp_path):
    """A folder written by one emulator is trusted by the next with --trust-config."""
    with Emulator(config_folder=tmp_path / "oci"):
        credentials = SigningCredentials.read(tmp_path / "oci" / "config")
    with Emulator("--trust-config", tmp_path / "oci", write_config=False) as again:
        assert ask(again, credentials=credentials).status == 200


def test_a_session_is_refused_after_its_end():
    """A request signed with a session token gets 200 until the session ends, and then 401."""
    with Emulator("--session-minutes", "0.05") as short:
        credentials = SigningCredentials.read(short.config_path, profile="SESSION")
        assert ask(short, credentials=credentials).status == 200
        time.sleep(3.1)
        assert ask(short, credentials=credentials).status == 401


def test_a_reset_reaches_the_client_as_one(running):
    """The fault `reset` ends the connection with a reset before any answer."""
    running.faults([{"fault": {"kind": "reset"}}])
    with pytest.raises(ConnectionResetError):
        ask(running)
    assert running.fault_states()[0]["completed"]
    assert ask(running).status == 200


def test_a_reset_can_come_within_the_body(running):
    """With `afterBytes` the headers and some of the body come first, and the rest never does."""
    running.faults([{"operation": "ListEvents", "fault": {"kind": "reset", "afterBytes": 50}}])
    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        ask(running, make_events_target(SigningCredentials.read(running.config_path)))
    assert running.fault_states()[0]["completed"]


def test_a_short_body_breaks_its_promise(running):
    """The fault `short_body` promises a length in its headers and closes before it."""
    running.faults([{"fault": {"kind": "short_body", "sentBytes": 100}}])
    with pytest.raises(http.client.IncompleteRead) as broken:
        ask(running, make_events_target(SigningCredentials.read(running.config_path)))
    assert len(broken.value.partial) == 100
    assert running.fault_states()[0]["completed"]


def test_a_cut_body_keeps_its_promise(running):
    """The fault `cut_body` has the length that it says, and is no JSON."""
    running.faults([{"fault": {"kind": "cut_body"}}])
    body = ask(running, make_events_target(SigningCredentials.read(running.config_path))).body
    with pytest.raises(ValueError):
        json.loads(body)


@pytest.mark.parametrize("after", ["nothing", "headers", "half"])
def test_a_stall_is_silence(running, after):
    """The fault `stall` lets a client wait: for the answer, or for the rest of it."""
    running.faults([{"fault": {"kind": "stall", "seconds": 30, "after": after}}])
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        ask(running, make_events_target(SigningCredentials.read(running.config_path)), seconds=0.5)
    assert time.monotonic() - started < 5
    assert running.fault_states()[0]["completed"]


def test_a_stall_does_not_stop_the_others(running):
    """While one request is stalled, another one is answered, and the emulator ends when it is told to."""
    running.faults([{"fault": {"kind": "stall", "seconds": 60}}])
    with pytest.raises(TimeoutError):
        ask(running, seconds=0.3)
    assert ask(running).status == 200
    started = time.monotonic()
    assert running.stop() == 0
    assert time.monotonic() - started < 2


def test_a_stall_ends_with_a_closed_connection(running):
    """After its seconds a stalled connection is closed without an answer."""
    running.faults([{"fault": {"kind": "stall", "seconds": 0.2}}])
    with pytest.raises(http.client.RemoteDisconnected):
        ask(running)


def test_a_connection_is_kept_alive(running):
    """Many requests go over one connection."""
    credentials = SigningCredentials.read(running.config_path)
    connection = http.client.HTTPConnection("127.0.0.1", running.port)
    target = make_target("/20190901/configuration", compartmentId=credentials.tenancy_id)
    connection.connect()
    own_address = connection.sock.getsockname()
    for _ in range(5):
        headers = sign_headers(credentials, f"127.0.0.1:{running.port}", target)
        connection.request("GET", target, headers=headers)
        assert connection.getresponse().read()
    assert connection.sock.getsockname() == own_address
    connection.close()


def test_the_log_tells_what_was_served(running):
    """Each request is in the log with operation, window, status, times and fault, and the log can be cleared."""
    running.faults([{"operation": "ListEvents", "fault": {"kind": "status", "status": 503}}])
    target = make_events_target(SigningCredentials.read(running.config_path))
    assert [ask(running, target).status for _ in range(2)] == [503, 200]
    first, second = running.log()
    assert (first["operation"], first["status"], first["fault"]) == ("ListEvents", 503, "status")
    assert (second["status"], second["fault"], second["startTime"]) == (200, None, "2026-01-05T00:00:00Z")
    assert first["started"] <= first["ended"] <= second["started"]
    assert second["items"] == 100
    running.clear_log()
    assert running.log() == []


def test_latency_comes_with_every_page():
    """With --latency-ms a page takes that long, and pages asked at once wait at once."""
    with Emulator(*NOW, "--latency-ms", "300") as slow:
        started = time.monotonic()
        assert ask(slow, make_events_target(SigningCredentials.read(slow.config_path))).status == 200
        assert time.monotonic() - started >= 0.3


def test_a_control_request_can_be_wrong(running):
    """A wrong control request is refused with what would be right."""
    for method, name in (("GET", "nothing"), ("PUT", "log"), ("GET", "events?startTime=x")):
        with pytest.raises(EmulatorError, match=r"there are|write it as"):
            running.request(method, name)
    with pytest.raises(EmulatorError, match="lists the regions"):
        running.request("GET", "events?region=mars-1")
    with pytest.raises(EmulatorError, match="lists the compartments"):
        running.request("GET", "events?compartmentId=x")
