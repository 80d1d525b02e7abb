"""What a token of Oracle's says about itself.

Owns: reading the claims that the program uses. Must not: judge a token; that is the service's.

Invariants
- A text that is no token has no claims; it is never an error here.
- Nothing of a token stands in a repr.

A signer whose token ends: another one takes its place in time.

Owns: when a signer is loaded anew, and that it happens once for all who wait. Must not: know kinds of sign-in.

Invariants
- A signer is never changed: a new one, loaded apart, takes its place at once, so a request is signed by one of them.
- Loading happens in a thread; signing waits for nothing.
- Whoever was refused with an older signer than the present one is told to try again, without another loading.
- While a token still holds, nobody waits for its renewal but the one who began it. Once it has ended, everybody does.

Who asks: something that signs requests, and knows in whose name.

Owns: what every kind of sign-in looks like to the rest. Must not: read files, or show a key or token.

Invariants
- Nothing of the key, the pass phrase or the token stands in a message or a repr.

Signers made of files that a profile names: an API key, or a session's key and token.

Owns: reading keys and tokens, and what is wrong with them. Must not: send anything, or show what it reads.

Invariants
- Every problem of a key or token is a `ConfigError` that names where it was configured.
- A session's token and key belong together: a token of another key is not taken.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any, Literal, NoReturn, get_args

import msgspec

from ociaudit.client.config_file import KEY_HINT, Profile, expand_path
from ociaudit.errors import ConfigError, OciAuditError

_NAME = re.compile(r"[\w.:/@+-]{1,255}", re.ASCII)


class Claims(msgspec.Struct, frozen=True):
    """The claims: whose token it is, of which tenancy, and from when to when it holds, in seconds since 1970.

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
        """Return the name of who holds the token, if it is one that can be printed."""
        return self.sub if self.sub and _NAME.fullmatch(self.sub) else None

    @property
    def tenancy(self) -> str | None:
        """Return the tenancy's OCID: of the resource, or of whoever signed in."""
        return next((text for text in (self.res_tenant, self.tenant) if text and _NAME.fullmatch(text)), None)

    @property
    def key_modulus(self) -> int | None:
        """Return the modulus of the RSA key that the token is bound to, where it says so."""
        try:
            key = msgspec.json.decode(self.jwk or "{}", type=_Jwk)
            return int.from_bytes(_decode(key.n), "big") if key.n else None
        except (msgspec.MsgspecError, binascii.Error, ValueError, RecursionError):
            return None


class _Jwk(msgspec.Struct):
    n: str = ""


def read_claims(token: str) -> Claims:
    """Return the claims of a JWT, without a check of its signature, or none."""
    parts = token.strip().split(".")
    if len(parts) != 3:
        return Claims()
    try:
        return msgspec.json.decode(_decode(parts[1]), type=Claims)
    except (msgspec.MsgspecError, binascii.Error, ValueError, RecursionError):
        return Claims()


