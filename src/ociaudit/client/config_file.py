"""The OCI configuration file, and the variables of Oracle's CLI that replace its fields.

`read_profile` reads a profile, and `list_private_files` lists the files of a profile that only their owner should be
able to read. Neither opens a key or token.

Invariants
- Every problem is a `ConfigError` that names the file, the profile and the field.
- No line of the file appears in a message: it may contain a secret.
- An argument beats a variable, and a variable beats the profile.
"""

from __future__ import annotations

import configparser
import re
import stat
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ociaudit.errors import ConfigError
from ociaudit.planning.scope import REGION

DEFAULT_CONFIG_FILE = "~/.oci/config"
DEFAULT_PROFILE = "DEFAULT"
KEY_HINT = "set key_file to the PEM file of the API key's private key, and make sure that you can read it"
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
_SUFFICIENT_VARIABLES = frozenset({"OCI_CLI_USER", TENANCY_VARIABLE, "OCI_CLI_FINGERPRINT", REGION_VARIABLE})
_KEY_VARIABLES = frozenset({"OCI_CLI_KEY_FILE", "OCI_CLI_KEY_CONTENT"})
_KEY_CONTENT_VARIABLE = "OCI_CLI_KEY_CONTENT"
_SURROUNDING = {
    **dict.fromkeys((*_VARIABLES, "OCI_CLI_PROFILE", "OCI_CLI_CONFIG_FILE", "OCI_CLI_AUTH"), string.whitespace),
    "OCI_CLI_PASSPHRASE": "\r\n",  # may begin or end with a space
}
_VARIABLE_FORMS = (
    (TENANCY_VARIABLE, re.compile(r"ocid1\.tenancy\.[\w.-]+", re.ASCII), "a tenancy's OCID (ocid1.tenancy.oc1..…)"),
    ("OCI_CLI_USER", re.compile(r"ocid1\.[\w.-]+", re.ASCII), "a user's OCID (ocid1.user.oc1..…)"),
    ("OCI_CLI_FINGERPRINT", re.compile(r"([0-9a-f]{2}:){15}[0-9a-f]{2}"), "a fingerprint (12:34:…:ef, lower case)"),
    (REGION_VARIABLE, re.compile(r"[A-Za-z0-9-]+"), "a region (eu-frankfurt-1)"),
)
_PRIVATE_FILE_FIELDS = ("key_file", "security_token_file", "delegation_token_file")


@dataclass(frozen=True, slots=True)
class Profile:
    """The fields of a profile, with those that variables replace. `where` names their source in messages."""

    name: str
    location: str | None
    """The configuration file, unless it is the default one."""
    where: str
    fields: Mapping[str, Any] = field(repr=False)

    def require(self, *names: str) -> None:
        """Check that the profile has these fields.

        Raises:
            ConfigError: one of them is missing.
        """
        missing = [name for name in names if not self.fields.get(name)]
        if missing:
            raise ConfigError(f"{self.where}: {', '.join(missing)} missing")

    def resolve_region(self) -> str:
        """Return the full name of the profile's region.

        Raises:
            ConfigError: it is malformed.
        """
        return resolve_region(self.fields["region"], self.where)


def read_profile(config_file: str | None, profile: str | None, environment: Mapping[str, str]) -> Profile:
    """Read a profile: the one named, else that of `OCI_CLI_PROFILE`, else DEFAULT.

    If the variables contain everything that an API key needs, and no file or profile was named, no file is read.

    Raises:
        ConfigError: the file or the profile is missing, malformed or unreadable.
    """
    environment = clean_variables(environment)
    location = config_file or environment.get("OCI_CLI_CONFIG_FILE") or DEFAULT_CONFIG_FILE
    name = profile or environment.get("OCI_CLI_PROFILE") or DEFAULT_PROFILE
    given = {variable: environment[variable] for variable in _VARIABLES if environment.get(variable)}
    replaced = {_VARIABLES[variable]: value for variable, value in given.items()}
    named = None if location == DEFAULT_CONFIG_FILE else location
    is_sufficient = given.keys() >= _SUFFICIENT_VARIABLES and not given.keys().isdisjoint(_KEY_VARIABLES)
    if config_file is None and profile is None and is_sufficient:
        return Profile(name, named, f"the variables {', '.join(given)}", replaced)
    fields = _read_file(location, name)
    where = f"profile {name!r} of {expand_path(location)}"
    if given:
        where += f" with {', '.join(given)}"
    if "key_file" in replaced:
        fields.pop("key_content", None)
    return Profile(name, named, where, {**fields, **replaced})


