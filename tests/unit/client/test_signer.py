from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Iterable
from pathlib import Path

import oci.config
import oci.signer
import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import example, given
from hypothesis import strategies as st

from ociaudit.client import signer as signer_module
from ociaudit.client.config_file import Profile
from ociaudit.client.signer import ApiKeySigner, Claims, Credentials, LoadedSigner, RefreshingSigner, read_claims
from ociaudit.client.signer import load_api_key as load_key
from ociaudit.errors import ConfigError

PASS_PHRASE = "open sesame"
RSA_KEYS = {bits: rsa.generate_private_key(65537, bits) for bits in (2048, 3072)}
IDS = {"tenancy": "ocid1.tenancy.oc1..aaaa", "user": "ocid1.user.oc1..bbbb", "fingerprint": ":".join(["ab"] * 16)}
URL_TEXT = st.text(st.sampled_from("azAZ09-._~%:/?#[]@!$&'()*+,;=\"\\{}|^` <>"), max_size=30)
HOSTS = st.sampled_from(
    ["audit.eu-frankfurt-1.oraclecloud.com", "127.0.0.1:8080", "[::1]", "[fe80::1%25eth0]:8443", "LOCALHOST:1", "u:p@h"]
)


class SignerQueue:
    """Loads one signer after the other, and records the threads that it was called in."""

    def __init__(self, signers: Iterable[LoadedSigner | Exception]) -> None:
        self.signers = list(signers)
        self.threads: list[threading.Thread] = []

    def load(self) -> LoadedSigner:
        """Return the next signer."""
        self.threads.append(threading.current_thread())
        signer = self.signers.pop(0)
        if isinstance(signer, Exception):
            raise signer
        return signer


def make_signer(name: str, issued_at: float | None = None, expires_at: float | None = None) -> LoadedSigner:
    """Make a signer that signs with its name."""
    return LoadedSigner(lambda request: request.append(name), token=name, claims=Claims(iat=issued_at, exp=expires_at))


def read_name(signer: RefreshingSigner) -> str:
    """Return the name of the signer that signs."""
    request: list[str] = []
    signer(request)
    return request[0]


@pytest.mark.parametrize(
    ("issued_at", "expires_at", "now", "is_refreshed"),
    [
        (0, 3600, 3299, False),
        (0, 3600, 3300, True),
        (0, 3600, 9999, True),
        (0, 8, 5.9, False),
        (0, 8, 6, True),
        (None, 3600, 3300, True),
        (None, None, 1e12, False),
        (9, 8, 7.9, False),
        (9, 8, 8, True),
    ],
)
def test_a_token_is_refreshed_before_it_expires(
    issued_at: float | None, expires_at: float | None, now: float, *, is_refreshed: bool
) -> None:
    """A token is refreshed five minutes before it expires, or in the last quarter of a short lifetime."""
    queue = SignerQueue([make_signer("b", now, now + 3600)])
    signer = RefreshingSigner(make_signer("a", issued_at, expires_at), queue.load)
    asyncio.run(signer.refresh_early(now))
    assert (read_name(signer), signer.number) == (("b", 1) if is_refreshed else ("a", 0))


def test_loading_happens_in_a_thread() -> None:
    """Loading, which may block, happens outside the thread of the event loop."""
    queue = SignerQueue([make_signer("b")])
    asyncio.run(RefreshingSigner(make_signer("a"), queue.load).refresh_after(0))
    assert queue.threads[0] is not threading.current_thread()


def test_many_rejections_are_one_refresh() -> None:
    """Sixteen requests that were rejected with the same signer share one refresh, and all may try again."""
    queue = SignerQueue([make_signer("b")])
    signer = RefreshingSigner(make_signer("a"), queue.load)

    async def reject_all() -> list[bool]:
        return await asyncio.gather(*(signer.refresh_after(0) for _ in range(16)))

    assert asyncio.run(reject_all()) == [True] * 16
    assert len(queue.threads) == 1
    assert read_name(signer) == "b"