def _decode(text: str) -> bytes:
    """Read base64url as JWTs write it: without padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


_MARGIN_SECONDS = 300.0
_SHARE_OF_LIFE = 4
_TRY_AGAIN_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class LoadedSigner:
    """What signs, and what its token says: empty claims for a key that does not end."""

    sign: Callable[[Any], Any] = field(repr=False)
    token: str = field(repr=False, default="")
    claims: Claims = field(repr=False, default_factory=Claims)
    tenancy: str | None = None
    region: str | None = None


class RefreshingSigner:
    """Signs with the latest signer there is."""

    def __init__(self, first: LoadedSigner, load: Callable[[], LoadedSigner]) -> None:
        """Begin with `first`; `load`, which may block, gives the one that is current by then."""
        self._current = first
        self._load = load
        self._lock = asyncio.Lock()
        self._tried_at = float("-inf")
        self._asked_at = float("-inf")
        self.number = 0
        """Counts the signers; a request is signed by the one whose number was read before."""
        self.problem: str | None = None
        """Why the latest renewal failed."""

    def __call__(self, request: Any) -> None:
        """Add the signature's headers to a request."""
        self._current.sign(request)

    @property
    def ended_at(self) -> float | None:
        """Return when the token ended, in seconds since 1970, if it had by the latest request."""
        exp = self._current.claims.exp
        return exp if exp is not None and self._asked_at >= exp else None

    async def refresh_early(self, now_seconds: float) -> None:
        """Load anew when the token is about to end; a failure is left for the service to judge."""
        self._asked_at = now_seconds
        is_under_way = self._lock.locked()
        if is_under_way and self.ended_at is None:
            return
        if not is_under_way and not self._is_due(now_seconds):
            return
        async with self._lock:  # with a token that has ended everybody waits: it would only be refused
            if self._is_due(now_seconds):
                self._tried_at = now_seconds
                await self._refresh()

    async def refresh_after(self, number: int) -> bool:
        """Load anew because the signer of this number was refused; tell whether another one signs now."""
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
        margin = _MARGIN_SECONDS
        if claims.iat is not None:
            margin = min(margin, max(0.0, claims.exp - claims.iat) / _SHARE_OF_LIFE)
        pause = min(_TRY_AGAIN_SECONDS, margin)
        return now_seconds >= claims.exp - margin and now_seconds >= self._tried_at + pause


