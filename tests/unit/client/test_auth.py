import asyncio
import base64
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from ociaudit.client.auth import Credentials, load_credentials
from ociaudit.errors import ConfigError, UsageError

PASS_PHRASE = "open-sesame"
FINGERPRINT = ":".join(["ab"] * 16)
RSA_KEY = rsa.generate_private_key(65537, 2048)


def write_pem(
    key: object, *, is_encrypted: bool = False, layout: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8
) -> bytes:
    """Write a private key as PEM."""
    lock = serialization.BestAvailableEncryption(PASS_PHRASE.encode()) if is_encrypted else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, layout, lock)


PLAIN = write_pem(RSA_KEY)
KEYS = {
    "good": PLAIN,
    "labelled": PLAIN + b"OCI_API_KEY\n",
    "traditional": write_pem(RSA_KEY, layout=serialization.PrivateFormat.TraditionalOpenSSL),
    "encrypted": write_pem(RSA_KEY, is_encrypted=True),
    "old-encrypted": write_pem(RSA_KEY, is_encrypted=True, layout=serialization.PrivateFormat.TraditionalOpenSSL),
    "public": RSA_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ),
    "ec": write_pem(ec.generate_private_key(ec.SECP256R1())),
    "ed25519": write_pem(ed25519.Ed25519PrivateKey.generate()),
    "der": RSA_KEY.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ),
    "cut": PLAIN[:900],
    "changed": PLAIN[:300] + b"AAAAAAAAAAAA" + PLAIN[312:],
    "text": b"this is not a key",
    "empty": b"",
    "garbage": bytes(range(256)) * 4,
}
SECRETS = {line for line in PLAIN.decode().splitlines() if not line.startswith("-")} | {PASS_PHRASE, "wrong-words"}


@dataclass
class Profile:
    """A configuration file with one profile that can be changed field by field."""

    folder: Path

    def write(self, *, section: str = "DEFAULT", **changes: str | None) -> str:
        """Write the file and return its path; a field that is None is omitted."""
        fields = {
            "user": "ocid1.user.oc1..aaaa",
            "tenancy": "ocid1.tenancy.oc1..aaaa",
            "region": "eu-frankfurt-1",
            "fingerprint": FINGERPRINT,
            "key_file": self.put("key.pem", KEYS["good"]),
        } | changes
        lines = [f"{name}={value}" for name, value in fields.items() if value is not None]
        return self.put("config", "\n".join([f"[{section}]", *lines, ""]).encode())

    def put(self, name: str, data: bytes) -> str:
        """Write a file beside the configuration."""
        path = self.folder / name
        path.write_bytes(data)
        return str(path)

    def put_key(self, kind: str) -> str:
        """Write one of the keys beside the configuration."""
        return self.put(f"{kind}.pem", KEYS[kind])


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    """A profile that works unless a field is changed."""
    return Profile(tmp_path)


def sign(credentials: Credentials) -> dict[str, str]:
    """Sign a request as the transport does."""
    return credentials.sign(url="https://h:1/p?a=%20b", host="h:1", path="/p?a=%20b", now_seconds=1_700_000_000)


def read_signature(headers: dict[str, str]) -> dict[str, str]:
    """Parse the Authorization header into its parameters."""
    return dict(re.findall(r'(\w+)="([^"]*)"', headers["authorization"]))


def check_signature(headers: dict[str, str]) -> None:
    """Verify a signature with the public key, over the bytes that are sent."""
    text = f"date: {headers['date']}\n(request-target): get /p?a=%20b\nhost: h:1"
    signature = base64.b64decode(read_signature(headers)["signature"])
    RSA_KEY.public_key().verify(signature, text.encode(), padding.PKCS1v15(), hashes.SHA256())


@pytest.mark.parametrize("kind", ["good", "labelled", "traditional"])
def test_an_api_key_signs(profile: Profile, kind: str) -> None:
    """A request is signed with the profile's key over date, target and host, and names the key."""
    credentials = load_credentials(profile.write(key_file=profile.put_key(kind)))
    headers = sign(credentials)
    check_signature(headers)
    assert headers["date"] == "Tue, 14 Nov 2023 22:13:20 GMT"
    assert read_signature(headers)["keyId"] == f"ocid1.tenancy.oc1..aaaa/ocid1.user.oc1..aaaa/{FINGERPRINT}"
    assert credentials.kind == "api_key"