def test_the_same_token_is_not_a_refresh() -> None:
    """When the token has not changed, the signer stays the same and no other try is worth it."""
    signer = RefreshingSigner(make_signer("a"), SignerQueue([make_signer("a")]).load)
    assert asyncio.run(signer.refresh_after(0)) is False
    assert signer.number == 0


def test_a_failed_refresh_keeps_the_signer_and_the_reason() -> None:
    """The old signer continues to sign, and the failure is kept until a refresh succeeds."""
    queue = SignerQueue([ConfigError("no metadata"), make_signer("b")])
    signer = RefreshingSigner(make_signer("a"), queue.load)
    assert asyncio.run(signer.refresh_after(0)) is False
    assert (read_name(signer), signer.problem) == ("a", "no metadata")
    assert asyncio.run(signer.refresh_after(0)) is True
    assert (read_name(signer), signer.problem) == ("b", None)


def test_a_failed_refresh_is_retried_after_a_pause() -> None:
    """After a failed refresh of a valid token, the next one starts ten seconds later."""
    queue = SignerQueue([ConfigError("x"), make_signer("b")])
    signer = RefreshingSigner(make_signer("a", 0, 3600), queue.load)

    async def refresh(*moments: float) -> None:
        for moment in moments:
            await signer.refresh_early(moment)

    asyncio.run(refresh(3400, 3401, 3409))
    assert len(queue.threads) == 1
    asyncio.run(refresh(3410))
    assert read_name(signer) == "b"


def test_only_one_request_waits_while_the_token_is_valid() -> None:
    """While one request refreshes a valid token, others use the old one; once it has expired, they wait."""
    may_load = threading.Event()

    def load() -> LoadedSigner:
        assert may_load.wait(10)
        return make_signer("b", 3500, 7200)

    signer = RefreshingSigner(make_signer("a", 0, 3600), load)

    async def sign_meanwhile() -> str:
        refreshing = asyncio.create_task(signer.refresh_early(3400))
        await asyncio.sleep(0)
        await asyncio.wait_for(signer.refresh_early(3411), 5)
        meanwhile = read_name(signer)
        late = asyncio.create_task(signer.refresh_early(3601))
        await asyncio.sleep(0)
        assert not late.done()
        may_load.set()
        await asyncio.gather(refreshing, late)
        return meanwhile + read_name(signer)

    assert asyncio.run(sign_meanwhile()) == "ab"


def test_every_request_waits_once_the_token_has_expired() -> None:
    """Requests sent together after a long pause are signed with the next token, which is loaded once."""
    may_load = threading.Event()
    loads: list[float] = []

    def load() -> LoadedSigner:
        loads.append(1)
        assert may_load.wait(5)
        return make_signer("b", 100, 3600)

    async def scene() -> list[str]:
        signer = RefreshingSigner(make_signer("a", 0, 8), load)

        async def sign() -> str:
            await signer.refresh_early(100)
            return read_name(signer)

        signing = [asyncio.ensure_future(sign()) for _ in range(5)]
        await asyncio.sleep(0.05)
        assert not any(one.done() for one in signing)
        may_load.set()
        return await asyncio.wait_for(asyncio.gather(*signing), 5)

    assert asyncio.run(scene()) == ["b"] * 5
    assert len(loads) == 1


def test_an_expiry_is_known_once_it_has_passed() -> None:
    """The expiry is reported from the first request at or after it."""
    signer = RefreshingSigner(make_signer("a", 0, 100), SignerQueue([make_signer("a", 0, 100)]).load)
    assert signer.expired_at is None
    asyncio.run(signer.refresh_early(50))
    assert signer.expired_at is None
    asyncio.run(signer.refresh_early(100))
    assert signer.expired_at == 100


