"""Request signing: the credentials of a sign-in, and the keys and tokens behind them.

- `Credentials`: what the rest of the program sees of a sign-in of any kind. It signs requests and knows in whose name.
- `Claims`, `read_claims`: what a token says about itself.
- `LoadedSigner`, `RefreshingSigner`: a signer whose token expires, and that is replaced in time.
- `ApiKeySigner`: signs with an API key.
- `load_api_key`, `load_session`, `read_token`: signers made of the key and token files that a profile names.

`auth` chooses the kind of sign-in, and builds the signers that use no files of a profile.

Invariants
- No part of a key, pass phrase or token appears in a message or a repr.
- Every problem of a key or token file is a `ConfigError` that names where it was configured. A session token that
  belongs to another key is rejected. Any other judgement of a token is left to the service.
- An API key signs the same bytes as with the SDK, whose import takes longer than a small export. The SDK judges and
  explains whatever is wrong with the fields or the key.
- A signer is never changed. A new one is loaded in a thread and replaces the old one in a single step, so every request
  is signed by one of them, and signing never waits.
- While a token is valid, only the request that starts a refresh waits for it. Once the token has expired, every request
  waits. Requests that were rejected with the same signer share one refresh.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Literal, NoReturn, get_args
from urllib.parse import urlsplit

import msgspec

from ociaudit.client.config_file import KEY_HINT, Profile, expand_path, explain_value
from ociaudit.client.network import is_file
from ociaudit.errors import ConfigError, OciAuditError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

AuthKind = Literal[
    "api_key", "security_token", "instance_principal", "resource_principal", "delegation_token", "oke_workload_identity"
]
AUTH_KINDS: tuple[AuthKind, ...] = get_args(AuthKind)
_USER_KINDS = frozenset[AuthKind]({"api_key", "security_token", "delegation_token"})
_WORKLOAD_CONDITION = (
    "where all {request.principal.type = 'workload', request.principal.namespace = '<namespace>', "
    "request.principal.service_account = '<account>', request.principal.cluster_id = '<cluster OCID>'}"
)
_REFRESH_MARGIN_SECONDS = 300.0
_REFRESH_SHARE_OF_LIFETIME = 4
_REFRESH_PAUSE_SECONDS = 10.0
_PASS_PHRASE_HINT = "add pass_phrase=… to the profile, or set OCI_CLI_PASSPHRASE"
_KEY_CONTENT_HINT = "set OCI_CLI_KEY_CONTENT to the whole text of the private key's PEM file, line breaks included"
_FINGERPRINT = re.compile(r"(?:[0-9a-fA-F]{2}:){15}[0-9a-fA-F]{2}")
_SDK_OCID = re.compile(r"^([0-9a-zA-Z-_]+[.:])([0-9a-zA-Z-_]*[.:]){3,}([0-9a-zA-Z-_]+)$")
_SDK_FORMS = {
    "tenancy": _SDK_OCID,
    "user": _SDK_OCID,
    "fingerprint": re.compile(r"^([0-9a-f]{2}:){15}[0-9a-f]{2}$"),
}
_PRINTABLE_NAME = re.compile(r"[\w.:/@+-]{1,255}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A sign-in that is ready to use.

    `principal` is who sends the requests, as Oracle names it: an OCID if that is known. `fingerprint` is that of an API
    key, None for tokens. `profile` is that of the configuration file, or the kind if none is used. `rejection_hint`
    says what to do when the service does not accept the signature.
    """

    tenancy: str
    region: str
    principal: str
    fingerprint: str | None
    profile: str
    kind: AuthKind
    _signer: Callable[..., Any] = field(repr=False)
    rejection_hint: str = ""

    def sign(
        self,
        *,
        url: str,
        host: str,
        path: str,
        now_seconds: float,
        method: str = "GET",
        signed_body: bytes | None = None,
    ) -> dict[str, str]:
        """Return the headers of a signed request.

        `host` is host[:port] and `path` is path?query, both exactly as they are sent. `now_seconds` is the time since
        the epoch that the signature states. A `signed_body` is part of the signature; the service demands that of every
        POST and PUT but the uploads of objects and parts.
        """
        headers = {"date": formatdate(now_seconds, usegmt=True), "host": host}
        request = _UnsentRequest(url=url, path_url=path, headers=headers, method=method, body=signed_body)
        if method == "PUT" and signed_body is None:
            self._signer(request, enforce_content_headers=False)
        else:
            self._signer(request)
        return headers

    async def prepare(self, now_seconds: float) -> int:
        """Refresh a token that is about to expire, and return the number of the signer that signs next."""
        if not isinstance(self._signer, RefreshingSigner):
            return 0
        await self._signer.refresh_early(now_seconds)
        return self._signer.number

    async def refresh(self, number: int) -> bool:
        """Refresh the token after a 401 to signer `number`; return whether another signer signs now."""
        return isinstance(self._signer, RefreshingSigner) and await self._signer.refresh_after(number)

    def explain_token(self) -> str:
        """Return what is known of a rejected token: that it has expired, or why it could not be refreshed."""
        if not isinstance(self._signer, RefreshingSigner):
            return ""
        reasons = []
        expired_at = self._signer.expired_at
        if expired_at is not None:
            reasons.append(f"the token expired at {datetime.fromtimestamp(expired_at, UTC):%Y-%m-%dT%H:%M:%SZ}")
        if self._signer.problem:
            reasons.append(f"it could not be refreshed: {self._signer.problem}")
        return "; ".join(reasons)

    def format_policy(self, permission: str) -> str:
        """Return the IAM policy statement that grants the principal a permission, such as "read audit-events"."""
        if self.kind == "oke_workload_identity":
            return f"Allow any-user to {permission} in tenancy {_WORKLOAD_CONDITION}"
        grantee = "group <group>" if self.kind in _USER_KINDS else "dynamic-group <group>"
        return f"Allow {grantee} to {permission} in tenancy"


