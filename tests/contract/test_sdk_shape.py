import json
import re
import subprocess
from pathlib import Path
from typing import Any

import oci
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from oci.audit import models

from ociaudit.events.field_naming import EVENT_MODEL, SDK_FIELDS, choose_shape

TENANCY = "ocid1.tenancy.oc1..aaaaexample"
HEADERS = {
    "Authorization": ['Signature keyId="ST$eyJ***",algorithm="rsa-sha256",signature="*****",version="1"'],
    "opc-principal": ['{"tenantId":"' + TENANCY + '","claims":[{"key":"ptype","value":"user"}]}'],
    "X-Real-Port": ["57470"],
    "X-Forwarded-For": ["10.0.64.84,203.0.113.19", "203.0.113.20"],
}

OLDER_CALL = {
    "eventType": "com.oraclecloud.virtualNetwork.CreateVcn",
    "cloudEventsVersion": "0.1",
    "eventTypeVersion": "2.0",
    "source": "virtualNetwork",
    "eventId": "1fd6329b-6e11-40a5-bb48-b4db04cce956",
    "eventTime": "2019-12-08T03:08:53.799Z",
    "contentType": "application/json",
    "data": {
        "eventGroupingId": "csid0234/6c9d",
        "eventName": "CreateVcn",
        "compartmentId": "ocid1.compartment.oc1..aaaaexample",
        "compartmentName": "storage",
        "freeformTags": {"cost-center": "4711", "eventType": "x"},
        "definedTags": {"Oracle-Tags": {"CreatedBy": "a", "retries": 3, "nested": {"userAgent": None}}},
        "availabilityDomain": "AD",
        "identity": {"principalName": "user1", "ipAddress": "192.168.0.1", "userAgent": "Mozilla/5.0 é 日"},
        "request": {"id": "39e8", "path": "/20160918/vcns", "action": "POST", "parameters": {}, "headers": HEADERS},
        "response": {
            "status": "200",
            "responseTime": "2019-12-08T03:08:54Z",
            "headers": {"ETag": ["b1b0"], "opc-request-id": []},
            "payload": {"resourceName": "v", "sizeInGBs": 1.5, "flags": [True, None, {"isNew": False}]},
            "message": "CreateVcn succeeded",
        },
        "stateChange": {"previous": {}, "current": {"displayName": "v", "dhcpOptions": {"serverType": "x"}}},
        "additionalDetails": {"imageId": "", "type": "CustomerVmi"},
        "internalDetails": {"attributes": None},
    },
}
NEWER_CALL = {
    "eventType": "com.oraclecloud.Compartments.ListCompartments",
    "cloudEventsVersion": "0.1",
    "eventTypeVersion": "2.0",
    "source": "",
    "eventId": "f132bf7a-c3d5-4cdb-b3e4-42344b73d48a",
    "eventTime": "2023-10-26T20:57:00.379Z",
    "contentType": "application/json",
    "data": {
        "additionalDetails": {"X-Real-Port": 57470},
        "availabilityDomain": "AD3",
        "compartmentId": TENANCY,
        "compartmentName": "root",
        "definedTags": None,
        "eventGroupingId": None,
        "eventName": "ListCompartments",
        "freeformTags": None,
        "identity": {
            "authType": "natv",
            "callerId": "loganalytics/C5C0",
            "callerName": "loganalytics",
            "consoleSessionId": None,
            "credentials": "***",
            "ipAddress": "10.0.64.84,203.0.113.19",
            "principalId": "ocid1.user.oc1..aaaaexample",
            "principalName": "jane.doe@example.com",
            "tenantId": TENANCY,
            "userAgent": "Oracle-JavaSDK/2.66.0",
        },
        "message": "ListCompartments succeeded",
        "request": {"action": "GET", "headers": HEADERS, "id": "7429", "parameters": {"limit": ["1"]}, "path": "/c"},
        "resourceId": None,
        "response": {
            "headers": {},
            "message": None,
            "payload": None,
            "responseTime": "2023-10-26T20:57:00.394Z",
            "status": "200",
        },
        "stateChange": {"current": None, "previous": None},
    },
}
SIGN_IN = {
    "eventType": "com.oraclecloud.IdentitySignOn.InteractiveLogin",
    "eventTime": "2022-03-09T17:18:33.983Z",
    "eventId": "fd380a65-c887-4d48-8a52-c405c0c96bc4",
    "source": "",
    "data": {
        "additionalDetails": {"eventId": "sso.session.create.success", "loginAttempt": 1, "values": [{"a": []}]},
        "identity": {"authType": None, "principalId": None, "principalName": "john.roe"},
        "message": " InteractiveLogin succeeded",
        "request": {"action": None, "headers": None, "id": "DWse", "parameters": None, "path": None},
        "response": {"headers": None, "payload": None, "responseTime": "2022-03-09T17:18:33.983Z", "status": None},
        "stateChange": None,
    },
}
UNKNOWN_EVERYWHERE = {
    "tagSlug": "AAH",
    "event_type": "not the field",
    "data": {
        "systemTags": {"orcl-cloud": {"free-tier-retained": "true"}},
        "securityAttributes": {},
        "identity": {"userAgent": json.loads('"\\ud800 half a pair"'), "user-agent": "x", "region": {"id": 1}},
        "request": {"id": "i", "body": "x"},
        "response": {"status": "200", "latency": 1.5},
        "stateChange": {"current": {"a": 1}, "delta": {"b": 2}},
    },
}
EVENTS: dict[str, dict[str, Any]] = {
    "older call": OLDER_CALL,
    "newer call": NEWER_CALL,
    "sign-in": SIGN_IN,
    "unknown fields": UNKNOWN_EVERYWHERE,
    "empty": {},
    "null data": {"eventId": "i", "data": None},
    "empty data": {"data": {}},
    "empty models": {"data": {"identity": {}, "request": {}, "response": {}, "stateChange": {}}},
    "null models": {"data": {"identity": None, "request": None, "response": None, "stateChange": None}},
    "other types": {"eventId": 1, "source": True, "contentType": 1.5, "eventType": {"eventType": [1]}},
    "null time": {"eventTime": None},
    "time with offset": {"eventTime": "2023-10-26T20:57:00.379+02:00"},
    "time without fraction": {"eventTime": "2023-10-26T20:57:00Z"},
    "big numbers": {"data": {"additionalDetails": {"a": 10**40, "b": 1e300, "c": -0.0, "d": float("1e-7")}}},
}