def clean_variables(environment: Mapping[str, str]) -> dict[str, str]:
    r"""Return the environment with the values of `OCI_CLI_*` as they are meant, and check those that have a form.

    White space around a value is removed (a file that is read into a variable ends with a line break), and `\n` in
    the text of a key becomes a line break (many tools write it so to keep the text on one line).

    Raises:
        ConfigError: a value cannot be what its variable is for; the message has the variable, and no secret.
    """
    cleaned = {name: value.strip(_SURROUNDING.get(name, "")) for name, value in environment.items()}
    content = cleaned.get(_KEY_CONTENT_VARIABLE)
    if content:
        cleaned[_KEY_CONTENT_VARIABLE] = content.replace("\\r", "").replace("\\n", "\n")
    for variable, form, example in _VARIABLE_FORMS:
        value = cleaned.get(variable, "")
        if value and not form.fullmatch(value):
            raise ConfigError(f"{variable}: {_VARIABLES[variable]} malformed", hint=f"set it to {example}, or unset it")
    return cleaned


def resolve_region(text: str, where: str) -> str:
    """Return a region's full name, given that or the SDK's short name.

    Raises:
        ConfigError: it is malformed; `where` names its source.
    """
    from oci.regions import get_region_from_short_name

    region = str(get_region_from_short_name(text.strip().lower()))
    if not REGION.fullmatch(region):
        raise ConfigError(f"{where}: region malformed", hint="regions are named like eu-frankfurt-1")
    return region


def expand_path(location: str) -> Path:
    """Expand a leading `~`; that of a user whom this machine does not know is kept."""
    try:
        return Path(location).expanduser()
    except RuntimeError:
        return Path(location)


def _read_file(location: str, profile: str) -> dict[str, Any]:
    import oci.config
    from oci.exceptions import ConfigFileNotFound, InvalidConfig, InvalidKeyFilePath, ProfileNotFound

    path = expand_path(location)
    try:
        return dict(oci.config.from_file(location, profile))
    except ConfigFileNotFound as error:
        problem = "cannot be read" if _exists(path) else "does not exist"
        raise ConfigError(
            f"the OCI configuration file {path} {problem}",
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
        raise ConfigError(f"the OCI configuration file {path} cannot be parsed: {_describe(error)}") from error


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long, or in a folder without permission
        return False


def _list_profiles(path: Path) -> str:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(path)
    return ", ".join((["DEFAULT"] if parser.defaults() else []) + parser.sections()) or "none"


def _describe(error: Exception) -> str:
    """Return a parser's error without the line of the file, which may contain a secret."""
    return type(error).__name__ if isinstance(error, configparser.Error) else str(error).splitlines()[0]


@dataclass(frozen=True, slots=True)
class PrivateFile:
    """A file, what names it, and its mode; `problem` says why the mode is not known."""

    path: Path
    named_by: str
    mode: int | None
    problem: str | None = None

    @property
    def is_exposed(self) -> bool:
        """Return whether anyone but the owner may read or change the file."""
        return self.mode is not None and bool(self.mode & (stat.S_IRWXG | stat.S_IRWXO))


def list_private_files(config_file: Path, fields: Mapping[str, Any]) -> Iterator[PrivateFile]:
    """Yield the configuration file, and the key and token files that the fields of its profile name."""
    yield _check_mode(config_file, "the configuration file")
    for name in _PRIVATE_FILE_FIELDS:
        if fields.get(name):
            yield _check_mode(expand_path(fields[name]), name)


def _check_mode(path: Path, named_by: str) -> PrivateFile:
    try:
        return PrivateFile(path, named_by, stat.S_IMODE(path.stat().st_mode))
    except (OSError, ValueError) as error:
        return PrivateFile(path, named_by, None, getattr(error, "strerror", None) or "not the path of a file")
