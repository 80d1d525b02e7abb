import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.events.event import parse_page
from ociaudit.events.redaction import MARK, OTHER_PATHS, Redactor, is_credential_name, redact_text
from support.json_bodies import OBJECTS

SECRET = "Zx9Qw7Er5Ty3"  # planted in events and searched for in the results
WEB_TOKEN = f"eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0{SECRET}.c2ln{SECRET}"
PEM = f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n{SECRET}==\n-----END RSA PRIVATE KEY-----"


def redact(event: Any) -> tuple[Any, dict[str, int]]:
    """Return a redacted event and the counts of its paths."""
    redactor = Redactor()
    redacted = redactor.redact(json.dumps(event).encode())
    return json.loads(redacted), dict(redactor.paths)


HEADERS = [
    "Authorization", "authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", "opc-obo-token", "OPC-OBO-TOKEN",
    "opc-principal", "opc-obo-principal", "x-auth-token", "X-CSRF-Token", "x-session-token", "X-Api-Key",
    "x-amz-signature", "X-Amz-Security-Token", "x-oci-secret", "opc-auth-info", "auth-info", "X-Auth-Info",
    "Authentication-Info", "Proxy-Authentication-Info",
]  # fmt: skip
FIELDS = [
    "credentials", "password", "newPassword", "userPassword", "PASSWORD", "pass_phrase", "passphrase", "clientSecret",
    "client-secret", "secret", "secretBundleContent", "accessToken", "idToken", "refresh_token", "privateKey",
    "private_key_pem", "apiKey", "signature", "samlResponse", "client_assertion", "totpSeed", "seed", "otp",
    "bypassCode", "passwordHash", "dbPwd", "connectionString", "user_data", "secretValue",
    "pass\u0077ord", "auth.token", "sharedKey",
]  # fmt: skip
PATHS = [
    ("data", "request", "headers"),
    ("data", "request", "parameters"),
    ("data", "response", "headers"),
    ("data", "response", "payload"),
    ("data", "additionalDetails"),
    ("data", "stateChange", "current"),
    ("data", "freeformTags"),
    ("data", "identity"),
    ("somethingNew",),
]


def put_at(path: tuple[str, ...], value: Any) -> Any:
    """Return an event with a value at a path."""
    for name in reversed(path):
        value = {name: value}
    return {"eventType": "x", **value}


@pytest.mark.parametrize("name", [*HEADERS, *FIELDS])
def test_a_credential_by_name_is_replaced_anywhere(name: str) -> None:
    """In every model and map, all texts and numbers under a credential name are replaced, and the structure stays."""
    for path in PATHS:
        for value, redacted in (
            (SECRET, MARK),
            ([SECRET, SECRET], [MARK, MARK]),
            ({"a": [SECRET], "b": {"c": SECRET, "d": 5551234}}, {"a": [MARK], "b": {"c": MARK, "d": MARK}}),
        ):
            event, paths = redact(put_at(path, {name: value, "kept": "kept"}))
            assert event == put_at(path, {name: redacted, "kept": "kept"})
            assert all(counted.startswith(".".join((*path, name))) for counted in paths)
            assert sum(paths.values()) == json.dumps(redacted).count(MARK)


FORMS = [
    WEB_TOKEN,
    f"token is {WEB_TOKEN}, take it",
    f"ST${WEB_TOKEN}",
    PEM,
    f"key: {PEM} and more",
    PEM[:60],
    PEM.replace("\n", "\\n"),
    f"Bearer {SECRET}",
    f"basic dXNlcjo{SECRET}=",
    f"password={SECRET}",
    f"Password: {SECRET}; next",
    f"pwd='{SECRET} {SECRET}'",
    f'"client_secret" : "{SECRET}"',
    f"<password>{SECRET}</password>",
    f"/oauth?access_token={SECRET}&x=1",
    f"a=1&password%3D{SECRET}",
    f"https://user:{SECRET}@host/path",
    f"/p/{SECRET}abcdefgh/n/tenancy/b/bucket/o/object",
    f"%2Fp%2F{SECRET}abcdefgh%2Fn%2Ftenancy%2Fb%2Fbucket%2Fo%2Fobject",
    f"https%3a%2f%2fobjectstorage%2fp%2f{SECRET}abcdefgh%2fn%2ftenancy",
    f"%252Fp%252F{SECRET}abcdefgh%252Fn%252Ftenancy",
    f"/%70/{SECRET}abcdefgh/%6E/tenancy",
    f"/p/{SECRET}abc%2Ddefgh/n/tenancy/b/bucket",
    f"https%3A%2F%2Fuser%3A{SECRET}%40host%2Fpath",
    f"https%253A%252F%252Fuser%253A{SECRET}%2540host",
    f"https://user%3A{SECRET}%40host/path",
    f'Signature keyId="a/b/c",signature="{SECRET}",version="1"',
    json.dumps({"password": SECRET}),
    json.dumps([{"headers": {"Authorization": [f"x {SECRET}"]}}]),
    json.dumps({"inner": json.dumps({"token": [SECRET]})}),
    json.dumps({"a": "\ud800", "secret": SECRET}),
    json.dumps({"name": "dbPassword", "value": SECRET}),
    "\n" + json.dumps({"password": [SECRET]}),
    "  " + json.dumps({"password": [SECRET]}, indent=1),
    "\ufeff" + json.dumps({"password": {"a": SECRET}}),
    json.dumps({"a": 1}) + "\n" + json.dumps({"password": [SECRET]}),
    json.dumps(json.dumps({"password": [SECRET]})),
    json.dumps({"u": "\ud800", "password": [SECRET]}),
    json.dumps({"password": [SECRET], "more": 1})[:-4],
]