@pytest.mark.parametrize("kind", ["encrypted", "old-encrypted"])
def test_a_pass_phrase_decrypts_the_key(profile: Profile, kind: str) -> None:
    """An encrypted key signs if the profile has its pass phrase."""
    check_signature(sign(load_credentials(profile.write(key_file=profile.put_key(kind), pass_phrase=PASS_PHRASE))))


@pytest.mark.parametrize(
    ("kind", "pass_phrase", "words"),
    [
        ("encrypted", None, "no pass phrase"),
        ("old-encrypted", None, "no pass phrase"),
        ("encrypted", "wrong-words", "pass_phrase is wrong"),
        ("old-encrypted", "wrong-words", "pass_phrase is wrong"),
        ("public", None, "is a public key"),
        ("ec", None, "not an RSA private key"),
        ("ed25519", None, "not an RSA private key"),
        ("der", None, "damaged"),
        ("cut", None, "damaged"),
        ("changed", None, "damaged"),
        ("text", None, "damaged"),
        ("empty", None, "damaged"),
        ("garbage", None, "damaged"),
    ],
)
@pytest.mark.parametrize("is_session", [False, True])
def test_an_unusable_key_is_explained_without_showing_it(
    profile: Profile, kind: str, pass_phrase: str | None, words: str, *, is_session: bool
) -> None:
    """Every kind of unusable key is a configuration error before anything is sent, and no secret is shown."""
    token_file = profile.put("token", b"header.payload.signature") if is_session else None
    where = profile.write(key_file=profile.put_key(kind), pass_phrase=pass_phrase, security_token_file=token_file)
    with pytest.raises(ConfigError, match=words) as caught:
        load_credentials(where)
    shown = f"{caught.value} {caught.value.hint} {caught.value!r}"
    assert not [secret for secret in SECRETS if secret in shown]
    assert "DEFAULT" in shown
    assert where in shown


@pytest.mark.parametrize("field", ["user", "tenancy", "fingerprint", "region"])
@pytest.mark.parametrize("value", ["", "x y", "../../etc", "ocid1.instance"])
def test_a_malformed_field_is_named(profile: Profile, field: str, value: str) -> None:
    """A malformed field is named."""
    with pytest.raises(ConfigError, match=f"{field} malformed"):
        load_credentials(profile.write(**{field: value}))


@pytest.mark.parametrize("field", ["user", "tenancy", "fingerprint", "region", "key_file"])
def test_a_missing_field_is_named(profile: Profile, field: str) -> None:
    """A field that the profile lacks is named."""
    with pytest.raises(ConfigError, match=f"{field} missing"):
        load_credentials(profile.write(**{field: None}))


@pytest.mark.parametrize("field", ["tenancy", "region", "key_file"])
def test_a_session_names_its_missing_field(profile: Profile, field: str) -> None:
    """A session needs fewer fields than an API key, and a missing one is named."""
    token_file = profile.put("token", b"header.payload.signature")
    with pytest.raises(ConfigError, match=f"{field} missing"):
        load_credentials(profile.write(security_token_file=token_file, user=None, **{field: None}))


def test_a_session_token_signs(profile: Profile) -> None:
    """A session signs with its token as the key id, and neither token nor signer appears in the repr."""
    token_file = profile.put("token", b"header.payload.signature\n")
    credentials = load_credentials(profile.write(security_token_file=token_file, user=None, fingerprint=None))
    headers = sign(credentials)
    check_signature(headers)
    assert read_signature(headers)["keyId"] == "ST$header.payload.signature"
    assert credentials.kind == "security_token"
    assert "payload" not in repr(credentials)
    assert "igner" not in repr(credentials)


@pytest.mark.parametrize("token", ["missing", "binary", "folder", "~nobody-of-that-name/token"])
def test_an_unreadable_token_is_a_configuration_error(profile: Profile, token: str) -> None:
    """A token file that is missing, not text or a folder is an error with the command for a new session."""
    profile.put("binary", b"\xff\xfe")
    (profile.folder / "folder").mkdir()
    where = token if token.startswith("~") else str(profile.folder / token)
    with pytest.raises(ConfigError, match="security_token_file") as caught:
        load_credentials(profile.write(security_token_file=where))
    assert "oci session authenticate" in caught.value.hint