@dataclass(slots=True)
class _UnsentRequest:
    """The part of a prepared `requests` request that the SDK's signers read."""

    url: str
    path_url: str
    headers: dict[str, str]
    method: str = "GET"
    body: bytes | None = None


class Claims(msgspec.Struct, frozen=True):
    """The claims of a token: whose it is, of which tenancy, and from when to when it is valid, in seconds since 1970.

    `jwk` is the public key that the token is bound to, as JSON.
    """

    sub: str | None = None
    tenant: str | None = None
    res_tenant: str | None = None
    iat: float | None = None
    exp: float | None = None
    jwk: str | None = None

    @property
    def principal(self) -> str | None:
        """Return the name of the token's holder, if it can be printed."""
        return self.sub if self.sub and _PRINTABLE_NAME.fullmatch(self.sub) else None

    @property
    def tenancy(self) -> str | None:
        """Return the OCID of the tenancy: that of the resource, or else that of the sign-in."""
        return next((text for text in (self.res_tenant, self.tenant) if text and _PRINTABLE_NAME.fullmatch(text)), None)

    @property
    def key_modulus(self) -> int | None:
        """Return the modulus of the RSA key that the token is bound to, if the token names it."""
        try:
            key = msgspec.json.decode(self.jwk or "{}", type=_Jwk)
            return int.from_bytes(_decode_base64url(key.n), "big") if key.n else None
        except (msgspec.MsgspecError, binascii.Error, ValueError, RecursionError):
            return None


class _Jwk(msgspec.Struct):
    n: str = ""


def read_claims(token: str) -> Claims:
    """Return the claims of a JWT without verifying its signature; a text that is not a JWT has no claims."""
    parts = token.strip().split(".")
    if len(parts) != 3:
        return Claims()
    try:
        return msgspec.json.decode(_decode_base64url(parts[1]), type=Claims)
    except (msgspec.MsgspecError, binascii.Error, ValueError, RecursionError):
        return Claims()


