"""The OCI configuration file, and the variables that Oracle's command lets stand in for it.

Owns: finding the file, reading a profile, and which variable replaces which field. Must not: read a key or token.

Invariants
- Every problem is a `ConfigError` that names the file, the profile and the field.
- Nothing of a line of the file stands in a message: it may hold a secret.
- What was named by hand beats a variable, and a variable beats the profile.

The files of a profile that only their owner should read.

Owns: which fields name such files, and who may read these. Must not: open one.
"""

from __future__ import annotations

import configparser
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ociaudit.errors import ConfigError
from ociaudit.planning.scope import REGION

DEFAULT_CONFIG_FILE = "~/.oci/config"
DEFAULT_PROFILE = "DEFAULT"
KEY_HINT = "point key_file at the PEM file of the API key's private half, readable by you"
REGION_VARIABLE = "OCI_CLI_REGION"
TENANCY_VARIABLE = "OCI_CLI_TENANCY"
_VARIABLES = {
    "OCI_CLI_USER": "user",
    "OCI_CLI_FINGERPRINT": "fingerprint",
    "OCI_CLI_KEY_FILE": "key_file",
    "OCI_CLI_KEY_CONTENT": "key_content",
    TENANCY_VARIABLE: "tenancy",
    "OCI_CLI_PASSPHRASE": "pass_phrase",
    "OCI_CLI_DELEGATION_TOKEN_FILE": "delegation_token_file",
    "OCI_CLI_SECURITY_TOKEN_FILE": "security_token_file",
    REGION_VARIABLE: "region",
}
_ENOUGH_WITHOUT_FILE = ("OCI_CLI_USER", TENANCY_VARIABLE, "OCI_CLI_FINGERPRINT", REGION_VARIABLE)
_KEY_VARIABLES = ("OCI_CLI_KEY_FILE", "OCI_CLI_KEY_CONTENT")


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile's fields, with what variables put in their place. `where` says in words where they come from."""

    name: str
    location: str | None
    """The configuration file, if it is not the default one."""
    where: str
    fields: Mapping[str, Any] = field(repr=False)

    def require(self, *names: str) -> None:
        """Refuse a profile in which one of these fields is missing.

        Raises:
            ConfigError: it is.
        """
        missing = [name for name in names if not self.fields.get(name)]
        if missing:
            raise ConfigError(f"{self.where}: {', '.join(missing)} missing")

    def resolve_region(self) -> str:
        """Return the name of the profile's region.

        Raises:
            ConfigError: it cannot be one.
        """
        return resolve_region(self.fields["region"], self.where)


def read_profile(config_file: str | None, profile: str | None, environment: Mapping[str, str]) -> Profile:
    """Read a profile: the one named, else that of `OCI_CLI_PROFILE`, else DEFAULT.

    Where the variables give everything that an API key needs, and no file or profile was named, no file is read.

    Raises:
        ConfigError: the file or the profile is missing, malformed or unreadable.
    """
    location = config_file or environment.get("OCI_CLI_CONFIG_FILE") or DEFAULT_CONFIG_FILE
    name = profile or environment.get("OCI_CLI_PROFILE") or DEFAULT_PROFILE
    given = {variable: environment[variable] for variable in _VARIABLES if environment.get(variable)}
    replaced = {_VARIABLES[variable]: value for variable, value in given.items()}
    named = None if location == DEFAULT_CONFIG_FILE else location
    if config_file is None and profile is None and _is_enough(given):
        return Profile(name, named, f"the variables {', '.join(given)}", replaced)
    fields = _read_file(location, name)
    where = f"profile {name!r} of {expand_path(location)}"
    if given:
        where += f" with {', '.join(given)}"
    if "key_file" in replaced:
        fields.pop("key_content", None)
    return Profile(name, named, where, {**fields, **replaced})


def _is_enough(given: Mapping[str, str]) -> bool:
    return given.keys() >= set(_ENOUGH_WITHOUT_FILE) and not given.keys().isdisjoint(_KEY_VARIABLES)


def _read_file(location: str, profile: str) -> dict[str, Any]:
    import oci.config
    from oci.exceptions import ConfigFileNotFound, InvalidConfig, InvalidKeyFilePath, ProfileNotFound

    path = expand_path(location)
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
        raise ConfigError(f"profile {profile!r} of {path}: key_file names no file", hint=KEY_HINT) from error
    except OSError as error:
        raise ConfigError(f"the OCI configuration file {path} cannot be read: {error.strerror}") from error
    except (InvalidConfig, configparser.Error, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(f"the OCI configuration file {path} cannot be understood: {_one_line(error)}") from error


def resolve_region(text: str, where: str) -> str:
    """Return a region's full name for itself or the SDK's short name.

    Raises:
        ConfigError: it cannot be one.
    """
    from oci.regions import get_region_from_short_name

    region = str(get_region_from_short_name(text.strip().lower()))
    if not REGION.fullmatch(region):
        raise ConfigError(f"{where}: region malformed", hint="regions are named like eu-frankfurt-1")
    return region


def expand_path(location: str) -> Path:
    """Replace a leading `~`; one of a user whom this machine does not know stays."""
    try:
        return Path(location).expanduser()
    except RuntimeError:
        return Path(location)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long, or in a folder that may not be looked into
        return False


def _list_profiles(path: Path) -> str:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(path)
    return ", ".join((["DEFAULT"] if parser.defaults() else []) + parser.sections()) or "none"


def _one_line(error: Exception) -> str:
    """Say what a parser said without the line of the file, which may hold a secret."""
    return type(error).__name__ if isinstance(error, configparser.Error) else str(error).splitlines()[0]


_FIELDS = ("key_file", "security_token_file", "delegation_token_file")
_OF_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class PrivateFile:
    """A file, what names it, and its mode; `problem` is why the mode is not known."""

    path: Path
    named_by: str
    mode: int | None
    problem: str | None = None

    @property
    def is_exposed(self) -> bool:
        """Tell whether somebody else than the owner may read or change it."""
        return self.mode is not None and bool(self.mode & _OF_OTHERS)


def list_private_files(config_file: Path, fields: Mapping[str, Any]) -> Iterator[PrivateFile]:
    """Yield the configuration file and the files that the fields of its profile name."""
    yield _look_at(config_file, "the configuration file")
    for name in _FIELDS:
        if fields.get(name):
            yield _look_at(Path(os.path.expanduser(fields[name])), name)  # noqa: PTH111 - keeps an unknown `~user`


def _look_at(path: Path, named_by: str) -> PrivateFile:
    try:
        return PrivateFile(path, named_by, stat.S_IMODE(path.stat().st_mode))
    except (OSError, ValueError) as error:
        return PrivateFile(path, named_by, None, getattr(error, "strerror", None) or "no path of a file")
