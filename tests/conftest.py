"""What holds for every test: it runs on the installed wheel, and hypothesis is told how to behave in CI."""

import filecmp
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]

# Deadlines measure the machine; the suite's own time-out catches what hangs.
settings.register_profile("default", deadline=None)
settings.register_profile(
    "ci", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("soak", deadline=None, max_examples=3_000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci" if os.environ.get("CI") else "default")


def find_installed_packages() -> Path:
    """The folder that the program under test is imported from."""
    try:
        import ociaudit
    except ImportError as error:
        pytest.exit(f"ociaudit is not installed here ({error}): run `make test`", returncode=4)
    return Path(next(iter(ociaudit.__path__))).resolve().parent


def find_stale_files(installed: Path) -> list[str]:
    """The modules of the checkout that differ from the installed ones or are missing there."""
    sources = ROOT / "src"
    names = [path.relative_to(sources).as_posix() for path in sorted(sources.rglob("*.py"))]
    _, differing, missing = filecmp.cmpfiles(sources, installed, names, shallow=False)
    return sorted([*differing, *missing])


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to test a checkout: what users get is the wheel."""
    installed = find_installed_packages()
    if installed.name != "site-packages":
        pytest.exit(
            f"ociaudit was imported from {installed}, and not from a wheel in site-packages: run `make test`",
            returncode=4,
        )


def pytest_report_header() -> list[str]:
    """Say when the installed wheel is not what stands in the checkout."""
    stale = find_stale_files(find_installed_packages())
    if not stale:
        return []
    return [f"warning: the installed wheel is older than src/ ({', '.join(stale[:5])}): `make setup` renews it"]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout: for documents, the bench and the scripts that run from there."""
    return ROOT


@pytest.fixture(scope="session")
def contract_bin() -> Path:
    """The folder of Oracle's own command and of a Python with Oracle's SDK, in their own environment."""
    folder = Path(os.environ.get("OCI_AUDIT_CONTRACT_VENV", ROOT / ".venv-contract")) / "bin"
    if not (folder / "oci").exists():
        pytest.fail(f"{folder}/oci does not exist: run `make setup-contract`", pytrace=False)
    return folder