def _decode_base64url(text: str) -> bytes:
    """Decode base64url as JWTs use it: without padding (RFC 7515)."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass(frozen=True, slots=True)
class LoadedSigner:
    """A signer, and the token that it signs with; a key that does not expire has no claims."""

    sign: Callable[..., Any] = field(repr=False)
    token: str = field(repr=False, default="")
    claims: Claims = field(repr=False, default_factory=Claims)
    tenancy: str | None = None
    region: str | None = None


class RefreshingSigner:
    """Signs with the latest signer, and loads a new one when the token expires or is rejected."""

    def __init__(self, first: LoadedSigner, load: Callable[[], LoadedSigner]) -> None:
        """Start with `first`; `load`, which may block, returns the signer that is current when it is called."""
        self._current = first
        self._load = load
        self._lock = asyncio.Lock()
        self._tried_at = float("-inf")
        self._requested_at = float("-inf")
        self.number = 0
        """The number of the current signer. Read before a request, it names the signer that was used."""
        self.problem: str | None = None
        """Why the latest refresh failed."""

    def __call__(self, request: Any, **options: bool) -> None:
        """Add the headers of the signature to a request; the options are those of the SDK's signers."""
        self._current.sign(request, **options)

    @property
    def expired_at(self) -> float | None:
        """Return when the token expired, in seconds since 1970; None if it was valid at the latest request."""
        exp = self._current.claims.exp
        return exp if exp is not None and self._requested_at >= exp else None

    async def refresh_early(self, now_seconds: float) -> None:
        """Load a new signer if the token is about to expire; if that fails, the service judges the old token."""
        self._requested_at = now_seconds
        is_refreshing = self._lock.locked()
        if is_refreshing and self.expired_at is None:
            return
        if not is_refreshing and not self._is_due(now_seconds):
            return
        async with self._lock:  # with an expired token every request waits: it would only be rejected
            if self._is_due(now_seconds):
                self._tried_at = now_seconds
                await self._refresh()

    async def refresh_after(self, number: int) -> bool:
        """Load a new signer because signer `number` was rejected; return whether another one signs now."""
        async with self._lock:
            return self.number != number or await self._refresh()

    async def _refresh(self) -> bool:
        try:
            loaded = await asyncio.to_thread(self._load)
        except OciAuditError as error:
            self.problem = str(error)
            return False
        self.problem = None
        if loaded.token == self._current.token:
            return False
        self._current = loaded
        self.number += 1
        return True

    def _is_due(self, now_seconds: float) -> bool:
        claims = self._current.claims
        if claims.exp is None:
            return False
        margin = _REFRESH_MARGIN_SECONDS
        if claims.iat is not None:
            margin = min(margin, max(0.0, claims.exp - claims.iat) / _REFRESH_SHARE_OF_LIFETIME)
        pause = min(_REFRESH_PAUSE_SECONDS, margin)
        return now_seconds >= claims.exp - margin and now_seconds >= self._tried_at + pause


class ApiKeySigner:
    """Signs requests with an API key: the headers are those of the SDK's `Signer`, byte for byte."""

    def __init__(self, key_id: str, private_key: RSAPrivateKey) -> None:
        """Sign with the key that Oracle knows as `key_id`: tenancy/user/fingerprint."""
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.hashes import SHA256

        self.private_key = private_key
        self._padding = PKCS1v15()
        self._hash = SHA256()
        self._key_id = key_id

    def __call__(self, request: _UnsentRequest, *, enforce_content_headers: bool = True) -> None:
        """Add the headers of the signature to a request that has a date; a body is signed if headers are enforced."""
        headers = request.headers
        headers["content-type"] = "application/json"
        values = {
            "date": headers["date"],
            "(request-target)": f"{request.method.lower()} {request.path_url}",
            "host": urlsplit(request.url).netloc,
        }
        if request.body is not None and enforce_content_headers:
            digest = base64.b64encode(hashlib.sha256(request.body).digest()).decode("ascii")
            body = {"content-length": str(len(request.body)), "content-type": "application/json"}
            headers.update(body | {"x-content-sha256": digest})
            values |= body | {"x-content-sha256": digest}
        text = "\n".join(f"{name}: {value}" for name, value in values.items())
        signature = self.private_key.sign(text.encode("ascii"), self._padding, self._hash)
        headers["authorization"] = (
            f'Signature algorithm="rsa-sha256",headers="{" ".join(values)}",keyId="{self._key_id}",'
            f'signature="{base64.b64encode(signature).decode("ascii")}",version="1"'
        )


