"""The OCI configuration file, and the variables of Oracle's CLI that replace its fields.

`read_profile` reads a profile, and `list_private_files` lists the files of a profile that only their owner should be
able to read. Neither opens a key or token.

Invariants
- Every problem is a `ConfigError` that names the file, the line or the profile and its field, and the cause.
- Of the file's text, only names of sections and known fields and the path of the key file appear in a message:
  anything else may be a secret.
- An argument beats a variable, and a variable beats the profile.
"""

from __future__ import annotations

import codecs
import configparser
import os
import re
import shlex
import stat
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ociaudit.client import network
from ociaudit.client.network import is_file
from ociaudit.errors import ConfigError, UsageError

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
_FIELDS = frozenset({*_VARIABLES.values(), "authentication_type", "log_requests"})
_KEY_CONTENT_HINT = "save the key as a PEM file and name it with key_file, or set OCI_CLI_KEY_CONTENT"
_COMMENT_AFTER_VALUE = re.compile(r"\s[#;]")
_QUOTES = "\"'"
_SDK_DEFAULTS = {"log_requests": False, "additional_user_agent": "", "pass_phrase": None}
_JUDGED_FIELDS = frozenset({"key_content", "log_requests"})
"""The SDK forbids the one, and converts the other."""


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
    location, variable = choose_location(config_file, environment)
    name = profile or environment.get("OCI_CLI_PROFILE") or DEFAULT_PROFILE
    given = {variable: environment[variable] for variable in _VARIABLES if environment.get(variable)}
    replaced = {_VARIABLES[variable]: value for variable, value in given.items()}
    named = None if location == DEFAULT_CONFIG_FILE else location
    is_sufficient = given.keys() >= _SUFFICIENT_VARIABLES and not given.keys().isdisjoint(_KEY_VARIABLES)
    if config_file is None and profile is None and is_sufficient:
        return Profile(name, named, f"the variables {', '.join(given)}", replaced)
    fields = _read_file(location, name, variable)
    where = f"profile {name!r} of {expand_path(location)}"
    if given:
        where += f" with {', '.join(given)}"
    if "key_file" in replaced:
        fields.pop("key_content", None)
    return Profile(name, named, where, {**fields, **replaced})


def choose_location(config_file: str | None, environment: Mapping[str, str]) -> tuple[str, str]:
    """Return the configuration file, and the variable that names it or an empty text.

    `OCI_CONFIG_FILE` is Oracle's SDK's own variable; it counts where the default file does not exist, as there.
    """
    if config_file:
        return config_file, ""
    variable = "OCI_CLI_CONFIG_FILE"
    if not environment.get(variable):
        variable = "OCI_CONFIG_FILE"
        if not environment.get(variable) or expand_path(DEFAULT_CONFIG_FILE).is_file():
            return DEFAULT_CONFIG_FILE, ""
    return environment[variable], variable


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
    try:
        return network.resolve_region(text)
    except UsageError as error:
        reason = explain_value(text) or f": {error}"
        raise ConfigError(f"{where}: region malformed{reason}", hint=error.hint) from error


def explain_value(text: str) -> str:
    """Return why the value of a field is not what its author meant, as `: …`; empty if it has no such mark."""
    if _COMMENT_AFTER_VALUE.search(text):
        return ": a comment after a value is part of the value; give it a line of its own"
    if len(text) >= 2 and text[0] == text[-1] and text[0] in _QUOTES:
        return ": quotes around a value are part of the value; remove them"
    return ""


def expand_path(location: str) -> Path:
    """Expand a leading `~`; that of a user whom this machine does not know is kept."""
    try:
        return Path(location).expanduser()
    except RuntimeError:
        return Path(location)


def _read_file(location: str, profile: str, variable: str) -> dict[str, Any]:
    fields = _read_plain_file(location, profile)
    return fields if fields is not None else _read_by_sdk(location, profile, variable)