@given(
    lifetime=st.floats(0.1, 1e6),
    steps=st.lists(st.floats(0.001, 0.2), min_size=1, max_size=80),
)
def test_a_token_never_expires_while_requests_are_sent(lifetime: float, steps: list[float]) -> None:
    """With requests at most a fifth of a lifetime apart, none is signed with an expired token."""
    now = 0.0
    issued = iter(range(10_000))

    def load() -> LoadedSigner:
        return make_signer(f"t{next(issued)}", now, now + lifetime)

    signer = RefreshingSigner(load(), load)

    async def send_requests() -> None:
        nonlocal now
        for step in steps:
            now += step * lifetime
            await signer.refresh_early(now)
            assert signer.expired_at is None

    asyncio.run(send_requests())


def test_no_part_of_a_token_is_shown() -> None:
    """The repr of a signer has neither token nor claims."""
    shown = repr(make_signer("secret-token", 0, 1))
    assert "secret" not in shown
    assert "exp" not in shown


def make_token(claims: object) -> str:
    """Make an unsigned token."""
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{body}.c2ln"


def test_the_claims_of_a_token_are_read() -> None:
    """Principal, tenancy, lifetime and key are read, and unknown claims are ignored."""
    key = json.dumps({"kty": "RSA", "n": base64.urlsafe_b64encode((65537).to_bytes(3, "big")).decode(), "e": "AQAB"})
    claims = read_claims(
        make_token({"sub": "ocid1.user.oc1..a", "tenant": "t", "exp": 9, "iat": 1, "jwk": key, "x": []})
    )
    assert (claims.principal, claims.tenancy, claims.exp, claims.iat) == ("ocid1.user.oc1..a", "t", 9.0, 1.0)
    assert claims.key_modulus == 65537


def test_a_resource_belongs_to_its_own_tenancy() -> None:
    """The tenancy of the resource beats that of the sign-in."""
    assert read_claims(make_token({"tenant": "a", "res_tenant": "b"})).tenancy == "b"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "token",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "é.é.é",
        "a." + "[" * 100_000 + ".c",
        make_token([]),
        make_token({"exp": "x"}),
    ],
)
def test_a_text_that_is_not_a_token_has_no_claims(token: str) -> None:
    """An invalid token is not an error here: the service judges it."""
    assert read_claims(token) == Claims()


@pytest.mark.parametrize("jwk", [None, "", "{}", "[]", '{"n": 1}', '{"n": "é"}', "{" * 100_000])
def test_a_token_without_a_readable_key_has_no_modulus(jwk: str | None) -> None:
    """A key that cannot be parsed has no modulus."""
    assert Claims(jwk=jwk).key_modulus is None


@pytest.mark.parametrize("name", ["\x1b[31m", "two words", "ü", "a" * 300, '"', ""])
def test_a_name_that_cannot_be_printed_is_dropped(name: str) -> None:
    """Only a printable name gets into a manifest or onto a screen."""
    assert Claims(sub=name, tenant=name).principal is None
    assert Claims(sub=name, tenant=name).tenancy is None


@given(st.text(max_size=60) | st.builds(make_token, st.recursive(st.none() | st.text(), st.lists, max_leaves=4)))
def test_any_text_is_read_as_claims(token: str) -> None:
    """Reading the claims of any text returns claims, possibly empty ones."""
    assert isinstance(read_claims(token), Claims)


def write_pem(bits: int, layout: serialization.PrivateFormat, *, is_encrypted: bool) -> str:
    """Write a private key as PEM."""
    lock = serialization.BestAvailableEncryption(PASS_PHRASE.encode()) if is_encrypted else serialization.NoEncryption()
    return RSA_KEYS[bits].private_bytes(serialization.Encoding.PEM, layout, lock).decode()


PKCS1, PKCS8 = serialization.PrivateFormat.TraditionalOpenSSL, serialization.PrivateFormat.PKCS8
PEMS = [
    write_pem(bits, layout, is_encrypted=is_encrypted)
    for bits in RSA_KEYS
    for layout in (PKCS1, PKCS8)
    for is_encrypted in (False, True)
]


