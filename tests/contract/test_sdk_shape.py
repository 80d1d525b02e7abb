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
MADE_EVENTS: dict[str, dict[str, Any]] = {
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

RESPELL_AS_CLI = """
import json, sys
from oci.audit.models import audit_type_mapping
from oci.base_client import BaseClient
from oci_cli.cli_util import pretty_print_format, to_dict

client = BaseClient.__new__(BaseClient)
client.type_mappings = BaseClient.primitive_type_map | audit_type_mapping
events = [client._BaseClient__deserialize(event, "AuditEvent") for event in json.load(sys.stdin)]
sys.stdout.buffer.write(pretty_print_format({"data": to_dict(events)}).encode("utf-8", "surrogatepass"))
"""

made_events = pytest.mark.parametrize("event", MADE_EVENTS.values(), ids=MADE_EVENTS)
every_model = pytest.mark.parametrize("model", SDK_FIELDS)


@pytest.fixture(scope="module")
def client() -> Any:
    """The SDK's own client, with a key that was made for it; it sends nothing."""
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


def respell_by_sdk(client: Any, event: Any) -> Any:
    """Read an event as the SDK reads a page, and flatten it as `oci.util.to_dict` does."""
    page = client.deserialize_response_data(json.dumps([event]).encode(), "list[AuditEvent]")
    return json.loads(json.dumps(oci.util.to_dict(page)))[0]


def to_api_shape(event: Any, shape: Any = "sdk") -> Any:
    """Respell an event by the function under test."""
    return json.loads(choose_shape(shape)(json.dumps(event).encode()))


def put_at(target: tuple[str, ...], value: Any) -> Any:
    """Make an event that has nothing but a value at a place."""
    for name in reversed(target):
        value = {name: value}
    return value


def get_at(respelled: Any, target: tuple[str, ...]) -> Any:
    """Find what stands in a respelled event at a place named as served."""
    for name in target:
        respelled = respelled[re.sub("([A-Z])", r"_\1", name).lower()]
    return respelled


def drop_unknown(respelled: Any, model: str, joint: str = "_") -> Any:
    """Take out, at every model level, the fields that the SDK's models do not have."""
    if not isinstance(respelled, dict):
        return respelled
    kinds = {name.replace("_", joint): kind for name, kind in getattr(models, model)().swagger_types.items()}
    return {
        name: drop_unknown(value, kinds[name], joint) if hasattr(models, kinds[name]) else value
        for name, value in respelled.items()
        if name in kinds
    }


@every_model
def test_the_table_is_the_sdks(model: str) -> None:
    """The table has the SDK's fields, in its order, of its types and spelled as its models read them."""
    known = getattr(models, model)()
    assert list(SDK_FIELDS[model].items()) == [
        (known.attribute_map[name], kind) for name, kind in known.swagger_types.items()
    ]


def test_the_table_has_every_model_of_an_event() -> None:
    """No model that an event can contain is missing in the table."""
    kinds = {kind for fields in SDK_FIELDS.values() for kind in fields.values()}
    assert {kind for kind in kinds if hasattr(models, kind)} | {EVENT_MODEL} == set(SDK_FIELDS)


@made_events
def test_an_event_is_spelled_as_the_sdk_does(client: Any, event: Any) -> None:
    """What the SDK gives for an event is what we give without the fields that the SDK drops, in its order."""
    ours = drop_unknown(to_api_shape(event), EVENT_MODEL)
    assert json.dumps(ours) == json.dumps(respell_by_sdk(client, event))


def test_an_event_is_spelled_as_the_official_command_does(contract_bin: Path) -> None:
    """What the official command prints for events is what we give without the fields that it drops."""
    done = subprocess.run(
        [contract_bin / "python", "-c", RESPELL_AS_CLI],
        input=json.dumps(list(MADE_EVENTS.values())).encode(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    printed = json.loads(done.stdout.decode("utf-8", "surrogatepass"))["data"]
    assert [drop_unknown(to_api_shape(event, "cli"), EVENT_MODEL, "-") for event in MADE_EVENTS.values()] == printed


@given(
    st.datetimes(allow_imaginary=False),
    st.sampled_from(["", *(f".%0{digits}d" for digits in range(1, 7)), ".%06d000"]),
    st.sampled_from(["Z", "z", "", "+00:00", "-00:00", "+02:00", "-0930", "+23:59", "-12:00"]),
    st.sampled_from("Tt "),
)
def test_times_are_spelled_as_the_sdk_does(client: Any, time: Any, fraction: str, offset: str, mark: str) -> None:
    """Every RFC 3339 time of microseconds or coarser is spelled as the SDK does."""
    digits = fraction % (time.microsecond // 10 ** (6 - int(fraction[3]))) if fraction else ""
    event = {"eventTime": time.isoformat()[:19].replace("T", mark) + digits + offset}
    assert to_api_shape(event)["event_time"] == respell_by_sdk(client, event)["event_time"]


@pytest.mark.parametrize(
    ("target", "value"),
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
def test_what_the_sdk_tears_apart_is_kept(client: Any, target: tuple[str, ...], value: Any) -> None:
    """A value that the SDK cuts, empties or renames without a word stays as it was served."""
    event = put_at(target, value)
    assert get_at(respell_by_sdk(client, event), target) != value
    assert get_at(to_api_shape(event), target) == value


@pytest.mark.parametrize(
    ("target", "value", "failure"),
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
def test_what_the_sdk_fails_on_is_kept(client: Any, target: tuple[str, ...], value: Any, failure: str) -> None:
    """A value on which the SDK gives up a whole page stays as it was served."""
    event = put_at(target, value)
    with pytest.raises(Exception, match=failure):
        respell_by_sdk(client, event)
    assert get_at(to_api_shape(event), target) == value
