"""Signers made of files that a profile names: an API key, or a session's key and token.

Owns: reading keys and tokens, and what is wrong with them. Must not: send anything, or show what it reads.

Invariants
- Every problem of a key or token is a `ConfigError` that names where it was configured.
- A session's token and key belong together: a token of another key is not taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from ociaudit.errors import ConfigError
from ociaudit.source.config_file import KEY_HINT, Profile, expand_path
from ociaudit.source.renewal import LoadedSigner
from ociaudit.source.token_claims import read_claims


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
