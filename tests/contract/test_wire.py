import http.client
import json
import socket
import time
from contextlib import closing
from dataclasses import replace

import pytest

from support.emulator import Emulator, EmulatorError
from support.hand_signing import SigningCredentials, get, make_target, sign_headers

NOW = ("--now", "2026-01-10T00:00:00Z")


@pytest.fixture(scope="module")
def emulator():
    """An emulator that no test in this module changes."""
    with Emulator(*NOW) as unchanged:
        yield unchanged


@pytest.fixture
def running():
    """An emulator for one test, with its own faults and log."""
    with Emulator(*NOW) as own:
        yield own


@pytest.fixture(scope="module")
def other_credentials(tmp_path_factory):
    """The credentials of an emulator that has ended."""
    folder = tmp_path_factory.mktemp("other") / "oci"
    with Emulator(config_folder=folder):
        return SigningCredentials.read(folder / "config")


def make_events_target(credentials, **changes):
    """The request target of ListEvents over one day."""
    parameters = {
        "compartmentId": credentials.tenancy_id,
        "startTime": "2026-01-05T00:00:00Z",
        "endTime": "2026-01-06T00:00:00Z",
    }
    return make_target("/20190901/auditEvents", **{**parameters, **changes})


def send(emulator, target=None, *, credentials=None, sent=None, seconds=10.0, skew_seconds=0.0, **headers):
    """The response to a signed request; `sent` is a target to send instead of the signed one."""
    credentials = credentials or SigningCredentials.read(emulator.config_path)
    target = target or make_target("/20190901/configuration", compartmentId=credentials.tenancy_id)
    signed = sign_headers(credentials, f"127.0.0.1:{emulator.port}", target, skew_seconds=skew_seconds)
    return get(emulator.port, sent or target, {**signed, **headers}, seconds)


def test_a_request_signed_without_the_sdk_is_accepted(emulator):
    """A correctly signed GET gets 200, a Date, and a request id that begins with the client's own."""
    response = send(emulator, **{"opc-request-id": "mine"})
    assert response.status == 200
    assert response.headers["opc-request-id"].startswith("mine/")
    assert response.headers["Date"].endswith("GMT")
    assert json.loads(response.body) == {"retentionPeriodDays": 365}


def read_answer(connection):
    """What arrives on a socket, until the head of a response is complete."""
    received = b""
    while b"\r\n\r\n" not in received:
        chunk = connection.recv(4096)
        assert chunk, received
        received += chunk
    return received


@pytest.mark.parametrize("bucket", ["mine", "nobodys"])
def test_an_upload_that_waits_is_invited_or_refused(running, bucket):
    """With `Expect: 100-continue` a put is asked for its body, and refused before it where it cannot succeed."""
    running.create_bucket("mine")
    credentials = SigningCredentials.read(running.config_path)
    target = f"/n/{running.tenancy()['namespace']}/b/{bucket}/o/a"
    headers = sign_headers(credentials, f"127.0.0.1:{running.port}", target, method="PUT")
    lines = [f"PUT {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    with closing(socket.create_connection(("127.0.0.1", running.port), timeout=60)) as connection:
        head = "\r\n".join([*lines, "Content-Length: 4", "Expect: 100-continue"])
        connection.sendall(head.encode() + b"\r\n\r\n")
        answer = read_answer(connection)
        if bucket == "nobodys":
            assert answer.startswith(b"HTTP/1.1 404 ")
            return
        assert answer == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"body")
        assert read_answer(connection).startswith(b"HTTP/1.1 200 ")
    assert running.read_object("mine", "a") == b"body"


def test_an_unsigned_request_is_rejected(emulator):
    """A request without a signature gets 401 NotAuthenticated, even for a valid path."""
    credentials = SigningCredentials.read(emulator.config_path)
    response = get(emulator.port, make_events_target(credentials), {})
    assert (response.status, json.loads(response.body)["code"]) == (401, "NotAuthenticated")


def test_an_unknown_key_is_rejected(emulator, other_credentials):
    """A keyId that the emulator does not trust gets 401."""
    assert send(emulator, credentials=other_credentials).status == 401


def test_a_known_key_id_with_another_key_is_rejected(emulator, other_credentials):
    """A trusted keyId with a signature of another key gets 401."""
    forged = replace(SigningCredentials.read(emulator.config_path), key=other_credentials.key)
    assert send(emulator, credentials=forged).status == 401


def test_an_altered_query_is_rejected(emulator):
    """A query changed after signing gets 401."""
    credentials = SigningCredentials.read(emulator.config_path)
    target = make_events_target(credentials)
    assert send(emulator, target).status == 200
    altered = make_events_target(credentials, endTime="2026-01-07T00:00:00Z")
    assert send(emulator, target, sent=altered).status == 401


@pytest.mark.parametrize(("skew_seconds", "status"), [(-320, 401), (-200, 200), (200, 200), (320, 401)])
def test_a_skewed_clock_is_rejected(emulator, skew_seconds, status):
    """A signature whose date is more than five minutes off gets 401."""
    assert send(emulator, skew_seconds=skew_seconds).status == status