@pytest.mark.parametrize("key_file", ["nothing.pem", "folder", "~nobody-of-that-name/key.pem"])
def test_a_missing_key_file_is_a_configuration_error(profile: Profile, key_file: str) -> None:
    """A key file that does not exist or is a folder is a configuration error."""
    (profile.folder / "folder").mkdir()
    where = key_file if key_file.startswith("~") else str(profile.folder / key_file)
    tried = re.escape(str(Path(where).absolute()))
    with pytest.raises(ConfigError, match=f"names no file: {tried} (does not exist|is not a file)"):
        load_credentials(profile.write(key_file=where))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[DEFAULT]\npassword-in-a-line\n", "cannot be parsed: line 2 is not of the form name=value"),
        (b"password-in-a-line", "cannot be parsed: line 1 comes before any"),
        (b"[DEFAULT]\nuser=a\nuser=password-in-a-line\n", r"line 3 repeats user in \[DEFAULT\]"),
        (b"[DEFAULT]\npassword-in-a-line=a\npassword-in-a-line=b\n", r"line 3 repeats a field in \[DEFAULT\]"),
        (b"[A]\nuser=password-in-a-line\n[A]\n", r"line 3 repeats the section \[A\]"),
        (b"\xff\xfe\x00", "encoded in UTF-16"),
        ("[DEFAULT]\nuser=password-in-a-line\n".encode("utf-16"), "encoded in UTF-16"),
        ("[DEFAULT]\nuser=password-in-a-line\n".encode("utf-16-le"), "encoded in UTF-16"),
        ("[DEFAULT]\nuser=password-in-a-line\n".encode("utf-16-be"), "encoded in UTF-16"),
        (b"\xef\xbb\xbf[DEFAULT]\nuser=password-in-a-line\n", "byte order mark"),
        (b"[DEFAULT]\nuser=a\npass_phrase=password-in-a-line-\xe4\n", "line 3 is not UTF-8"),
        (b"[DEFAULT]\nkey_content=password-in-a-line\n", "key_content is not allowed in a file"),
        (b"[DEFAULT]\nlog_requests=password-in-a-line\n", "log_requests is neither true nor false"),
        (b"[DEFAULT]\nkey_file=-----BEGIN password-in-a-line\n", "holds the text of a key"),
        (b"[DEFAULT]\nkey_file=a\n  password-in-a-line\n", "holds the text of a key"),
        (b"", "missing"),
    ],
)
def test_a_damaged_file_is_explained_without_its_lines(profile: Profile, content: bytes, words: str) -> None:
    """A file that is not a configuration is an error that contains no line of it."""
    with pytest.raises(ConfigError, match=words) as caught:
        load_credentials(profile.put("config", content))
    assert "password-in-a-line" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("field", ["user", "tenancy", "fingerprint", "region", "key_file"])
@pytest.mark.parametrize(
    ("write", "words"),
    [("{} # old", "a comment after a value"), ("{}\t; x", "a comment after a value"), ('"{}"', "quotes around")],
)
def test_what_surrounds_a_value_is_named(profile: Profile, field: str, write: str, words: str) -> None:
    """A comment behind a value and quotes around it are named as the cause, for every field."""
    profile.write()
    good = {
        "user": "ocid1.user.oc1..aaaa",
        "tenancy": "ocid1.tenancy.oc1..aaaa",
        "fingerprint": FINGERPRINT,
        "region": "eu-frankfurt-1",
        "key_file": str(profile.folder / "key.pem"),
    }[field]
    with pytest.raises(ConfigError, match=words) as caught:
        load_credentials(profile.write(**{field: write.format(good)}))
    assert field in str(caught.value)


def test_an_upper_case_fingerprint_is_named(profile: Profile) -> None:
    """A fingerprint in upper case is named as such, and the hint has the line to write."""
    with pytest.raises(ConfigError, match="fingerprint malformed: it has upper-case letters") as caught:
        load_credentials(profile.write(fingerprint=FINGERPRINT.upper()))
    assert caught.value.hint == f"write fingerprint={FINGERPRINT}"


@pytest.mark.parametrize("section", ["default", "Default"])
def test_a_default_profile_in_another_case_is_named(profile: Profile, section: str) -> None:
    """A file with [default] instead of [DEFAULT] gets an error that names both."""
    with pytest.raises(ConfigError, match=f"no profile 'DEFAULT'; it has {section}") as caught:
        load_credentials(profile.write(section=section))
    assert f"--profile {section}" in caught.value.hint