@pytest.mark.parametrize("text", FORMS)
def test_a_credential_by_form_is_replaced_in_every_text(text: str) -> None:
    """A text with the form of a credential is replaced under a harmless name, in a list, and as a name itself."""
    for event in (put_at(path, {"harmless": text}) for path in PATHS):
        redacted, paths = redact(event)
        assert SECRET not in json.dumps(redacted)
        assert MARK in json.dumps(redacted)
        assert paths
    assert SECRET not in json.dumps(redact({"list": [["x", text]]}))
    assert SECRET not in json.dumps(redact({text: "x"}))


@pytest.mark.parametrize(
    "pair",
    [
        {"name": "DB_PASSWORD", "value": SECRET},
        {"value": SECRET, "name": "apiToken"},
        {"key": "authorization", "other": 1, "value": SECRET},
        {"name": "secret", "value": [SECRET, {"x": SECRET}]},
        {"value": [SECRET], "name": "password"},
        {"value": {"a": SECRET, "b": [1, {"c": SECRET}]}, "name": "password"},
        {"value": 5071824936, "name": "password"},
        {"value": {"a": 5071824936}, "other": [2], "name": "password"},
    ],
)
def test_a_value_next_to_a_credential_name_is_replaced(pair: dict[str, Any]) -> None:
    """The value of a setting written as name and value is replaced, in either order."""
    redacted, paths = redact({"data": {"response": {"payload": {"env": [pair, {"name": "a", "value": "kept"}]}}}})
    assert SECRET not in json.dumps(redacted)
    assert "5071824936" not in json.dumps(redacted)
    assert redacted["data"]["response"]["payload"]["env"][1] == {"name": "a", "value": "kept"}
    assert next(iter(paths)).startswith("data.response.payload.env.value")


@pytest.mark.parametrize(
    "event",
    [
        {"credentials": None, "password": True, "token": "", "secret": "*****", "cookie": [], "signature": MARK},
        {"Access-Control-Allow-Credentials": ["true"], "secretId": "ocid1.vaultsecret.oc1..a", "authTokenId": "x"},
        {"consoleSessionId": "csid1", "opc-request-id": ["A/B/C"], "tokenType": "Bearer", "isPasswordSet": "yes"},
        {"eventName": "CreateAuthToken", "path": "/20160918/users/x/authTokens", "message": "CreateSecret succeeded"},
        {"ssoCompletedFactors": "{USERNAME_PASSWORD=AUTH_SUCCESS}", "text": "basic information, bearer of news"},
        {"a": "password: null", "b": "https://host:443/a@b", "c": "eyJhbGciOiJub25lIn0", "d": "/p/short/n/x"},
        {
            "a": "%2Fp%2Fshort%2Fn%2Fx",
            "b": "https%3A%2F%2Fhost%3A443%2Fa%40b",
            "c": "100%25 of /p/ads",
            "d": "%3a%2f%2f",
        },
        {"expose": "ETag,Authorization,opc-next-page", "number": 123456789012345678901234567890, "odd": 1.10},
    ],
)
def test_other_text_is_unchanged(event: dict[str, Any]) -> None:
    """Words about credentials, references to them and masked values are neither changed nor counted."""
    raw = json.dumps({"data": event}, indent=1).encode()
    redactor = Redactor()
    assert redactor.redact(raw) is raw
    assert (redactor.events, redactor.paths.total()) == (0, 0)