def test_a_config_folder_outlives_its_emulator(tmp_path):
    """A folder written by one emulator is trusted by the next with --trust-config."""
    with Emulator(config_folder=tmp_path / "oci"):
        credentials = SigningCredentials.read(tmp_path / "oci" / "config")
    with Emulator("--trust-config", tmp_path / "oci", write_config=False) as again:
        assert send(again, credentials=credentials).status == 200


def test_an_expired_session_is_rejected():
    """A request signed with a session token gets 200 until the session expires, and then 401."""
    with Emulator("--session-minutes", "0.05") as short:
        credentials = SigningCredentials.read(short.config_path, profile="SESSION")
        assert send(short, credentials=credentials).status == 200
        time.sleep(3.1)
        assert send(short, credentials=credentials).status == 401


def test_a_reset_reaches_the_client(running):
    """The fault `reset` resets the connection before the response."""
    running.faults([{"fault": {"kind": "reset"}}])
    with pytest.raises(ConnectionResetError):
        send(running)
    assert running.fault_states()[0]["completed"]
    assert send(running).status == 200


def test_a_reset_can_happen_within_the_body(running):
    """With `afterBytes`, the client receives the headers and a part of the body before the reset."""
    running.faults([{"operation": "ListEvents", "fault": {"kind": "reset", "afterBytes": 50}}])
    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        send(running, make_events_target(SigningCredentials.read(running.config_path)))
    assert running.fault_states()[0]["completed"]


def test_a_short_body_ends_before_its_length(running):
    """The fault `short_body` closes the connection before the announced length."""
    running.faults([{"fault": {"kind": "short_body", "sentBytes": 100}}])
    with pytest.raises(http.client.IncompleteRead) as broken:
        send(running, make_events_target(SigningCredentials.read(running.config_path)))
    assert len(broken.value.partial) == 100
    assert running.fault_states()[0]["completed"]


def test_a_cut_body_has_its_length(running):
    """The fault `cut_body` sends a body of the announced length that is not JSON."""
    running.faults([{"fault": {"kind": "cut_body"}}])
    body = send(running, make_events_target(SigningCredentials.read(running.config_path))).body
    with pytest.raises(ValueError):
        json.loads(body)


@pytest.mark.parametrize("after", ["nothing", "headers", "half"])
def test_a_stall_makes_the_client_wait(running, after):
    """The fault `stall` makes a client wait for the response, or for the rest of it."""
    running.faults([{"fault": {"kind": "stall", "seconds": 30, "after": after}}])
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        send(running, make_events_target(SigningCredentials.read(running.config_path)), seconds=0.5)
    assert time.monotonic() - started < 5
    assert running.fault_states()[0]["completed"]


def test_a_stall_does_not_stop_the_others(running):
    """While one request is stalled, another one is served, and the emulator ends on request."""
    running.faults([{"fault": {"kind": "stall", "seconds": 60}}])
    with pytest.raises(TimeoutError):
        send(running, seconds=0.3)
    assert send(running).status == 200
    started = time.monotonic()
    assert running.stop() == 0
    assert time.monotonic() - started < 2


def test_a_stall_ends_with_a_closed_connection(running):
    """A stalled connection is closed without a response after the given seconds."""
    running.faults([{"fault": {"kind": "stall", "seconds": 0.2}}])
    with pytest.raises(http.client.RemoteDisconnected):
        send(running)


def test_a_connection_is_kept_alive(running):
    """One connection carries many requests."""
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


def test_the_log_describes_the_requests(running):
    """Each request is in the log with operation, window, status, times and fault, and the log can be cleared."""
    running.faults([{"operation": "ListEvents", "fault": {"kind": "status", "status": 503}}])
    target = make_events_target(SigningCredentials.read(running.config_path))
    assert [send(running, target).status for _ in range(2)] == [503, 200]
    first, second = running.log()
    assert (first["operation"], first["status"], first["fault"]) == ("ListEvents", 503, "status")
    assert (second["status"], second["fault"], second["startTime"]) == (200, None, "2026-01-05T00:00:00Z")
    assert first["started"] <= first["ended"] <= second["started"]
    assert second["items"] == 100
    running.clear_log()
    assert running.log() == []


def test_latency_delays_every_page():
    """With --latency-ms, a page takes at least that long."""
    with Emulator(*NOW, "--latency-ms", "300") as slow:
        started = time.monotonic()
        assert send(slow, make_events_target(SigningCredentials.read(slow.config_path))).status == 200
        assert time.monotonic() - started >= 0.3


def test_an_invalid_control_request_is_rejected(running):
    """An invalid control request is rejected with a hint."""
    for method, name in (("GET", "nothing"), ("PUT", "log"), ("GET", "events?startTime=x")):
        with pytest.raises(EmulatorError, match=r"there are|write it as"):
            running.request(method, name)
    with pytest.raises(EmulatorError, match="lists the regions"):
        running.request("GET", "events?region=mars-1")
    with pytest.raises(EmulatorError, match="lists the compartments"):
        running.request("GET", "events?compartmentId=x")