def _read_plain_file(location: str, profile: str) -> dict[str, Any] | None:
    """Return what the SDK reads from a file without peculiarities; None if the SDK has to read or judge it.

    The import of the SDK takes longer than a small export.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        is_read = is_file(location) and parser.read(os.path.expanduser(location))  # noqa: PTH111 - as the SDK does it
    except (OSError, ValueError, configparser.Error):
        return None
    if not is_read or profile not in parser:
        return None
    section = parser[profile]
    has_default = bool(parser.defaults()) or not parser.sections()
    if (profile == DEFAULT_PROFILE and not has_default) or not _JUDGED_FIELDS.isdisjoint(section):
        return None
    key_file = section.get("key_file")
    if key_file is not None and not is_file(key_file):
        return None
    return {**_SDK_DEFAULTS, **section}


def _read_by_sdk(location: str, profile: str, variable: str) -> dict[str, Any]:
    import oci.config
    from oci.exceptions import ConfigFileNotFound, InvalidConfig, InvalidKeyFilePath, ProfileNotFound

    path = expand_path(location)
    try:
        fields = dict(oci.config.from_file(location, profile))
    except ConfigFileNotFound as error:
        problem = "cannot be read" if _exists(path) else "does not exist"
        raise ConfigError(
            f"the OCI configuration file {path} {problem}" + (f"; {variable} names it" if variable else ""),
            hint=f"correct {variable}, or name a file with --config-file"
            if variable
            else "create one with `oci setup config`, or name another with --config-file",
        ) from error
    except ProfileNotFound as error:
        raise _explain_missing_profile(path, profile) from error
    except InvalidKeyFilePath as error:
        problem = _explain_key_path(_read_sections(path)[profile]["key_file"])
        raise ConfigError(f"profile {profile!r} of {path}: {problem}", hint=KEY_HINT) from error
    except OSError as error:
        raise ConfigError(f"the OCI configuration file {path} cannot be read: {error.strerror}") from error
    except (InvalidConfig, configparser.Error, ValueError) as error:
        problem, hint = _explain_syntax(path, error)
        raise ConfigError(f"the OCI configuration file {path} cannot be parsed: {problem}", hint=hint) from error
    if profile == DEFAULT_PROFILE and path.is_file():
        sections = _read_sections(path)
        if sections.sections() and not sections.defaults():  # for the SDK, [DEFAULT] always exists
            raise _explain_missing_profile(path, profile)
    return fields


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long, or in a folder without permission
        return False


def _read_sections(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(path)
    return parser


def _explain_missing_profile(path: Path, profile: str) -> ConfigError:
    sections = _read_sections(path)
    names = ([DEFAULT_PROFILE] if sections.defaults() else []) + sections.sections()
    other = next((name for name in names if name.lower() == profile.lower()), None)
    hint = "name one of these with --profile"
    if other is not None:
        hint = f"upper and lower case count: rename [{other}] to [{profile}], or use --profile {shlex.quote(other)}"
    return ConfigError(
        f"the OCI configuration file {path} has no profile {profile!r}; it has {', '.join(names) or 'none'}", hint=hint
    )


def _explain_key_path(text: str) -> str:
    """Return why `key_file` names no file, with the path that was tried unless the field holds a key."""
    if "-----BEGIN" in text or "\n" in text:
        return "key_file names no file: it holds the text of a key; save that as a file and name its path"
    path = expand_path(text)
    problem = "is not a file" if _exists(path) else "does not exist"
    return f"key_file names no file: {path.absolute()} {problem}{explain_value(text)}"


def _explain_syntax(path: Path, error: Exception) -> tuple[str, str | None]:
    """Return what is wrong with the file, and what to type, without a line of it."""
    encoding = _explain_encoding(path)
    if encoding is not None:
        return encoding
    match error:
        case configparser.DuplicateSectionError():
            return f"line {error.lineno} repeats the section [{error.section}]", "merge the two, or rename one"
        case configparser.DuplicateOptionError():
            field = error.option if error.option in _FIELDS else "a field"
            return f"line {error.lineno} repeats {field} in [{error.section}]", "remove one of the two lines"
        case configparser.MissingSectionHeaderError():
            return f"line {error.lineno} comes before any [section]", "begin the file with the line [DEFAULT]"
        case configparser.ParsingError():
            return f"line {error.errors[0][0]} is not of the form name=value", None
        case configparser.Error():
            return type(error).__name__, None
        case _ if "key_content" in str(error):
            return "key_content is not allowed in a file", _KEY_CONTENT_HINT
        case _ if "True/False" in str(error):
            return "log_requests is neither true nor false", "remove the line log_requests=…"
        case _:
            return str(error).splitlines()[0], None


def _explain_encoding(path: Path) -> tuple[str, str] | None:
    """Return which encoding the file has and how to convert it; None if it is UTF-8."""
    data = path.read_bytes()
    if data.startswith(codecs.BOM_UTF8):
        return "it begins with a byte order mark", "save it as UTF-8 without BOM"
    encoding = None
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "UTF-16"
    elif b"\0" in data[:2]:  # the file begins with an ASCII character, such as [
        encoding = "UTF-16BE" if data[:1] == b"\0" else "UTF-16LE"
    if encoding is not None:
        return (
            "it is encoded in UTF-16, as Windows PowerShell writes files",
            f"convert it: iconv -f {encoding} -t UTF-8 {shlex.quote(str(path))} > config.utf8",
        )
    try:
        data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return f"line {line} is not UTF-8", "save it as UTF-8"
    return None


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
