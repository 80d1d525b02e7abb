import json

import pytest

from support.emulator import Emulator

LIST_EVENTS = ("audit", "event", "list", "--all")


def list_events(clients, compartment, window, *options, **targets):
    """The events that the CLI lists."""
    times = ("--start-time", window[0], "--end-time", window[1])
    return clients.read_cli(*LIST_EVENTS, "--compartment-id", compartment, *times, *options, **targets)


def normalize(events):
    """The events without their order and layout, for comparison."""
    return sorted(json.dumps(event, sort_keys=True) for event in events)


def test_the_cli_streams_exactly_the_events_of_the_window(clients, emulator, tenancy, week):
    """`oci audit event list --all --stream-output` prints every event of the ground truth, and no other."""
    streamed = list_events(clients, tenancy["id"], week, "--stream-output", "--skip-deserialization")
    truth = [json.loads(event) for event in emulator.events("us-ashburn-1", tenancy["id"], *week)]
    assert len(truth) > 500
    assert normalize(streamed) == normalize(truth)


def test_the_cli_reads_every_event_as_a_model(clients, emulator, tenancy, week):
    """`oci audit event list --all` deserialises every event, with the same ids and the same count."""
    listed = list_events(clients, tenancy["id"], week)
    truth = [json.loads(event) for event in emulator.events("us-ashburn-1", tenancy["id"], *week)]
    assert sorted(event["event-id"] for event in listed) == sorted(event["eventId"] for event in truth)
    assert sum(event["event-type"] is None for event in listed) == 0


def test_the_cli_reads_another_region_below_its_prefix(clients, emulator, tenancy, week):
    """An endpoint with a region's prefix serves that region's events."""
    listed = list_events(clients, tenancy["id"], week, region="ap-tokyo-1")
    truth = emulator.events("ap-tokyo-1", tenancy["id"], *week)
    assert sorted(event["event-id"] for event in listed) == sorted(json.loads(one)["eventId"] for one in truth)


def test_the_cli_lists_regions(clients, tenancy):
    """`oci iam region-subscription list` shows the regions with their states."""
    regions = clients.read_cli("iam", "region-subscription", "list")
    shown = {one["region-name"]: one["status"] for one in regions}
    assert shown == {one["name"]: one["status"] for one in tenancy["regions"]}


@pytest.mark.parametrize("limit", ["3", "1000"])
def test_the_cli_lists_the_whole_tree_of_compartments(clients, tenancy, limit):
    """`oci iam compartment list` over the subtree returns every compartment once, whatever the page size."""
    options = ("--compartment-id-in-subtree", "true", "--access-level", "ANY", "--all", "--page-size", limit)
    listed = clients.read_cli("iam", "compartment", "list", *options)
    expected = {one["id"]: one["state"] for one in tenancy["compartments"] if one["parentId"]}
    assert {one["id"]: one["lifecycle-state"] for one in listed} == expected
    assert len(listed) == len(expected)


def test_the_cli_reads_the_retention(clients, tenancy):
    """`oci audit config get` prints the retention period."""
    shown = clients.read_cli("audit", "config", "get", "--compartment-id", tenancy["id"])
    assert shown == {"retention-period-days": 365}


def test_the_cli_signs_in_with_a_session_token(clients, tenancy, emulator):
    """The profile SESSION works with `--auth security_token`, and the log names the session."""
    emulator.clear_log()
    clients.run_cli("--auth", "security_token", "iam", "region-subscription", "list", profile="SESSION")
    (entry,) = emulator.log()
    assert entry["status"] == 200
    assert entry["key"].startswith("session ")


def test_the_cli_signs_in_as_an_instance(clients, tenancy, emulator):
    """`--auth instance_principal` gets its certificate and a token from the emulator, and its request succeeds."""
    emulator.clear_log()
    variables = {
        "OCI_METADATA_BASE_URL": f"{emulator.url}/opc/v2",
        "OCI_CLI_FEDERATION_ENDPOINT": f"{emulator.url}/v1/x509",
    }
    arguments = ("iam", "region-subscription", "list", "--tenancy-id", tenancy["id"])
    clients.run_cli("--auth", "instance_principal", *arguments, variables=variables)
    *before, entry = emulator.log()
    assert [one["status"] for one in (*before, entry)] == [200] * (len(before) + 1)
    assert before[-1]["path"] == "/v1/x509"
    assert entry["key"].startswith("session ")


