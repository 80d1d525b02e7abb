"""The configuration folder of `--write-config`, which Oracle's clients and the emulator share.

Invariants:
- an existing configuration is never overwritten;
- the folder has mode 0700 and each file in it 0600, from the first byte;
- a later emulator with the same seed can trust a folder that was written earlier.
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
from ociaudit_emulator.signature import KeyRing, compute_fingerprint, load_public_key
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
    """A configuration folder that cannot be written or trusted; the text ends in a hint."""


@dataclass(frozen=True, slots=True)
class ConfigRequest:
    """The options of a new configuration folder; without a pass phrase the keys are not encrypted."""

    folder: Path
    pass_phrase: str | None
    session_minutes: float
    now_seconds: float


def write_config(request: ConfigRequest, tenancy: Tenancy, key_ring: KeyRing) -> None:
    """Write a configuration with new keys and trust them.

    Raises: ConfigFolderError when the folder cannot be written or already holds a configuration.
    """
    folder = request.folder.absolute()
    try:
        _create_folder(folder)
        api_key, session_key, issuer = (_generate_key() for _ in range(3))
        _write_private_key(folder / _API_KEY_NAME, api_key, request.pass_phrase)
        _write_private_key(folder / _SESSION_KEY_NAME, session_key, request.pass_phrase)
        _write_public_key(folder / _API_PUBLIC_NAME, api_key.public_key())
        _write_public_key(folder / _ISSUER_NAME, issuer.public_key())
        names = {HolderKind.USER: _SESSION_TOKEN_NAME, HolderKind.RESOURCE: _RESOURCE_TOKEN_NAME}
        for kind, name in names.items():
            token = _make_token(request, tenancy, issuer, session_key.public_key(), kind)
            _write_file(folder / name, token.encode())
        text = _format_config(folder, tenancy, request.pass_phrase, (api_key, session_key))
        _write_file(folder / CONFIG_NAME, text.encode())
    except OSError as error:
        message = f"--write-config {folder}: {error.strerror}; choose a writable folder"
        raise ConfigFolderError(message) from error
    trust_config(folder, tenancy, key_ring)


def trust_config(folder: Path, tenancy: Tenancy, key_ring: KeyRing) -> None:
    """Trust the keys of a folder that `write_config` wrote.

    Raises: ConfigFolderError for any other folder, or for one written with another seed.
    """
    config = configparser.ConfigParser(interpolation=None)
    try:
        config.read_string((folder / CONFIG_NAME).read_text(encoding="utf-8"))
        defaults = config.defaults()
        user_id, tenancy_id = defaults["user"], defaults["tenancy"]
        api_key = load_public_key((folder / _API_PUBLIC_NAME).read_bytes())
        issuer = load_public_key((folder / _ISSUER_NAME).read_bytes())
    except (OSError, KeyError, ValueError, configparser.Error) as error:
        message = f"--trust-config {folder}: not a folder written by --write-config ({error})"
        raise ConfigFolderError(message) from error
    if tenancy_id != tenancy.id:
        message = f"--trust-config {folder}: written with another --seed; start with that seed"
        raise ConfigFolderError(message)
    key_ring.trust_api_key(tenancy_id, user_id, api_key)
    key_ring.trust_issuer(issuer)


def _create_folder(folder: Path) -> None:
    """Create the folder, private to its owner, unless it already holds a configuration."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (folder / CONFIG_NAME).exists():
        message = (
            f"--write-config {folder}: already holds a configuration; "
            "reuse it with --trust-config, or choose another folder"
        )
        raise ConfigFolderError(message)
    folder.chmod(0o700)


def _generate_key() -> RSAPrivateKey:
    """Return a new key of the size that Oracle's tools generate."""
    return rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)


def _make_token(
    request: ConfigRequest, tenancy: Tenancy, issuer: RSAPrivateKey, session_key: RSAPublicKey, kind: HolderKind
) -> str:
    """Return the token of a user's session or of a resource, with the requested lifetime."""
    start = int(request.now_seconds)
    return make_session_token(
        issuer,
        session_key,
        holder=find_holder(tenancy, kind),
        span=(start, start + round(request.session_minutes * 60)),
    )


def _format_config(
    folder: Path, tenancy: Tenancy, pass_phrase: str | None, keys: tuple[RSAPrivateKey, RSAPrivateKey]
) -> str:
    """Return the configuration with the profiles DEFAULT and SESSION, as Oracle's clients read it."""
    api_fingerprint, session_fingerprint = (compute_fingerprint(key.public_key()) for key in keys)
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
    """Write a private key, encrypted if there is a pass phrase."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if pass_phrase is not None:
        encryption = serialization.BestAvailableEncryption(pass_phrase.encode())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, encryption)
    _write_file(path, pem + _KEY_LABEL)


def _write_public_key(path: Path, key: RSAPublicKey) -> None:
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    _write_file(path, pem)


def _write_file(path: Path, content: bytes) -> None:
    """Create a file that only its owner can read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
