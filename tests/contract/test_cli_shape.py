"""`--shape cli` and `--shape sdk`, compared with the output of Oracle's own CLI and SDK for the same events."""

import json
import re

import pytest
from oci.audit import models

from support.exports import run_export

NANOSECONDS = re.compile(r"(\.\d{6})\d+Z\Z")
DUMP_BY_SDK = """
events = oci.pagination.list_call_get_all_results(
    audit.list_events, arguments[0], read_time(arguments[1]), read_time(arguments[2])
).data
print(json.dumps(oci.util.to_dict(events)))
"""


@pytest.fixture(scope="module")
def export(emulator, tenancy, week, tmp_path_factory):
    """A function that exports the root compartment of the home region in a shape, and returns the events."""

    def run(shape):
        folder = tmp_path_factory.mktemp("export")
        target = ("--region", "us-ashburn-1", "--compartment", tenancy["id"], "--no-subtree")
        span = ("--start", week[0], "--end", week[1])
        done = run_export(emulator, folder, *span, *target, "--shape", shape, "-o", "audit.ndjson")
        assert done.code in {0, 10}, done.stderr
        return [json.loads(line) for line in (folder / "audit.ndjson").read_bytes().splitlines()]

    return run


def drop_unknown(event, model, joint):
    """Remove, at every model level, the fields that the SDK's models do not have."""
    if not isinstance(event, dict):
        return event
    types = {name.replace("_", joint): kind for name, kind in getattr(models, model)().swagger_types.items()}
    return {
        name: drop_unknown(value, types[name], joint) if hasattr(models, types[name]) else value
        for name, value in event.items()
        if name in types
    }


def keep_known(event, model, joint):
    """The part of an event that the SDK's models have, as text; the SDK truncates times to microseconds."""
    name = f"event{joint}time"
    truncated = {**event, name: NANOSECONDS.sub(r"\1+00:00", event[name])} if isinstance(event[name], str) else event
    return json.dumps(drop_unknown(truncated, model, joint), sort_keys=True)


def test_an_export_has_the_shape_of_the_cli(export, clients, tenancy, week):
    """Every field that `oci audit event list` prints is in `--shape cli`, with the same name and value."""
    options = ("--compartment-id", tenancy["id"], "--start-time", week[0], "--end-time", week[1])
    listed = clients.read_cli("audit", "event", "list", "--all", *options, region="us-ashburn-1")
    ours = export("cli")
    assert len(ours) > 500
    assert sorted(keep_known(event, "AuditEvent", "-") for event in ours) == sorted(
        {json.dumps(event, sort_keys=True) for event in listed}  # the service may return a record twice
    )


def test_an_export_has_the_shape_of_the_sdk(export, clients, tenancy, week):
    """Every field that `oci.util.to_dict` returns is in `--shape sdk`, with the same name and value."""
    dumped = clients.run_sdk(DUMP_BY_SDK, tenancy["id"], *week)
    ours = export("sdk")
    assert sorted(keep_known(event, "AuditEvent", "_") for event in ours) == sorted(
        {json.dumps(event, sort_keys=True) for event in dumped}
    )