def make_both(fields: dict[str, str]) -> tuple[ApiKeySigner, oci.signer.Signer]:
    """Load the key of a profile with the program's signer, and with the SDK's."""
    ours = load_key(Profile("P", None, "here", {**IDS, "region": "eu-frankfurt-1", **fields}))
    theirs = oci.signer.Signer(
        *IDS.values(), fields.get("key_file"), fields.get("pass_phrase") or None, fields.get("key_content")
    )
    return ours, theirs


def sign(signer: object, url: str, host: str, path: str, now: float) -> dict[str, str]:
    """Sign a request as the transport does, and return its headers."""
    credentials = Credentials("t", "r", "p", None, "DEFAULT", "api_key", signer)
    return credentials.sign(url=url, host=host, path=path, now_seconds=now)


@pytest.mark.parametrize("pem", PEMS)
@pytest.mark.parametrize("source", ["key_file", "key_content"])
def test_every_form_of_key_signs_as_with_the_sdk(pem: str, source: str, tmp_path: Path) -> None:
    """PKCS1 and PKCS8, encrypted or not, from a file or a variable, sign like the SDK to the byte."""
    (tmp_path / "key.pem").write_text(f"\n{pem}OCI_API_KEY\n" if source == "key_file" else "")
    fields = {source: str(tmp_path / "key.pem") if source == "key_file" else pem, "pass_phrase": PASS_PHRASE}
    ours, theirs = make_both(fields)
    assert isinstance(ours, ApiKeySigner)
    request = ("https://h:1/p?a=%20b", "h:1", "/p?a=%20b", 1_700_000_000)
    assert sign(ours, *request) == sign(theirs, *request)


BOTH = make_both({"key_content": PEMS[0]})


@given(HOSTS, URL_TEXT, URL_TEXT, st.floats(0, 4e9))
@example("h", "/", "", 0)
@example("h", "/a", "page=%2B%2F%3D&x=a+b&y='()*!~", 1.999)
def test_any_request_is_signed_as_by_the_sdk(host: str, path: str, query: str, now: float) -> None:
    """The headers are the SDK's to the byte for any date, host, port and query, or both refuse the address."""
    target = f"/{path}?{query}"
    results = []
    for signer in BOTH:
        try:
            results.append(sign(signer, f"https://{host}{target}", host, target, now))
        except ValueError as error:
            results.append(type(error))
    assert results[0] == results[1]
    assert list(results[0]) == list(results[1]) if isinstance(results[0], dict) else True


def test_a_target_that_is_not_ascii_is_refused_as_by_the_sdk() -> None:
    """Bytes that a request line cannot carry are never signed."""
    for signer in BOTH:
        with pytest.raises(UnicodeEncodeError):
            sign(signer, "https://h/ä", "h", "/ä", 0)


def test_the_forms_of_fields_are_those_of_the_sdk() -> None:
    """The SDK's newest rules for fields are the ones that are applied without it."""
    assert {name: form.pattern for name, form in signer_module._SDK_FORMS.items()} == {
        name: form.pattern for name, form in oci.config.PATTERNS.items()
    }
    assert {*signer_module._SDK_FORMS, "key_file", "region"} == oci.config.REQUIRED


def flip_bit(pem: str, bit: int) -> str:
    """Flip a bit of the key that a PEM file holds."""
    lines = pem.splitlines()
    data = bytearray(base64.b64decode("".join(lines[1:-1])))
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    return "\n".join([lines[0], base64.b64encode(data).decode(), lines[-1]])


@given(st.integers(0, 1200 * 8 - 1), st.sampled_from([pem for pem in PEMS[:4] if "ENCRYPTED" not in pem]))
def test_a_damaged_key_is_found_without_the_sdk_too(bit: int, pem: str) -> None:
    """No key with a flipped bit is used that the SDK's validation rejects."""
    damaged = flip_bit(pem, bit)
    key = signer_module._load_sound_key({"key_content": damaged})
    try:
        oci.signer.load_private_key(damaged, None)
    except (oci.exceptions.InvalidPrivateKey, UnsupportedAlgorithm, ValueError, TypeError):
        assert key is None
