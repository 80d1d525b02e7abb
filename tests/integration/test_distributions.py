"""The wheel and the sdist: the same bytes from the same sources, and the locks that they are installed with."""

import hashlib
import re
import tarfile
import zipfile
from pathlib import Path

import pytest

from support.distributions import build_distributions

PIN = re.compile(r"^(?P<name>[a-z0-9][\w.-]*)==(?P<version>\S+)", re.MULTILINE)
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def hash_files(files: dict[str, Path]) -> dict[str, str]:
    """Return the SHA-256 of each file."""
    return {target: hashlib.sha256(path.read_bytes()).hexdigest() for target, path in files.items()}


@pytest.fixture(scope="module")
def built(repository: Path, tmp_path_factory) -> dict[str, Path]:
    """The wheel and the sdist of this checkout."""
    return build_distributions(repository, tmp_path_factory.mktemp("dist"), "wheel", "sdist")


@pytest.fixture(scope="module")
def unpacked(built, tmp_path_factory) -> Path:
    """The source tree of the sdist, in another folder and with other times."""
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(built["sdist"]) as archive:
        archive.extractall(folder, filter="data")
    (tree,) = folder.iterdir()
    for path in tree.rglob("*.py"):
        path.touch()
        path.chmod(path.stat().st_mode & 0o700)
    return tree


def test_the_same_sources_give_the_same_bytes(built, unpacked: Path, tmp_path: Path) -> None:
    """Wheel and sdist have the same hash from the sdist's tree: another folder, time zone, file modes and times."""
    variables = {"TZ": "Asia/Kolkata", "PYTHONHASHSEED": "7", "LC_ALL": "C"}
    again = build_distributions(unpacked, tmp_path, "wheel", "sdist", variables=variables)
    assert hash_files(again) == hash_files(built)


def test_the_time_of_the_commit_is_that_of_the_files(built, unpacked: Path, tmp_path: Path) -> None:
    """SOURCE_DATE_EPOCH decides the bytes: a different one gives a different hash."""
    later = build_distributions(unpacked, tmp_path, "wheel", variables={"SOURCE_DATE_EPOCH": "1798761600"})
    assert hash_files(later)["wheel"] != hash_files(built)["wheel"]


def test_the_wheel_has_the_man_pages_and_the_sdist_the_tests(built) -> None:
    """What a distribution's packager needs is in the sdist; what a user needs is in the wheel, and no tests."""
    names = zipfile.ZipFile(built["wheel"]).namelist()
    assert any(name.endswith(".data/data/share/man/man1/oci-audit.1") for name in names)
    assert not [name for name in names if name.startswith("tests/")]
    with tarfile.open(built["sdist"]) as archive:
        members = {member.partition("/")[2] for member in archive.getnames()}
    assert {"tests/conftest.py", "Makefile", "requirements/runtime.txt", "share/man/man1/oci-audit.1"} <= members
    assert not [member for member in members if member.startswith((".ci", ".venv", "dist/"))]


def read_pins(path: Path) -> dict[str, set[str]]:
    """Return the versions of each package in a lock; there are several where markers choose."""
    pins: dict[str, set[str]] = {}
    for match in PIN.finditer(path.read_text("utf-8")):
        pins.setdefault(match["name"], set()).add(match["version"])
    return pins


@pytest.mark.parametrize("name", ["runtime.txt", "build.txt"])
def test_the_lock_of_the_tests_contains_that_of_the_program(repository: Path, name: str) -> None:
    """dev.txt has the same versions, so that `make test` adds to what `make demo` installed."""
    part, whole = read_pins(repository / "requirements" / name), read_pins(repository / "requirements/dev.txt")
    assert len(part) > 3
    assert {one: versions for one, versions in part.items() if not versions <= whole.get(one, set())} == {}


def test_the_lock_of_the_program_has_no_test_tools(repository: Path) -> None:
    """runtime.txt has every dependency of the wheel, and neither pytest nor the build backend."""
    pins = read_pins(repository / "requirements/runtime.txt")
    assert {"aiohttp", "click", "cryptography", "duckdb", "jinja2", "msgspec", "oci", "rich", "zstandard"} <= set(pins)
    assert set(pins) & {"hatchling", "hypothesis", "mypy", "pandas", "playwright", "pytest", "ruff"} == set()


def test_every_lock_has_hashes_and_no_address(repository: Path) -> None:
    """Each package of each lock has its hashes, and no lock names an index."""
    locks = sorted((repository / "requirements").glob("*.txt"))
    assert {path.stem for path in locks} == {"build", "contract", "dev", "release", "runtime", "spark"}
    for path in locks:
        text = path.read_text("utf-8")
        packages = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
        assert packages
        assert all(HASH.search(one) for one in packages)
        assert "://" not in text
