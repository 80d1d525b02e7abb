"""The output of Oracle's own CLI and SDK is read as the events that were served."""

import json
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from ociaudit.events.field_naming import choose_shape
from ociaudit.formats.reader import open_records

MINUTE_FORMAT = "%Y-%m-%dT%H:%MZ"
LIST_EVENTS = ("audit", "event", "list", "--all")
DUMP = """
import oci
compartment, start, end, layout = arguments
events = oci.pagination.list_call_get_all_results(
    audit.list_events, compartment_id=compartment, start_time=read_time(start), end_time=read_time(end)
).data
dump = oci.util.to_dict(events)
print(json.dumps(dump if layout == "array" else ["\\n".join(map(json.dumps, dump))]))
"""


def normalize(events):
    """The events without their order and layout, for comparison."""
    return sorted(json.dumps(event, sort_keys=True) for event in events)


def read(path, data):
    """Write a client's output to a file and read it: its events, and the detected description of the file."""
    path.write_bytes(data)
    with open_records(path) as source:
        records = [record for batch in source for record in batch]
    assert all(record.origin is None for record in records)
    return [record.raw for record in records], source.description


@pytest.fixture(scope="module")
def truth(emulator, tenancy, week):
    """The events that the emulator serves."""
    served = [json.loads(event) for event in emulator.events("us-ashburn-1", tenancy["id"], *week)]
    assert len(served) > 500
    return served


def list_events(clients, tenancy, week, *options):
    """The output of the CLI, with lone surrogates replaced by escapes."""
    times = ("--start-time", week[0], "--end-time", week[1], "--compartment-id", tenancy["id"])
    printed = clients.run_cli(*LIST_EVENTS, *times, *options).stdout
    return printed.decode("utf-8", "surrogatepass").encode("utf-8", "backslashreplace")


@pytest.mark.parametrize("options", [(), ("--stream-output",)])
def test_the_output_of_the_cli_is_read(options, clients, tenancy, week, truth, tmp_path):
    """Every event is read from kebab-case output, whole or streamed, with every field that the CLI printed."""
    printed = list_events(clients, tenancy, week, *options)
    events, description = read(tmp_path / "listed", printed)
    assert "'data'" in description
    assert "in the OCI CLI's shape" in description
    converted = [json.loads(choose_shape("cli")(event)) for event in events]
    assert normalize(converted) == normalize(json.loads(printed)["data"])
    ids = [json.loads(event)["eventId"] for event in events]
    assert sorted(ids) == sorted(event["eventId"] for event in truth)


def test_unchanged_output_of_the_cli_is_read_as_served(clients, tenancy, week, truth, tmp_path):
    """With `--skip-deserialization`, the CLI drops nothing, and reading loses nothing."""
    printed = list_events(clients, tenancy, week, "--stream-output", "--skip-deserialization")
    events, description = read(tmp_path / "listed", printed)
    assert description.endswith("events in the API's shape")
    assert normalize(map(json.loads, events)) == normalize(truth)


def test_output_without_events_is_read_as_zero_events(clients, emulator, tenancy, week, tmp_path):
    """The CLI's streamed output of a window without events is read as zero events."""
    midnight = datetime.fromisoformat(week[0])
    minutes = [(midnight + timedelta(minutes=number)).strftime(MINUTE_FORMAT) for number in range(400)]
    quiet = next(window for window in pairwise(minutes) if not emulator.events("us-ashburn-1", tenancy["id"], *window))
    printed = list_events(clients, tenancy, quiet, "--stream-output")
    assert json.loads(printed)["data"] is None
    assert read(tmp_path / "none", printed)[0] == []


@pytest.mark.parametrize("layout", ["array", "lines"])
def test_a_dump_of_the_sdk_is_read(layout, clients, tenancy, week, truth, tmp_path):
    """Every event is read from an `oci.util.to_dict` dump, an array or lines, with every field of the dump."""
    printed = clients.run_sdk(
        DUMP, tenancy["id"], week[0].replace("Z", "+00:00"), week[1].replace("Z", "+00:00"), layout
    )
    data = json.dumps(printed) if layout == "array" else printed[0]
    events, description = read(tmp_path / "dump", data.encode())
    assert "in the SDK's shape" in description
    converted = [json.loads(choose_shape("sdk")(event)) for event in events]
    dumped = printed if layout == "array" else [json.loads(line) for line in data.splitlines()]
    assert normalize(converted) == normalize(dumped)
    assert len(events) == len(truth)