def load_api_key(profile: Profile) -> Any:
    """Return the signer for the API key of a profile.

    Raises:
        ConfigError: a field is missing or malformed, or the key is unusable.
    """
    fields = profile.fields
    key = _load_sound_key(fields) if _are_sound(fields) else None
    if key is not None:
        return ApiKeySigner(f"{fields['tenancy']}/{fields['user']}/{fields['fingerprint']}", key)
    return _load_by_sdk(profile)


def _are_sound(fields: Mapping[str, Any]) -> bool:
    """Return whether the SDK would accept the fields of an API key, and none is taken from its own variables."""
    has_key = any(fields.get(name) for name in ("key_content", "key_file"))
    has_forms = all(form.match(fields.get(name) or "") for name, form in _SDK_FORMS.items())
    return has_key and has_forms and fields.get("region") is not None


def _load_sound_key(fields: Mapping[str, Any]) -> RSAPrivateKey | None:
    """Return the key that the SDK would load; None if there is something to explain."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content, pass_phrase = fields.get("key_content"), fields.get("pass_phrase")
    if not content and not is_file(fields["key_file"]):  # a pipe can be read once
        return None
    try:
        data = content.encode("ascii") if content else expand_path(fields["key_file"]).read_bytes().strip()
        secret = pass_phrase.encode("ascii") if pass_phrase else None
        try:
            key = load_pem_private_key(data, secret, unsafe_skip_rsa_key_validation=True)
        except TypeError:  # the key has no pass phrase: that of [DEFAULT] belongs to another one
            key = load_pem_private_key(data, None, unsafe_skip_rsa_key_validation=True)
        return key if isinstance(key, RSAPrivateKey) and _is_intact(key) else None
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
        return None


def _is_intact(key: RSAPrivateKey) -> bool:
    """Return whether the numbers of a key belong together (RFC 8017, section 3.2).

    The library's validation also tests whether p and q are primes: half a second for a key of 4096 bits, and no damage
    leaves a key with p · q = n.
    """
    numbers = key.private_numbers()
    p, q, d = numbers.p, numbers.q, numbers.d
    public = numbers.public_numbers
    return (
        p * q == public.n
        and min(p, q) > 1
        and public.e * d % (p - 1) == 1
        and public.e * d % (q - 1) == 1
        and (numbers.dmp1, numbers.dmq1) == (d % (p - 1), d % (q - 1))
        and numbers.iqmp * q % p == 1
    )


def _load_by_sdk(profile: Profile) -> Any:
    """Return the SDK's signer for the API key of a profile, or raise what is wrong with it."""
    import oci.config
    import oci.signer
    from oci.exceptions import InvalidConfig

    fields = profile.fields
    try:
        # With an authentication_type the SDK would validate the fields of that kind instead.
        oci.config.validate_config({name: fields[name] for name in fields if name != "authentication_type"})
    except InvalidConfig as error:
        problem, hint = _describe_fields(error, fields)
        raise ConfigError(f"{profile.where}: {problem}", hint=hint) from error

    def make_signer() -> Any:
        return oci.signer.Signer(
            fields["tenancy"],
            fields["user"],
            fields["fingerprint"],
            fields.get("key_file"),
            pass_phrase=fields.get("pass_phrase") or None,
            private_key_content=fields.get("key_content"),
        )

    return _load_rsa_signer(profile, make_signer)


