"""Promises 1 to 5: the output depends on the events alone, whatever happens during the export."""

import json
import shutil
import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ociaudit.operations.context import Callbacks, ExportOptions
from ociaudit.operations.export import export_events
from ociaudit.operations.verify import verify_export
from ociaudit.planning.shard import Shard
from ociaudit.storage import spool
from support.emulator import Emulator
from support.exports import make_tools
from support.run_directories import list_files
from support.stands import PUBLISHED
from support.truth import find_compartment, join_lines, list_events, sort_events, write_array

REGIONS = ("eu-frankfurt-1", "us-ashburn-1")
START, END = "2025-06-02T00:00:00Z", "2025-06-05T00:00:00Z"
# The same tenancy with very different paging.
PAGINGS = (
    ("--page-size", "7", "--no-shuffle"),
    ("--page-size", "1-40"),
    ("--page-size", "500", "--gzip"),
)
FEW = settings(max_examples=10)


class Content(bytes):
    """A file's bytes, with a short representation for failed tests."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"


class Events(list[bytes]):
    """Events, with a short representation for failed tests."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} events>"


@pytest.fixture(scope="module")
def emulators():
    """Start one emulator for each kind of paging."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(Emulator("--retention-days", "36500", "--events-per-day", "150", *flags))
            for flags in PAGINGS
        ]


@pytest.fixture(scope="module")
def compartments(emulators):
    """Return two compartments, one of them the root with all its special events."""
    return emulators[0].tenancy()["id"], find_compartment(emulators[0], "payments")


@pytest.fixture(scope="module")
def served(emulators, compartments):
    """Return every event that the service holds, as it serves it."""
    return Events(
        event
        for region in REGIONS
        for compartment in compartments
        for event in emulators[0].events(region, compartment, START, END)
    )


@pytest.fixture(scope="module")
def truth(emulators, compartments):
    """Return the file that every export of the range must be."""
    return Content(write_array(list_events(emulators[0], START, END, regions=REGIONS, compartments=compartments)))


@pytest.fixture(scope="module", autouse=True)
def often_committed():
    """Commit every page, so that an image of the disk taken at any time holds some."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "COMMIT_BYTES", 0)
        yield


class KilledError(BaseException):
    """Ends a run; the state of the disk is in the image."""


class CrashAt(Callbacks):
    """Copies the run's folder at a given page, and ends the run there."""

    def __init__(self, page: int, folder: Path, image: Path) -> None:
        self._left, self._folder, self._image = page, folder, image

    def on_page(self, shard: Shard, *, scanned: int, kept: int) -> None:
        self._left -= 1
        if self._left == 0:
            shutil.copytree(self._folder, self._image)
            raise KilledError


def export(emulator, folder: Path, compartments, *, days: int, crash_page: int = 0, image: Path | None = None):
    """Export in this process; after a crash at `crash_page` return None, with the folder copied to `image`."""
    options = ExportOptions(
        start=START,
        end=END,
        regions=REGIONS,
        compartments=tuple(compartments),
        is_subtree=False,
    )
    context = make_tools(emulator)
    if image is not None:
        context = replace(context, callbacks=CrashAt(crash_page, folder, image))
    try:
        return export_events(replace(options, output=folder / "audit.json", max_window_days=days), context)
    except KilledError:
        return None


STEPS = st.lists(
    st.tuples(st.integers(0, len(PAGINGS) - 1), st.integers(1, 3), st.integers(1, 30)), min_size=1, max_size=4
)


@FEW
@given(steps=STEPS)
def test_paging_windows_and_kills_change_no_byte(emulators, compartments, truth, steps):
    """The file is identical byte for byte, whatever the paging, the windows and the crashes, in any order."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "0"
        folder.mkdir()
        outcome = None
        for number, (paging, days, page) in enumerate(steps[:-1], 1):
            image = Path(scratch) / str(number)
            outcome = export(emulators[paging], folder, compartments, days=days, crash_page=page, image=image)
            if outcome is not None:
                break
            folder = image
        if outcome is None:
            paging, days, _ = steps[-1]
            outcome = export(emulators[paging], folder, compartments, days=days)
        assert outcome.complete
        assert (folder / "audit.json").read_bytes() == truth
        assert list_files(folder) == PUBLISHED
        verified = verify_export(folder / "audit.json", manifest_path=outcome.manifest_path)
        assert verified.verdict.kind == "complete"


# A window is restarted at most twice. More page cursors that are rejected, or repeated as that of an empty page is
# here, would make it a gap.
REPEATS = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from(["duplicate_within", "expired_token", "empty_page"])), max_size=6
).filter(lambda hits: sum(kind != "duplicate_within" for _, kind in hits) <= 2)


@FEW
@given(hits=REPEATS, paging=st.integers(0, 1))
def test_nothing_is_missing_or_duplicated(emulators, compartments, served, hits, paging):
    """Every event is written once, as served, and counted, however often the service repeats it."""
    emulator = emulators[paging]
    emulator.clear_faults()
    emulator.clear_log()
    emulator.faults([{"operation": "ListEvents", "skip": skip, "fault": {"kind": kind}} for skip, kind in hits])
    with tempfile.TemporaryDirectory() as scratch:
        outcome = export(emulator, Path(scratch), compartments, days=2)
        written = (Path(scratch) / "audit.json").read_bytes().splitlines()[1:-1]
    emulator.clear_faults()
    lines = [line.removesuffix(b",") for line in written]
    assert outcome.complete
    assert Counter(lines) == Counter(set(map(join_lines, served)))
    assert lines == sort_events(lines)
    totals = outcome.manifest.totals
    assert totals.scanned == totals.written + totals.identical
    assert totals.written == len(lines)


@FEW
@given(days=st.integers(1, 3), broken=st.sets(st.sampled_from(["2025-06-02", "2025-06-03", "2025-06-04"]), min_size=1))
def test_every_rejected_window_is_a_gap(emulators, compartments, days, broken):
    """Coverage and gaps together are exactly the requested range, whatever windows the service rejects."""
    emulator = emulators[0]
    emulator.clear_faults()
    fault = {"kind": "status", "status": 400}
    emulator.faults(
        [
            {"operation": "ListEvents", "match": {"covers": f"{day}T12:00:00Z"}, "times": None, "fault": fault}
            for day in sorted(broken)
        ]
    )
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "audit.json"
        outcome = export(emulator, Path(scratch), compartments, days=days)
        verified = verify_export(output, manifest_path=outcome.manifest_path)
        events = json.loads(output.read_bytes())
    emulator.clear_faults()
    requested = {(region, compartment) for region in REGIONS for compartment in compartments}
    assert {(gap.region, gap.compartment) for gap in outcome.manifest.gaps} == requested
    assert verified.problems == []  # among them would be a minute that is neither covered nor a gap
    assert verified.verdict.kind == "incomplete"
    assert len(events) == outcome.manifest.totals.written
