import json
from pathlib import Path

import pytest

from ociaudit.analysis.summary import Overview, make_overview
from ociaudit.errors import DiskError
from support.event_files import make_event_file


def overview(path: Path, *events: bytes) -> Overview:
    """Return the overview of an export of these events."""
    path.write_bytes(make_event_file("json", events))
    return make_overview(path)


def encode_sign_in(outcome: str, who: object = "eve", address: object = "10.0.0.1") -> bytes:
    """Return a sign-in."""
    data = {
        "eventName": "InteractiveLogin",
        "additionalDetails": {"eventId": f"sso.session.create.{outcome}"},
        "identity": {"principalName": who, "ipAddress": address},
    }
    return json.dumps({"eventType": "com.oraclecloud.IdentitySignOn.InteractiveLogin", "data": data}).encode()


def test_events_are_counted_by_name(tmp_path: Path) -> None:
    """Every event counts, also without a name; failed sign-ins are counted by principal and address."""
    found = overview(
        tmp_path / "a",
        encode_sign_in("failure"),
        encode_sign_in("failure"),
        encode_sign_in("success"),
        b'{"data":{}}',
        b"{}",
    )
    assert found.events == 5
    assert found.names == {"InteractiveLogin": 3, "(none)": 2}
    assert found.sign_in_failures == {("eve", "10.0.0.1"): 2}
    assert overview(tmp_path / "b").events == 0


@pytest.mark.parametrize(
    "event",
    [
        b'{"data":null}',
        b'{"data":[1]}',
        b'{"data":"text"}',
        b'{"data":{"eventName":["x"]}}',
        b'{"data":{"eventName":%b}}' % (b"9" * 5_000),
        b'{"data":{"response":{"status":"%b"}}}' % (b"9" * 5_000),
        b'{"eventType":["IdentitySignOn."],"data":{"identity":"x"}}',
        b'{"data":{"eventName":"\\ud800"}}',
        b'{"data":{"eventName":"\\u2028\\r\\n"}}',
        '{"data":{"eventName":"\u2028\x85"}}'.encode(),
        encode_sign_in("failure", who={"a": 1}, address=[2]),
        encode_sign_in("failure", who=None, address=None),
        encode_sign_in("failure").replace(b'"identity": {', b'"identity": "x", "other": {'),
    ],
)
def test_fields_of_any_type_are_accepted(tmp_path: Path, event: bytes) -> None:
    """An event with fields of unexpected types counts as one among others."""
    assert overview(tmp_path / "a", b"{}", event, b"{}").events == 3


def test_a_file_that_cannot_be_read_is_a_disk_error(tmp_path: Path) -> None:
    """A file that cannot be read is a disk error that names the path."""
    with pytest.raises(DiskError, match="nothing"):
        make_overview(tmp_path / "nothing")
