"""Who asks: an OCI profile read, checked and turned into something that signs.

Owns: reading the configuration and choosing the signer. Must not: send anything, or show a key or token.

Invariants
- Every problem of the configuration is a `ConfigError` that names the file, the profile and the field.
- Nothing of the key, the pass phrase or the token stands in a message or a repr.
"""

from __future__ import annotations

import configparser
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any, NoReturn

from ociaudit.errors import ConfigError
from ociaudit.plan.scope import REGION

DEFAULT_CONFIG_FILE = "~/.oci/config"
DEFAULT_PROFILE = "DEFAULT"
_KEY_HINT = "point key_file at the PEM file of the API key's private half, readable by you"
_SESSION_HINT = "renew the session with: oci session authenticate --profile-name {profile}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A profile ready to use. `sign` adds the headers of a signed request to what it is given."""

    tenancy: str
    region: str
    principal: str
    fingerprint: str | None
    profile: str
    is_session: bool
    _signer: Callable[[Any], Any] = field(repr=False)

    def sign(self, *, url: str, host: str, path: str, now_seconds: float) -> dict[str, str]:
        """Return the headers of a signed GET.

        `host` is host[:port] and `path` path?query, both exactly as they go on the wire; `now_seconds` is
        the time since the epoch that the signature states.
        """
        headers = {"date": formatdate(now_seconds, usegmt=True), "host": host}
        self._signer(_UnsentRequest(url=url, path_url=path, headers=headers))
        return headers


@dataclass(slots=True)
class _UnsentRequest:
    """The part of a prepared `requests` request that the SDK's signers look at."""

    url: str
    path_url: str
    headers: dict[str, str]
    method: str = "GET"
    body: None = None


def load_credentials(config_file: str | None = None, profile: str = DEFAULT_PROFILE) -> Credentials:
    """Read a profile of an OCI configuration file and build its signer.

    API keys (with pass phrase, too) and session tokens (`security_token_file`) are understood.

    Raises:
        ConfigError: the file, the profile, a field or the key is missing, malformed or unreadable.
    """
    location = config_file or DEFAULT_CONFIG_FILE
    config = _read_profile(location, profile)
    if config.get("security_token_file"):
        return _load_session(config, location, profile)
    return _load_api_key(config, location, profile)


def read_fields(config_file: str | None, profile: str) -> dict[str, Any]:
    """Return the fields of a profile as they stand in the file, secrets included.

    Raises:
        ConfigError: the file or the profile cannot be read.
    """
    return _read_profile(config_file or DEFAULT_CONFIG_FILE, profile)


def _read_profile(location: str, profile: str) -> dict[str, Any]:
    import oci.config
    from oci.exceptions import ConfigFileNotFound, InvalidConfig, InvalidKeyFilePath, ProfileNotFound

    path = _expand(location)
    try:
        return dict(oci.config.from_file(location, profile))
    except ConfigFileNotFound as error:
        what = "cannot be read" if _is_there(path) else "does not exist"
        raise ConfigError(
            f"the OCI configuration file {path} {what}",
            hint="create one with `oci setup config`, or name another with --config-file",
        ) from error
    except ProfileNotFound as error:
        raise ConfigError(
            f"the OCI configuration file {path} has no profile {profile!r}; it has {_list_profiles(path)}",
            hint="name one of these with --profile",
        ) from error
    except InvalidKeyFilePath as error:
        raise ConfigError(f"profile {profile!r} of {path}: key_file names no file", hint=_KEY_HINT) from error
    except OSError as error:
        raise ConfigError(f"the OCI configuration file {path} cannot be read: {error.strerror}") from error
    except (InvalidConfig, configparser.Error, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(f"the OCI configuration file {path} cannot be understood: {_one_line(error)}") from error


def _load_api_key(config: dict[str, Any], location: str, profile: str) -> Credentials:
    import oci.config
    import oci.signer
    from oci.exceptions import InvalidConfig

    where = f"profile {profile!r} of {_expand(location)}"
    try:
        oci.config.validate_config(config)
    except InvalidConfig as error:
        raise ConfigError(f"{where}: {_describe_fields(error)}") from error
    region = _resolve_region(config["region"], where)
    signer = _with_key_errors_explained(where, lambda: _check_rsa(oci.signer.Signer.from_config(config)))
    return Credentials(
        tenancy=config["tenancy"],
        region=region,
        principal=config["user"],
        fingerprint=config["fingerprint"],
        profile=profile,
        is_session=False,
        _signer=signer,
    )


def _load_session(config: dict[str, Any], location: str, profile: str) -> Credentials:
    import oci.signer
    from oci.auth.signers import SecurityTokenSigner

    where = f"profile {profile!r} of {_expand(location)}"
    missing = [name for name in ("tenancy", "region", "key_file") if not config.get(name)]
    if missing:
        raise ConfigError(f"{where}: {', '.join(missing)} missing")
    region = _resolve_region(config["region"], where)
    token_file = _expand(config["security_token_file"])
    try:
        token = token_file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{where}: the security_token_file {token_file} cannot be read",
            hint=_SESSION_HINT.format(profile=profile),
        ) from error

    def make_signer() -> Any:
        key = oci.signer.load_private_key_from_file(config["key_file"], config.get("pass_phrase"))
        return _check_rsa(SecurityTokenSigner(token, key))

    signer = _with_key_errors_explained(where, make_signer)
    return Credentials(
        tenancy=config["tenancy"],
        region=region,
        principal=config.get("user") or "session token",
        fingerprint=config.get("fingerprint"),
        profile=profile,
        is_session=True,
        _signer=signer,
    )


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
            explain("key_file is a public key", _KEY_HINT, error)
        explain("the key is damaged, or pass_phrase is wrong", "check pass_phrase; " + _KEY_HINT, error)
    except OSError as error:
        explain(f"the key file cannot be read: {error.strerror}", _KEY_HINT, error)
    except (ValueError, TypeError, AttributeError, UnsupportedAlgorithm) as error:
        explain("the key is not an RSA private key in PEM form", _KEY_HINT, error)


def _check_rsa(signer: Any) -> Any:
    """Refuse a key of another kind now; the first signature would, in words for nobody."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    if not isinstance(signer.private_key, RSAPrivateKey):
        raise TypeError("a key that is not RSA")
    return signer


def _resolve_region(text: str, where: str) -> str:
    from oci.regions import get_region_from_short_name

    region = str(get_region_from_short_name(text.strip().lower()))
    if not REGION.fullmatch(region):
        raise ConfigError(f"{where}: region malformed", hint="regions are named like eu-frankfurt-1")
    return region


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long, or in a folder that may not be looked into
        return False


def _expand(location: str) -> Path:
    """Replace a leading `~`; one of a user whom this machine does not know stays."""
    try:
        return Path(location).expanduser()
    except RuntimeError:
        return Path(location)


def _list_profiles(path: Path) -> str:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(path)
    return ", ".join((["DEFAULT"] if parser.defaults() else []) + parser.sections()) or "none"


def _describe_fields(error: Exception) -> str:
    fields = error.args[0] if error.args else {}
    if isinstance(fields, Mapping):
        return ", ".join(f"{name} {problem}" for name, problem in sorted(fields.items()))
    return _one_line(error)


def _one_line(error: Exception) -> str:
    """Say what a parser said without the line of the file, which may hold a secret."""
    return type(error).__name__ if isinstance(error, configparser.Error) else str(error).splitlines()[0]