@pytest.mark.parametrize("kind", ["encrypted", "old-encrypted"])
def test_an_empty_pass_phrase_is_named(profile: Profile, kind: str) -> None:
    """An encrypted key with an empty pass phrase is not called damaged."""
    with pytest.raises(ConfigError, match="is encrypted, and pass_phrase is empty") as caught:
        load_credentials(profile.write(key_file=profile.put_key(kind), pass_phrase=""))
    assert "OCI_CLI_PASSPHRASE" in caught.value.hint


def test_a_comment_behind_a_pass_phrase_is_named_without_showing_it(profile: Profile) -> None:
    """A wrong pass phrase with a comment behind it is explained, and not shown."""
    with pytest.raises(ConfigError, match="pass_phrase is wrong: a comment after a value") as caught:
        load_credentials(profile.write(key_file=profile.put_key("encrypted"), pass_phrase=f"{PASS_PHRASE} # mine"))
    assert PASS_PHRASE not in str(caught.value)


@pytest.mark.parametrize("kind", sorted(KEYS.keys() - {"good", "labelled", "traditional", "der", "garbage", "empty"}))
def test_a_bad_key_of_a_variable_is_not_blamed_on_a_file(profile: Profile, kind: str) -> None:
    """A key in OCI_CLI_KEY_CONTENT that cannot be used is called key_content, never key_file."""
    variables = {"OCI_CLI_KEY_CONTENT": KEYS[kind].decode()}
    with pytest.raises(ConfigError, match="key_content") as caught:
        load_credentials(profile.write(), environment=variables)
    assert "key_file" not in f"{caught.value} {caught.value.hint}"


def test_a_blank_variable_is_not_set(profile: Profile) -> None:
    """A variable that holds white space is as one that is not set: the profile's own key signs."""
    blank = load_credentials(profile.write(), environment={"OCI_CLI_KEY_CONTENT": " \n"})
    assert blank.fingerprint == load_credentials(profile.write()).fingerprint


@pytest.mark.parametrize("location", ["nothing", "", "x" * 5_000])
def test_a_missing_file_is_a_configuration_error(profile: Profile, location: str) -> None:
    """A configuration that does not exist, is a folder or has an impossible name is a configuration error."""
    with pytest.raises(ConfigError, match=r"does not exist|cannot be read"):
        load_credentials(str(profile.folder / location))
    with pytest.raises(ConfigError, match="does not exist"):
        load_credentials("~nobody-of-that-name/config")


def test_a_missing_profile_is_an_error_with_the_existing_ones(profile: Profile) -> None:
    """The error for a profile that the file lacks names the others."""
    with pytest.raises(ConfigError, match="no profile 'OTHER'; it has PROD"):
        load_credentials(profile.write(section="PROD"), "OTHER")
    assert load_credentials(profile.write(section="PROD"), "PROD").profile == "PROD"


def test_a_short_region_name_is_expanded(profile: Profile) -> None:
    """The SDK's short names of regions become the full names."""
    assert load_credentials(profile.write(region="FRA")).region == "eu-frankfurt-1"


VARIABLES = {
    "OCI_CLI_USER": "ocid1.user.oc1..bbbb",
    "OCI_CLI_TENANCY": "ocid1.tenancy.oc1..bbbb",
    "OCI_CLI_FINGERPRINT": ":".join(["cd"] * 16),
    "OCI_CLI_REGION": "us-phoenix-1",
    "OCI_CLI_KEY_CONTENT": KEYS["good"].decode(),
}


@pytest.mark.parametrize("around", [("", "\n"), (" ", " "), ("\t", "\r\n")])
@pytest.mark.parametrize("key", [KEYS["good"].decode(), KEYS["good"].decode().replace("\n", "\\n")])
def test_variables_are_read_without_white_space_around_them(around: tuple[str, str], key: str) -> None:
    """White space around a value does not count, and a key's line breaks may be written as a backslash and an n."""
    before, after = around
    variables = {name: f"{before}{value}{after}" for name, value in (VARIABLES | {"OCI_CLI_KEY_CONTENT": key}).items()}
    credentials = load_credentials(environment=variables)
    assert (credentials.tenancy, credentials.region) == ("ocid1.tenancy.oc1..bbbb", "us-phoenix-1")
    check_signature(sign(credentials))


