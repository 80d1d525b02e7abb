"""The configuration folder that Oracle's clients and the emulator share.

Owns: the files below a `--write-config` folder: their names, contents and permissions.
Must not: overwrite anything that is there already.

Invariants:
- the folder is 0700 and every file in it 0600, from the first byte;
- a folder written once can be trusted again by a later emulator of the same seed.
"""

from __future__ import annotations

import configparser
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from ociaudit_emulator.session_token import HolderKind, find_holder, make_session_token
from ociaudit_emulator.signature import KeyRing, fingerprint_of
from ociaudit_emulator.tenancy import HOME_REGION, Tenancy

CONFIG_NAME = "config"
_API_KEY_NAME = "oci_api_key.pem"
_API_PUBLIC_NAME = "oci_api_key_public.pem"
_SESSION_KEY_NAME = "session_key.pem"
_SESSION_TOKEN_NAME = "session_token"
_RESOURCE_TOKEN_NAME = "resource_principal_token"
_ISSUER_NAME = "session_issuer_public.pem"
_KEY_BITS = 2048
# Oracle's tools warn about a key file that does not end in this line.
_KEY_LABEL = b"OCI_API_KEY\n"


class ConfigFolderError(Exception):
    """A configuration folder that cannot be written or trusted; the text says what to do."""


@dataclass(frozen=True, slots=True)
class ConfigRequest:
    """What to write: where, for how long a session lasts, and how keys are encrypted."""

    folder: Path
    pass_phrase: str | None
    session_minutes: float
    now_seconds: float


def write_config(request: ConfigRequest, tenancy: Tenancy, key_ring: KeyRing) -> None:
    """Write a configuration with fresh keys and trust them.

    Raises: ConfigFolderError when the folder holds a configuration already or cannot be written.
    """
    folder = request.folder.absolute()
    try:
        _make_folder(folder)
        api_key, session_key, issuer = (_make_key() for _ in range(3))
        _write_private_key(folder / _API_KEY_NAME, api_key, request.pass_phrase)
        _write_private_key(folder / _SESSION_KEY_NAME, session_key, request.pass_phrase)
        _write_public_key(folder / _API_PUBLIC_NAME, api_key.public_key())
        _write_public_key(folder / _ISSUER_NAME, issuer.public_key())
        names = {HolderKind.USER: _SESSION_TOKEN_NAME, HolderKind.RESOURCE: _RESOURCE_TOKEN_NAME}
        for kind, name in names.items():
            token = _make_token(request, tenancy, issuer, session_key.public_key(), kind)
            _write_file(folder / name, token.encode())
        text = _make_config_text(folder, tenancy, request.pass_phrase, (api_key, session_key))
        _write_file(folder / CONFIG_NAME, text.encode())
    except OSError as error:
        message = f"--write-config {folder}: {error.strerror}; name a folder that can be written"
        raise ConfigFolderError(message) from error
    trust_config(folder, tenancy, key_ring)


def trust_config(folder: Path, tenancy: Tenancy, key_ring: KeyRing) -> None:
    """Trust the keys of a folder that `write_config` made.

    Raises: ConfigFolderError when the folder is no such folder, or of another seed.
    """
    config = configparser.ConfigParser(interpolation=None)
    try:
        config.read_string((folder / CONFIG_NAME).read_text(encoding="utf-8"))
        defaults = config.defaults()
        user_id, tenancy_id = defaults["user"], defaults["tenancy"]
        api_key = _read_public_key(folder / _API_PUBLIC_NAME)
        issuer = _read_public_key(folder / _ISSUER_NAME)
    except (OSError, KeyError, ValueError, configparser.Error) as error:
        message = f"--trust-config {folder}: not a folder that --write-config made ({error})"
        raise ConfigFolderError(message) from error
    if tenancy_id != tenancy.id:
        message = f"--trust-config {folder}: made with another --seed; start with that seed"
        raise ConfigFolderError(message)
    key_ring.trust_api_key(tenancy_id, user_id, api_key)
    key_ring.trust_issuer(issuer)


def _make_folder(folder: Path) -> None:
    """Make the folder, private to its owner, and refuse one with a configuration in it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (folder / CONFIG_NAME).exists():
        message = (
            f"--write-config {folder}: holds a configuration already; "
            "go on with it by --trust-config, or name another folder"
        )
        raise ConfigFolderError(message)
    folder.chmod(0o700)


def _make_key() -> RSAPrivateKey:
    """Make a fresh key of the size that Oracle's tools make."""
    return rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)


def _make_token(
    request: ConfigRequest, tenancy: Tenancy, issuer: RSAPrivateKey, session_key: RSAPublicKey, kind: HolderKind
) -> str:
    """Make the token of a user's session or of a resource, which lasts as long as was asked."""
    start = int(request.now_seconds)
    return make_session_token(
        issuer,
        session_key,
        holder=find_holder(tenancy, kind),
        span=(start, start + round(request.session_minutes * 60)),
    )


def _make_config_text(
    folder: Path, tenancy: Tenancy, pass_phrase: str | None, keys: tuple[RSAPrivateKey, RSAPrivateKey]
) -> str:
    """Write the two profiles in the form that Oracle's clients read."""
    api_fingerprint, session_fingerprint = (fingerprint_of(key.public_key()) for key in keys)
    pass_phrase_lines = [] if pass_phrase is None else [f"pass_phrase={pass_phrase}"]
    lines = [
        "[DEFAULT]",
        f"user={tenancy.config_user.id}",
        f"fingerprint={api_fingerprint}",
        f"tenancy={tenancy.id}",
        f"region={HOME_REGION}",
        f"key_file={folder / _API_KEY_NAME}",
        *pass_phrase_lines,
        "",
        "[SESSION]",
        f"fingerprint={session_fingerprint}",
        f"tenancy={tenancy.id}",
        f"region={HOME_REGION}",
        f"key_file={folder / _SESSION_KEY_NAME}",
        f"security_token_file={folder / _SESSION_TOKEN_NAME}",
        *pass_phrase_lines,
    ]
    return "\n".join(lines) + "\n"


def _write_private_key(path: Path, key: RSAPrivateKey, pass_phrase: str | None) -> None:
    """Write a private key, encrypted when there is a pass phrase."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if pass_phrase is not None:
        encryption = serialization.BestAvailableEncryption(pass_phrase.encode())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, encryption)
    _write_file(path, pem + _KEY_LABEL)


def _write_public_key(path: Path, key: RSAPublicKey) -> None:
    """Write a public key."""
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    _write_file(path, pem)


def _read_public_key(path: Path) -> RSAPublicKey:
    """Read a public key; ValueError when the file holds something else."""
    key = serialization.load_pem_public_key(path.read_bytes())
    if not isinstance(key, RSAPublicKey):
        message = f"{path.name} is no RSA key"
        raise ValueError(message)  # noqa: TRY004 -- what the file holds is wrong, not the call
    return key


def _write_file(path: Path, content: bytes) -> None:
    """Write a new file that only its owner can read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
