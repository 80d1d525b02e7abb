import contextlib
from pathlib import Path

import oci.config
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ociaudit.client.config_file import (
    DEFAULT_CONFIG_FILE,
    _read_plain_file,
    choose_location,
    list_private_files,
)

NAMES = st.sampled_from(
    [
        "user",
        "USER",
        "tenancy",
        "key_file",
        "pass_phrase",
        "region",
        "log_requests",
        "key_content",
        "other",
        "[DEFAULT]",
    ]
)
VALUES = st.sampled_from(
    ["", "x", " x ", "%(user)s", "ä", "{key}", "{key}/", "~/k", "~nobody/k", "a\0b", "true", "a # b", "'x'", "a\n  b"]
)
LINES = st.one_of(
    st.sampled_from(["[DEFAULT]", "[P]", "[p]", "[Q]", "", "# x", "; x", "junk", "=", "\ufeff", "  indented"]),
    st.builds("{}{}{}".format, NAMES, st.sampled_from(["=", " = ", ":", ""]), VALUES),
)


def make(path: Path, mode: int) -> Path:
    """Create a file with a mode."""
    path.write_text("x")
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("mode", "is_exposed"),
    [(0o600, False), (0o400, False), (0o700, False), (0o640, True), (0o604, True), (0o602, True)],
)
def test_a_file_is_exposed_when_others_may_touch_it(tmp_path: Path, mode: int, is_exposed: bool) -> None:
    """A file is exposed when its group or others may read or write it."""
    config = make(tmp_path / "config", 0o600)
    key = make(tmp_path / "key", mode)
    first, second = list_private_files(config, {"key_file": str(key), "user": "u"})
    assert (first.named_by, first.is_exposed) == ("the configuration file", False)
    assert (second.named_by, second.path, second.is_exposed) == ("key_file", key, is_exposed)


def test_every_field_that_names_a_secret_is_checked(tmp_path: Path) -> None:
    """The files of key, session token and delegation token are listed."""
    fields = {f"{name}_file": str(tmp_path / name) for name in ("key", "security_token", "delegation_token")}
    assert {one.named_by for one in list_private_files(tmp_path, fields)} == {*fields, "the configuration file"}


@pytest.mark.parametrize("name", ["missing", "a\0b", "x" * 5000])
def test_a_file_that_cannot_be_checked_has_a_problem(tmp_path: Path, name: str) -> None:
    """A file without a known mode has a reason, and is not reported as exposed."""
    _, found = list_private_files(tmp_path, {"key_file": str(tmp_path / name)})
    assert found.problem
    assert not found.is_exposed


def test_a_home_directory_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` is expanded, and that of an unknown user is kept."""
    monkeypatch.setenv("HOME", str(tmp_path))
    make(tmp_path / "key", 0o600)
    _, mine = list_private_files(tmp_path, {"key_file": "~/key"})
    _, unknown = list_private_files(tmp_path, {"key_file": "~nobody-at-all/key"})
    assert mine.path == tmp_path / "key"
    assert unknown.problem


@given(lines=st.lists(LINES, max_size=8), profile=st.sampled_from(["DEFAULT", "P", "p", "missing", ""]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_plain_file_is_read_as_by_the_sdk(lines: list[str], profile: str, tmp_path: Path) -> None:
    """What is read without the SDK is what the SDK reads; it reads and judges everything else."""
    key = make(tmp_path / "key", 0o600)
    path = tmp_path / "config"
    path.write_text("\n".join(lines).replace("{key}", str(key)))
    found = _read_plain_file(str(path), profile)
    if found is not None:
        assert found == oci.config.from_file(str(path), profile)


def test_an_ordinary_file_needs_no_sdk(tmp_path: Path) -> None:
    """Profiles with the usual fields are plain; a forbidden field, a lost key or a folder is for the SDK to judge."""
    key = make(tmp_path / "key", 0o600)
    config = tmp_path / "config"
    config.write_text(f"[DEFAULT]\nuser=u\nkey_file={key}\n[P]\nregion=r\n[Q]\nkey_content=x\n[R]\nkey_file={key}/\n")
    assert (_read_plain_file(str(config), "P") or {})["user"] == "u"
    for location, profile in ((config, "Q"), (config, "R"), (config, "S"), (tmp_path, "P"), (f"{config}/", "P")):
        assert _read_plain_file(str(location), profile) is None
        with contextlib.suppress(ValueError, OSError, oci.exceptions.ClientError):
            pytest.fail(f"{oci.config.from_file(str(location), profile)} was read")


def test_the_variable_of_the_sdk_counts_where_the_default_file_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An option precedes the variable of the CLI, that one the default file, and that one the variable of the SDK."""
    monkeypatch.setenv("HOME", str(tmp_path))
    both = {"OCI_CONFIG_FILE": "/sdk", "OCI_CLI_CONFIG_FILE": "/cli"}
    assert choose_location("/option", both) == ("/option", "")
    assert choose_location(None, both) == ("/cli", "OCI_CLI_CONFIG_FILE")
    assert choose_location(None, {"OCI_CONFIG_FILE": "/sdk"}) == ("/sdk", "OCI_CONFIG_FILE")
    (tmp_path / ".oci").mkdir()
    make(tmp_path / ".oci" / "config", 0o600)
    assert choose_location(None, {"OCI_CONFIG_FILE": "/sdk"}) == (DEFAULT_CONFIG_FILE, "")