CONVERT_AS_CLI = """
import json, sys
from oci.audit.models import audit_type_mapping
from oci.base_client import BaseClient
from oci_cli.cli_util import pretty_print_format, to_dict

client = BaseClient.__new__(BaseClient)
client.type_mappings = BaseClient.primitive_type_map | audit_type_mapping
events = [client._BaseClient__deserialize(event, "AuditEvent") for event in json.load(sys.stdin)]
sys.stdout.buffer.write(pretty_print_format({"data": to_dict(events)}).encode("utf-8", "surrogatepass"))
"""

every_event = pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
every_model = pytest.mark.parametrize("model", SDK_FIELDS)


@pytest.fixture(scope="module")
def client() -> Any:
    """The SDK's own client, with a new key; it sends nothing."""
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    config = {
        "tenancy": TENANCY,
        "user": "ocid1.user.oc1..aaaaexample",
        "fingerprint": ":".join(["00"] * 16),
        "key_content": pem,
        "region": "us-ashburn-1",
    }
    return oci.audit.AuditClient(config).base_client


def convert_with_sdk(client: Any, event: Any) -> Any:
    """Read an event as the SDK reads a page, and flatten it as `oci.util.to_dict` does."""
    page = client.deserialize_response_data(json.dumps([event]).encode(), "list[AuditEvent]")
    return json.loads(json.dumps(oci.util.to_dict(page)))[0]


def to_api_shape(event: Any, shape: Any = "sdk") -> Any:
    """Convert an event with the function under test."""
    return json.loads(choose_shape(shape)(json.dumps(event).encode()))


def put_at(path: tuple[str, ...], value: Any) -> Any:
    """Return an event with only this value, at this path."""
    for name in reversed(path):
        value = {name: value}
    return value


def get_at(converted: Any, path: tuple[str, ...]) -> Any:
    """Return the value in a converted event at a path in the API's field names."""
    for name in path:
        converted = converted[re.sub("([A-Z])", r"_\1", name).lower()]
    return converted


def drop_unknown(converted: Any, model: str, separator: str = "_") -> Any:
    """Remove, at every model level, the fields that the SDK's models do not have."""
    if not isinstance(converted, dict):
        return converted
    types = {name.replace("_", separator): kind for name, kind in getattr(models, model)().swagger_types.items()}
    return {
        name: drop_unknown(value, types[name], separator) if hasattr(models, types[name]) else value
        for name, value in converted.items()
        if name in types
    }