def test_every_variable_is_read_without_white_space_around_it(profile: Profile) -> None:
    """The variables that choose file, profile and kind are stripped too, and white space alone counts as unset."""
    where = profile.write(section="PROD", key_file=profile.put_key("encrypted"))
    environment = {"OCI_CLI_CONFIG_FILE": f"{where}\n", "OCI_CLI_PROFILE": " PROD\n", "OCI_CLI_AUTH": "api_key\n"}
    environment |= {"OCI_CLI_PASSPHRASE": f"{PASS_PHRASE}\n", "OCI_CLI_USER": " \n"}
    credentials = load_credentials(environment=environment)
    assert (credentials.profile, credentials.principal) == ("PROD", "ocid1.user.oc1..aaaa")


@pytest.mark.parametrize("is_with_profile", [True, False])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OCI_CLI_TENANCY", "nonsense"),
        ("OCI_CLI_TENANCY", "ocid1.tenancy.oc1..bb\nbb"),
        ("OCI_CLI_TENANCY", "ocid1.user.oc1..bbbb"),
        ("OCI_CLI_USER", "anna@example.com"),
        ("OCI_CLI_FINGERPRINT", "12:34"),
        ("OCI_CLI_REGION", "eu frankfurt 1"),
        ("OCI_CLI_REGION", KEYS["good"].decode()),
    ],
)
def test_a_variable_that_cannot_be_right_is_named(
    profile: Profile, name: str, value: str, *, is_with_profile: bool
) -> None:
    """A malformed value is an error that names its variable and shows what it looks like, not what it is."""
    with pytest.raises(ConfigError, match=f"^{name}: .* malformed") as caught:
        load_credentials(profile.write() if is_with_profile else None, environment={**VARIABLES, name: value})
    assert caught.value.hint.startswith("set it to ")
    assert not [secret for secret in SECRETS if secret in str(caught.value) + caught.value.hint]


@pytest.mark.parametrize(
    ("variable", "value", "field", "expected"),
    [
        ("OCI_CLI_USER", "ocid1.user.oc1..bbbb", "principal", "ocid1.user.oc1..bbbb"),
        ("OCI_CLI_TENANCY", "ocid1.tenancy.oc1..bbbb", "tenancy", "ocid1.tenancy.oc1..bbbb"),
        ("OCI_CLI_FINGERPRINT", ":".join(["cd"] * 16), "fingerprint", ":".join(["cd"] * 16)),
        ("OCI_CLI_REGION", "phx", "region", "us-phoenix-1"),
        ("OCI_CLI_USER", "", "principal", "ocid1.user.oc1..aaaa"),
    ],
)
def test_a_variable_beats_the_profile(profile: Profile, variable: str, value: str, field: str, expected: str) -> None:
    """Each variable replaces its field, even if the profile was named explicitly; an empty one does not."""
    credentials = load_credentials(profile.write(), "DEFAULT", environment={variable: value})
    assert getattr(credentials, field) == expected


def test_variables_name_file_and_profile(profile: Profile) -> None:
    """OCI_CLI_CONFIG_FILE and OCI_CLI_PROFILE apply unless an argument replaces them."""
    where = profile.write(section="PROD")
    environment = {"OCI_CLI_CONFIG_FILE": where, "OCI_CLI_PROFILE": "PROD"}
    assert load_credentials(environment=environment).profile == "PROD"
    with pytest.raises(ConfigError, match="no profile 'OTHER'"):
        load_credentials(None, "OTHER", environment=environment)
    with pytest.raises(ConfigError, match="missing does not exist"):
        load_credentials(str(profile.folder / "missing"), environment=environment)


def test_variables_alone_are_enough() -> None:
    """With user, tenancy, fingerprint, region and key in variables, no file is read."""
    credentials = load_credentials(environment={**VARIABLES, "OCI_CLI_CONFIG_FILE": "/missing/config"})
    headers = sign(credentials)
    check_signature(headers)
    assert read_signature(headers)["keyId"] == "/".join(
        VARIABLES[f"OCI_CLI_{name}"] for name in ("TENANCY", "USER", "FINGERPRINT")
    )
    assert KEYS["good"].decode() not in repr(credentials)


@pytest.mark.parametrize("missing", sorted(VARIABLES))
def test_variables_that_are_not_enough_require_the_file(missing: str) -> None:
    """If one of the variables is missing, the file is read."""
    environment = {name: value for name, value in VARIABLES.items() if name != missing}
    with pytest.raises(ConfigError, match="/missing/config does not exist"):
        load_credentials(environment={**environment, "OCI_CLI_CONFIG_FILE": "/missing/config"})