def test_the_cli_signs_in_as_a_resource(clients, tenancy, emulator):
    """`--auth resource_principal` works with the written token and its key."""
    folder = emulator.config_path.parent
    variables = {
        "OCI_RESOURCE_PRINCIPAL_VERSION": "2.2",
        "OCI_RESOURCE_PRINCIPAL_RPST": str(folder / "resource_principal_token"),
        "OCI_RESOURCE_PRINCIPAL_PRIVATE_PEM": str(folder / "session_key.pem"),
        "OCI_RESOURCE_PRINCIPAL_REGION": "us-ashburn-1",
    }
    arguments = ("iam", "region-subscription", "list", "--tenancy-id", tenancy["id"])
    clients.run_cli("--auth", "resource_principal", *arguments, variables=variables)


def test_the_cli_notices_an_expired_session(clients, contract_bin):
    """The CLI reads the expiry time from the token, as it does with Oracle's tokens, and gets nothing."""
    with Emulator("--session-minutes", "0.0001") as expired:
        own_clients = type(clients)(contract_bin, clients.environment["HOME"], expired)
        arguments = ("--auth", "security_token", "iam", "region-subscription", "list")
        done = own_clients.run_cli(*arguments, profile="SESSION", check=False)
        assert done.returncode
        assert 200 not in {entry["status"] for entry in expired.log()}


def test_the_cli_reads_an_encrypted_key(clients, contract_bin):
    """A configuration written with a pass phrase works unchanged."""
    with Emulator("--pass-phrase", "open sesame") as encrypted:
        own_clients = type(clients)(contract_bin, clients.environment["HOME"], encrypted)
        assert own_clients.read_cli("iam", "region-subscription", "list")


def test_the_cli_is_rejected_with_another_key(clients, emulator, tmp_path):
    """A known keyId with the key of another emulator gets 401 NotAuthenticated."""
    with Emulator(config_folder=tmp_path / "other"):
        pass
    content = emulator.config_path.read_text().replace(
        str(emulator.config_path.parent / "oci_api_key.pem"), str(tmp_path / "other" / "oci_api_key.pem")
    )
    config_path = tmp_path / "config"
    config_path.write_text(content)
    config_path.chmod(0o600)
    done = clients.run_cli("iam", "region-subscription", "list", config_path=config_path, check=False)
    assert done.returncode
    assert b"NotAuthenticated" in done.stderr


def test_the_cli_shows_the_forbidden_compartment_as_404(clients, tenancy, week):
    """A forbidden compartment gets the code that Oracle also uses for unknown ones."""
    forbidden = next(one["id"] for one in tenancy["compartments"] if one["isForbidden"])
    times = ("--start-time", week[0], "--end-time", week[1])
    done = clients.run_cli(*LIST_EVENTS, "--compartment-id", forbidden, *times, check=False)
    assert done.returncode
    assert b"NotAuthorizedOrNotFound" in done.stderr


def test_the_cli_reads_the_events_of_a_file(clients, contract_bin, tmp_path):
    """With --events, the CLI prints the events of the file."""
    events = [
        {"eventId": str(at), "eventTime": f"2025-12-01T00:{at:02d}:00Z", "data": {"eventName": "X"}} for at in range(60)
    ]
    path = tmp_path / "events.ndjson"
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    with Emulator("--events", path, "--page-size", "7") as given:
        own_clients = type(clients)(contract_bin, clients.environment["HOME"], given)
        window = ("2025-12-01T00:00:00Z", "2025-12-01T00:30:00Z")
        options = ("--stream-output", "--skip-deserialization")
        listed = list_events(own_clients, given.tenancy()["id"], window, *options)
        assert normalize(listed) == normalize(events[:30])