def load_session(profile: Profile, hint: str) -> LoadedSigner:
    """Return the SDK's signer for the session of a profile, as its files are now; `hint` says how to renew it.

    Raises:
        ConfigError: a field is missing, the token cannot be read, or the key is unusable.
    """
    import oci.signer
    from oci.auth.signers import SecurityTokenSigner

    fields = profile.fields
    profile.require("tenancy", "region", "security_token_file")
    if not fields.get("key_content"):
        profile.require("key_file")
    token = read_token(profile, "security_token_file", hint)
    claims = read_claims(token)

    def make_signer() -> Any:
        if fields.get("key_content"):
            key = oci.signer.load_private_key(fields["key_content"], fields.get("pass_phrase") or None)
        else:
            key = oci.signer.load_private_key_from_file(fields["key_file"], fields.get("pass_phrase") or None)
        return SecurityTokenSigner(token, key)

    signer = _load_rsa_signer(profile, make_signer)
    if claims.key_modulus not in {None, signer.private_key.public_key().public_numbers().n}:
        raise ConfigError(f"{profile.where}: security_token_file holds the token of another key", hint=hint)
    return LoadedSigner(signer, token, claims)


def read_token(profile: Profile, field: str, hint: str) -> str:
    """Return the token in the file that a field of the profile names.

    Raises:
        ConfigError: the file cannot be read, or holds no token.
    """
    path = expand_path(profile.fields[field])
    try:
        token = path.read_text("utf-8").strip()
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a path with a null byte
        raise ConfigError(f"{profile.where}: the {field} {path} cannot be read", hint=hint) from error
    if not token or not token.isascii() or not token.isprintable() or set(token) & set(' "'):
        raise ConfigError(f"{profile.where}: the {field} {path} holds no token", hint=hint)
    return token


def _load_rsa_signer(profile: Profile, make_signer: Callable[[], Any]) -> Any:
    """Call `make_signer`, and translate what is wrong with its key."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from oci.exceptions import InvalidPrivateKey, MissingPrivateKeyPassphrase

    content, pass_phrase = profile.fields.get("key_content"), profile.fields.get("pass_phrase")
    named = "key_content" if content else f"key_file {expand_path(profile.fields.get('key_file') or '')}"
    key_hint = _KEY_CONTENT_HINT if content else KEY_HINT

    def explain(problem: str, hint: str, error: Exception) -> NoReturn:
        raise ConfigError(f"{profile.where}: {problem}", hint=hint) from error

    try:
        signer = make_signer()
        _check_rsa(signer)
        return signer
    except MissingPrivateKeyPassphrase as error:
        lack = "no pass phrase is given" if pass_phrase is None else "pass_phrase is empty"
        explain(f"the key of {named} is encrypted, and {lack}", _PASS_PHRASE_HINT, error)
    except InvalidPrivateKey as error:
        if "public key" in str(error):
            explain(f"{named} is a public key", key_hint, error)
        if not pass_phrase:
            explain(f"the key of {named} is damaged, or not a key in PEM format", key_hint, error)
        mark = explain_value(pass_phrase)
        problem = f"the key of {named} is damaged, or pass_phrase is wrong{mark}"
        explain(problem, f"check pass_phrase; {key_hint}", error)
    except OSError as error:
        explain(f"{named} cannot be read: {error.strerror}", key_hint, error)
    except (ValueError, TypeError, AttributeError, UnsupportedAlgorithm) as error:
        explain(f"the key of {named} is not an RSA private key in PEM format", key_hint, error)


def _check_rsa(signer: Any) -> None:
    """Reject another kind of key now: the first signature would fail with a message that does not help."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    if not isinstance(signer.private_key, RSAPrivateKey):
        raise TypeError("not an RSA key")


def _describe_fields(error: Exception, fields: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return which fields are missing or malformed and why, and what to type if that is known."""
    problems = error.args[0] if error.args else {}
    if not isinstance(problems, Mapping):
        return str(error).splitlines()[0], None
    fingerprint = str(fields.get("fingerprint", ""))
    is_upper = "fingerprint" in problems and fingerprint != fingerprint.lower()
    described = []
    for name, problem in sorted(problems.items()):
        reason = explain_value(str(fields.get(name, "")))
        if not reason and name == "fingerprint" and is_upper:
            reason = ": it has upper-case letters"
        described.append(f"{name} {problem}{reason}")
    hint = f"write fingerprint={fingerprint.lower()}" if is_upper and _FINGERPRINT.fullmatch(fingerprint) else None
    return ", ".join(described), hint