@every_model
def test_the_table_matches_the_sdk(model: str) -> None:
    """The table has the SDK's fields with their types, in its order, and with the names that its models read."""
    known = getattr(models, model)()
    assert list(SDK_FIELDS[model].items()) == [
        (known.attribute_map[name], kind) for name, kind in known.swagger_types.items()
    ]


def test_the_table_has_every_model_of_an_event() -> None:
    """The table has every model that an event can contain."""
    kinds = {kind for fields in SDK_FIELDS.values() for kind in fields.values()}
    assert {kind for kind in kinds if hasattr(models, kind)} | {EVENT_MODEL} == set(SDK_FIELDS)


@every_event
def test_an_event_has_the_shape_of_the_sdk(client: Any, event: Any) -> None:
    """Without the fields that the SDK drops, our event is equal to the SDK's, in the same order."""
    ours = drop_unknown(to_api_shape(event), EVENT_MODEL)
    assert json.dumps(ours) == json.dumps(convert_with_sdk(client, event))


def test_an_event_has_the_shape_of_the_cli(contract_bin: Path) -> None:
    """Without the fields that the CLI drops, our events are equal to the CLI's output."""
    done = subprocess.run(
        [contract_bin / "python", "-c", CONVERT_AS_CLI],
        input=json.dumps(list(EVENTS.values())).encode(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    printed = json.loads(done.stdout.decode("utf-8", "surrogatepass"))["data"]
    assert [drop_unknown(to_api_shape(event, "cli"), EVENT_MODEL, "-") for event in EVENTS.values()] == printed


@given(
    st.datetimes(allow_imaginary=False),
    st.sampled_from(["", *(f".%0{digits}d" for digits in range(1, 7)), ".%06d000"]),
    st.sampled_from(["Z", "z", "", "+00:00", "-00:00", "+02:00", "-0930", "+23:59", "-12:00"]),
    st.sampled_from("Tt "),
)
def test_times_have_the_format_of_the_sdk(client: Any, time: Any, fraction: str, offset: str, mark: str) -> None:
    """Every RFC 3339 time of at most microsecond precision is formatted as by the SDK."""
    digits = fraction % (time.microsecond // 10 ** (6 - int(fraction[3]))) if fraction else ""
    event = {"eventTime": time.isoformat()[:19].replace("T", mark) + digits + offset}
    assert to_api_shape(event)["event_time"] == convert_with_sdk(client, event)["event_time"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("eventTime",), "2019-09-18T00:10:59.123456789Z"),
        (("data",), "x"),
        (("data", "identity"), "x"),
        (("data", "identity"), [1]),
        (("data", "request", "headers"), {"Accept": "text"}),
        (("data", "additionalDetails"), {"_self": 1, "self": 2}),
        (("data", "definedTags"), {"n": {"self_uri": 1}}),
    ],
)
def test_a_value_that_the_sdk_damages_is_kept(client: Any, path: tuple[str, ...], value: Any) -> None:
    """A value that the SDK silently truncates, empties or renames stays as it was served."""
    event = put_at(path, value)
    assert get_at(convert_with_sdk(client, event), path) != value
    assert get_at(to_api_shape(event), path) == value


@pytest.mark.parametrize(
    ("path", "value", "failure"),
    [
        (("eventTime",), "yesterday", "Failed to parse"),
        (("eventTime",), "2016-12-31T23:59:60Z", "Failed to parse"),
        (("eventTime",), 5, "must be str"),
        (("data",), 5, "not iterable"),
        (("data", "freeformTags"), "x", "no attribute 'items'"),
        (("data", "definedTags"), {"n": "x"}, "no attribute 'items'"),
        (("data", "stateChange", "current"), [1], "no attribute 'items'"),
        (("data", "stateChange", "previous"), "previous state", "no attribute 'items'"),
    ],
)
def test_a_value_that_the_sdk_rejects_is_kept(client: Any, path: tuple[str, ...], value: Any, failure: str) -> None:
    """A value for which the SDK rejects the whole page stays as it was served."""
    event = put_at(path, value)
    with pytest.raises(Exception, match=failure):
        convert_with_sdk(client, event)
    assert get_at(to_api_shape(event), path) == value
