from pathlib import Path

import pytest

from ociaudit.cli.waivers import read_waivers
from ociaudit.errors import UsageError

A, B = "ocid1.compartment.oc1..aaaa", "ocid1.compartment.oc1..bbbb"


def test_waivers_come_from_arguments_and_files(tmp_path: Path) -> None:
    """OCIDs as they are, and the lines of files without comments, empty lines and white space."""
    path = tmp_path / "waived"
    path.write_text(f"# known\n\n  {B}  # the vault\r\n\n#\n")
    assert read_waivers([A, str(path)]) == (A, B)
    assert read_waivers([]) == ()


@pytest.mark.parametrize("content", [b"\xff", b"not an ocid\n", f"{A} {B}\n".encode(), b"ocid1.user.oc1..aaaa\n"])
def test_a_line_that_is_no_ocid_is_refused(tmp_path: Path, content: bytes) -> None:
    """A waiver that waives nothing would be missed in silence."""
    path = tmp_path / "waived"
    path.write_bytes(content)
    with pytest.raises(UsageError):
        read_waivers([str(path)])


@pytest.mark.parametrize("argument", ["nothing", ".", "", "ocid1.", "ocid1.user.oc1..aaaa"])
def test_what_is_neither_ocid_nor_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argument: str
) -> None:
    """A misspelt name of a file, a folder, or an OCID of another kind."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError):
        read_waivers([argument])