@given(OBJECTS, st.sampled_from(["password", "x", "a.token"]))
def test_every_valid_event_stays_valid_and_keeps_its_structure(text: str, name: str) -> None:
    """Any valid event stays valid with the same structure, and redacting it twice is the same as once."""
    raw = parse_page(f'[{{"{name}":{text},"rest":{text}}}]'.encode())[0].raw
    redactor = Redactor()
    redacted = redactor.redact(raw)
    assert shape_of(json.loads(redacted, parse_int=str, parse_float=str)) == shape_of(
        json.loads(raw, parse_int=str, parse_float=str)
    )
    assert parse_page(b"[" + redacted + b"]")[0].raw == redacted
    again = Redactor()
    assert again.redact(redacted) == redacted
    if name == "x":
        assert (redacted is raw) == (not redactor.paths)


def shape_of(value: Any) -> Any:
    """Return the structure of JSON: its nesting, and whether each value is a text (or number)."""
    if isinstance(value, dict):
        return [shape_of(each) for each in value.values()]
    if isinstance(value, list):
        return [shape_of(each) for each in value]
    return "text" if isinstance(value, str) else value


@given(
    st.text(max_size=40)
    | st.lists(st.sampled_from([*FORMS, "token", "=", '"', "'", " ", ":", "eyJ", "{"])).map("".join)
)
def test_redacting_a_text_twice_is_the_same_as_once(text: str) -> None:
    """The mark that replaces a credential is not a credential."""
    assert redact_text(redact_text(text)) == redact_text(text)


@given(st.text())
def test_naming_style_does_not_matter(name: str) -> None:
    """A credential name is recognised whatever its case and the separators between its words."""
    assert is_credential_name(name) == is_credential_name(name.upper().lower()) or not name.isascii()
    assert is_credential_name(f"{name}_pass-WORD")


def test_everything_not_replaced_keeps_its_bytes() -> None:
    """White space, digits, escapes, lone surrogates and repeated names are unchanged."""
    raw = b'{ "a" : "\\u0041\\ud800\\/" , "n":1.10e+5,"a":[1 ,2],"password" : "x" ,"z":"\xc3\xa9"}'
    assert Redactor().redact(raw) == raw.replace(b'"x"', b'"%b"' % MARK.encode())


def test_paths_are_counted_and_bounded() -> None:
    """Each field path has its count, and names from a hostile caller do not fill the memory."""
    redactor = Redactor()
    for number in range(3000):
        redactor.redact(json.dumps({"headers": {"Cookie": [SECRET]}, f"{number}token" + "": SECRET}).encode())
    assert redactor.paths["headers.Cookie"] == 3000
    assert len(redactor.paths) <= 1001
    assert redactor.paths[OTHER_PATHS] > 1000
    assert redactor.events == 3000
    assert SECRET not in str(redactor.paths)
    long = Redactor()
    long.redact(json.dumps({"x" * 100_000: {"token": SECRET}}).encode())
    assert len(next(iter(long.paths))) <= 200


def test_a_deeply_nested_event_is_redacted() -> None:
    """An event nested as deeply as the program can read is redacted."""
    raw = b'{"a":' * 50_000 + b'{"token":"x"}' + b"}" * 50_000
    assert b'"token":"%b"' % MARK.encode() in Redactor().redact(raw)


@pytest.mark.parametrize("opening", [b'{"value":', b'{"token":"x","value":', b'{"a":[1],"value":'])
def test_values_in_values_take_linear_time(opening: bytes) -> None:
    """However deeply values that turn out to be credentials are in each other, each text is replaced once."""
    depth = 40_000
    raw = opening * depth + b'["%b"]' % SECRET.encode() + b',"name":"password"}' * depth
    redactor = Redactor()
    assert SECRET.encode() not in redactor.redact(raw)
    assert sum(redactor.paths.values()) <= 2 * depth + 1


@pytest.mark.parametrize(
    "piece",
    [
        "eyJ-",
        "-----BEGIN A-----",
        "password=",
        "://a:",
        "token ",
        'secret="',
        "bearer a",
        "/p/",
        "%2Fp%2F",
        "%2fp%2fa",
        "%25",
        "%3A%2F%2Fa%3A",
        "%3a%2f%2f",
    ],
)
def test_a_hostile_text_takes_linear_time(piece: str) -> None:
    """A text of 250,000 characters that repeats the start of a credential is redacted without quadratic time."""
    assert Redactor().redact(json.dumps({"a": piece * (250_000 // len(piece))}).encode())