def test_a_pass_phrase_may_come_from_a_variable(profile: Profile) -> None:
    """OCI_CLI_PASSPHRASE decrypts the key, and a wrong one is an error that does not show it."""
    where = profile.write(key_file=profile.put_key("encrypted"))
    check_signature(sign(load_credentials(where, environment={"OCI_CLI_PASSPHRASE": PASS_PHRASE})))
    with pytest.raises(ConfigError, match="pass_phrase is wrong") as caught:
        load_credentials(where, environment={"OCI_CLI_PASSPHRASE": "wrong-words"})
    assert "wrong-words" not in f"{caught.value} {caught.value.hint}"
    assert "OCI_CLI_PASSPHRASE" in str(caught.value)


@pytest.mark.parametrize(
    ("auth", "environment", "fields", "kind"),
    [
        (None, {}, {}, "api_key"),
        (None, {}, {"security_token_file": "token"}, "security_token"),
        ("api_key", {}, {"security_token_file": "token"}, "api_key"),
        ("api_key", {"OCI_CLI_AUTH": "security_token"}, {}, "api_key"),
        (None, {"OCI_CLI_AUTH": "api_key"}, {"security_token_file": "token"}, "api_key"),
        (None, {"OCI_CLI_AUTH": ""}, {"security_token_file": "token"}, "security_token"),
        (None, {}, {"authentication_type": "api_key", "security_token_file": "token"}, "api_key"),
        (None, {}, {"authentication_type": "security_token", "security_token_file": "token"}, "security_token"),
        ("api_key", {}, {"authentication_type": "instance_principal"}, "api_key"),
    ],
)
def test_the_kind_is_chosen_in_order(
    profile: Profile, auth: str | None, environment: dict[str, str], fields: dict[str, str], kind: str
) -> None:
    """The option beats OCI_CLI_AUTH, which beats authentication_type, which beats what the profile contains."""
    profile.put("token", b"header.payload.signature")
    if "security_token_file" in fields:
        fields = {**fields, "security_token_file": str(profile.folder / "token")}
    assert load_credentials(profile.write(**fields), auth=auth, environment=environment).kind == kind


@pytest.mark.parametrize("kind", ["magic", "API_KEY", "pkcs11"])
def test_an_unknown_kind_is_rejected(profile: Profile, kind: str) -> None:
    """An unknown kind of sign-in is an error with a list of the known ones, whatever names it."""
    ways = [
        lambda: load_credentials(profile.write(), auth=kind),
        lambda: load_credentials(profile.write(), environment={"OCI_CLI_AUTH": kind}),
        lambda: load_credentials(profile.write(authentication_type=f"x{kind}")),
    ]
    for way in ways:
        with pytest.raises(UsageError, match=kind) as caught:
            way()
        assert "oke_workload_identity" in caught.value.hint


def test_the_hint_of_a_session_is_the_command_for_a_new_one(profile: Profile) -> None:
    """The command names profile, region and a configuration file other than the default, ready to paste."""
    token_file = profile.put("token", b"header.payload.signature")
    where = profile.write(section="MY PROFILE", security_token_file=token_file)
    hint = load_credentials(where, "MY PROFILE").rejection_hint
    command = f"oci session authenticate --profile-name 'MY PROFILE' --region eu-frankfurt-1 --config-location {where}"
    assert command in hint
    assert "oci session refresh --profile 'MY PROFILE'" in hint


def test_a_session_picks_up_a_new_token(profile: Profile) -> None:
    """After a rejection the files are read again, and a new token is used."""
    path = profile.put("token", b"header.payload.signature")
    credentials = load_credentials(profile.write(security_token_file=path))
    assert asyncio.run(credentials.refresh(0)) is False
    profile.put("token", b"header.other.signature")
    assert asyncio.run(credentials.refresh(0)) is True
    assert read_signature(sign(credentials))["keyId"] == "ST$header.other.signature"


def test_an_api_key_has_nothing_to_refresh(profile: Profile) -> None:
    """An API key is never replaced, and has no state to explain."""
    credentials = load_credentials(profile.write())
    assert asyncio.run(credentials.prepare(9e9)) == 0
    assert asyncio.run(credentials.refresh(0)) is False
    assert credentials.explain_token() == ""