AuthKind = Literal[
    "api_key", "security_token", "instance_principal", "resource_principal", "delegation_token", "oke_workload_identity"
]
AUTH_KINDS: tuple[AuthKind, ...] = get_args(AuthKind)
_USER_KINDS = frozenset[AuthKind]({"api_key", "security_token", "delegation_token"})
_WORKLOAD = (
    "where all {request.principal.type = 'workload', request.principal.namespace = '<namespace>', "
    "request.principal.service_account = '<account>', request.principal.cluster_id = '<cluster OCID>'}"
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A sign-in ready to use. `sign` adds the headers of a signed request to what it is given.

    `principal` is who asks, as Oracle names it: an OCID where that is known. `fingerprint` is that of an API key,
    None for tokens. `profile` is that of the configuration, or the kind where none is used. `rejection_hint` is
    what to do when the service does not accept the signature.
    """

    tenancy: str
    region: str
    principal: str
    fingerprint: str | None
    profile: str
    kind: AuthKind
    _signer: Callable[[Any], Any] = field(repr=False)
    rejection_hint: str = ""

    def sign(self, *, url: str, host: str, path: str, now_seconds: float) -> dict[str, str]:
        """Return the headers of a signed GET.

        `host` is host[:port] and `path` path?query, both exactly as they go on the wire; `now_seconds` is
        the time since the epoch that the signature states.
        """
        headers = {"date": formatdate(now_seconds, usegmt=True), "host": host}
        self._signer(_UnsentRequest(url=url, path_url=path, headers=headers))
        return headers

    async def prepare(self, now_seconds: float) -> int:
        """Renew a token that is about to end, and return the number of the signer that signs next."""
        if not isinstance(self._signer, RefreshingSigner):
            return 0
        await self._signer.refresh_early(now_seconds)
        return self._signer.number

    async def refresh(self, number: int) -> bool:
        """After a 401 to the signer of this number: tell whether another one signs now, so that asking again helps."""
        return isinstance(self._signer, RefreshingSigner) and await self._signer.refresh_after(number)

    def explain_state(self) -> str:
        """Return what is known of a token that was refused: that it has ended, or why it could not be renewed."""
        if not isinstance(self._signer, RefreshingSigner):
            return ""
        words = []
        ended_at = self._signer.ended_at
        if ended_at is not None:
            words.append(f"the token ended at {datetime.fromtimestamp(ended_at, UTC):%Y-%m-%dT%H:%M:%SZ}")
        if self._signer.problem:
            words.append(f"it could not be renewed: {self._signer.problem}")
        return "; ".join(words)

    def state_policy(self, permission: str) -> str:
        """Return the IAM statement that grants a permission, such as "read audit-events", to whoever this is."""
        if self.kind == "oke_workload_identity":
            return f"Allow any-user to {permission} in tenancy {_WORKLOAD}"
        grantee = "group <group>" if self.kind in _USER_KINDS else "dynamic-group <group>"
        return f"Allow {grantee} to {permission} in tenancy"


@dataclass(slots=True)
class _UnsentRequest:
    """The part of a prepared `requests` request that the SDK's signers look at."""

    url: str
    path_url: str
    headers: dict[str, str]
    method: str = "GET"
    body: None = None


def load_api_key(profile: Profile) -> Any:
    """Return the SDK's signer for the API key of a profile.

    Raises:
        ConfigError: a field is missing or malformed, or the key is unusable.
    """
    import oci.config
    import oci.signer
    from oci.exceptions import InvalidConfig

    fields = profile.fields
    try:
        # With an authentication_type the SDK would check for that kind instead.
        oci.config.validate_config({name: fields[name] for name in fields if name != "authentication_type"})
    except InvalidConfig as error:
        raise ConfigError(f"{profile.where}: {_describe_fields(error)}") from error

    def make_signer() -> Any:
        return oci.signer.Signer(
            fields["tenancy"],
            fields["user"],
            fields["fingerprint"],
            fields.get("key_file"),
            pass_phrase=fields.get("pass_phrase"),
            private_key_content=fields.get("key_content"),
        )

    return _with_key_errors_explained(profile.where, lambda: _check_rsa(make_signer()))


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
            key = oci.signer.load_private_key(fields["key_content"], fields.get("pass_phrase"))
        else:
            key = oci.signer.load_private_key_from_file(fields["key_file"], fields.get("pass_phrase"))
        return _check_rsa(SecurityTokenSigner(token, key))

    signer = _with_key_errors_explained(profile.where, make_signer)
    if claims.key_modulus not in {None, signer.private_key.public_key().public_numbers().n}:
        raise ConfigError(f"{profile.where}: security_token_file holds the token of another key", hint=hint)
    return LoadedSigner(signer, token, claims)


def read_token(profile: Profile, field: str, hint: str) -> str:
    """Return the token in the file that a field of the profile names.

    Raises:
        ConfigError: there is no such file, or no token in it.
    """
    path = expand_path(profile.fields[field])
    try:
        token = path.read_text("utf-8").strip()
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a path with a null byte
        raise ConfigError(f"{profile.where}: the {field} {path} cannot be read", hint=hint) from error
    if not token or not token.isascii() or not token.isprintable() or set(token) & set(' "'):
        raise ConfigError(f"{profile.where}: the {field} {path} holds no token", hint=hint)
    return token


def _with_key_errors_explained(where: str, load: Callable[[], Any]) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from oci.exceptions import InvalidPrivateKey, MissingPrivateKeyPassphrase

    def explain(problem: str, hint: str, error: Exception) -> NoReturn:
        raise ConfigError(f"{where}: {problem}", hint=hint) from error

    try:
        return load()
    except MissingPrivateKeyPassphrase as error:
        explain("the key is encrypted and no pass phrase is given", "add pass_phrase=… to the profile", error)
    except InvalidPrivateKey as error:
        if "public key" in str(error):
            explain("key_file is a public key", KEY_HINT, error)
        explain("the key is damaged, or pass_phrase is wrong", "check pass_phrase; " + KEY_HINT, error)
    except OSError as error:
        explain(f"the key file cannot be read: {error.strerror}", KEY_HINT, error)
    except (ValueError, TypeError, AttributeError, UnsupportedAlgorithm) as error:
        explain("the key is not an RSA private key in PEM form", KEY_HINT, error)


def _check_rsa(signer: Any) -> Any:
    """Refuse a key of another kind now; the first signature would, in words for nobody."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    if not isinstance(signer.private_key, RSAPrivateKey):
        raise TypeError("a key that is not RSA")
    return signer


def _describe_fields(error: Exception) -> str:
    fields = error.args[0] if error.args else {}
    if isinstance(fields, Mapping):
        return ", ".join(f"{name} {problem}" for name, problem in sorted(fields.items()))
    return str(error).splitlines()[0]
