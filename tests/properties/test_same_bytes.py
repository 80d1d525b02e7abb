"""An export has the same bytes, whatever the service's paging and the lengths of the windows."""

import contextlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ociaudit.operations.context import ExportOptions
from support.emulator import Emulator
from support.exports import export_here, make_tools

SERVICES = {
    "small pages": ("--page-size", "7"),
    "pages of many sizes": ("--page-size", "20-150"),
    "one page": ("--page-size", "5000"),
    "in order": ("--page-size", "50", "--no-shuffle"),
}
OPTIONS = ExportOptions(start="2025-06-02", end="2025-06-05", regions=("us-ashburn-1",))


@pytest.fixture(scope="module")
def services():
    """Serve the same tenancy in several ways."""
    with contextlib.ExitStack() as stack:
        flags = ("--retention-days", "36500", "--events-per-day", "300")
        yield {name: stack.enter_context(Emulator(*flags, *more)) for name, more in SERVICES.items()}


@pytest.fixture(scope="module")
def hashes() -> set[str]:
    """Return the set of hashes so far; every export must add the same one."""
    return set()


@settings(max_examples=10)
@given(service=st.sampled_from(sorted(SERVICES)), days=st.integers(1, 14))
def test_the_same_range_has_the_same_bytes(services, hashes, service: str, days: int) -> None:
    """The output does not depend on page size, order within pages or window length."""
    with tempfile.TemporaryDirectory() as folder:
        outcome = export_here(OPTIONS, Path(folder) / "audit.json", make_tools(services[service]), max_window_days=days)
    assert outcome.events > 100
    hashes.add(outcome.manifest.output.sha256)
    assert len(hashes) == 1
