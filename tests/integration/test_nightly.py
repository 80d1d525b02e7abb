"""Exports from cron, night after night: whole days without holes, and what becomes of a night that did not finish."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ociaudit.client.signer import Credentials
from ociaudit.errors import UsageError
from ociaudit.operations.context import Callbacks, ExportOptions
from ociaudit.operations.export import ExportResult
from ociaudit.operations.resume import ResumeOptions
from support.clocks import NoWaitClock
from support.emulator import Emulator
from support.exports import export_here, make_tools, read_manifest
from support.run_directories import list_requests
from support.truth import find_compartment, list_events, write_array

REGION = "us-ashburn-1"
FLAGS = ("--retention-days", "36500", "--events-per-day", "100")
FIRST_NIGHT = datetime(2025, 6, 10, 0, 20, tzinfo=UTC)
# Rejected without a retry.
BROKEN = {"operation": "ListEvents", "times": 1, "fault": {"kind": "status", "status": 400}}
YESTERDAY = ExportOptions(start="yesterday", end="yesterday", regions=(REGION,), is_subtree=False, compartments=("x",))
LAST_DAY = replace(YESTERDAY, start="1d", end="now", settle="15m")


class StoppedClock(NoWaitClock):
    """A clock that shows one time."""

    def __init__(self, now: datetime) -> None:
        """Keep the time."""
        super().__init__()
        self._now = now

    def now(self) -> datetime:
        """Return the time."""
        return self._now


class PromptCredentials(Credentials):
    """Credentials that sign with the machine's time, which is what the emulator checks signatures against."""

    def sign(self, **facts: Any) -> dict[str, str]:
        """Sign a request as of now."""
        return super().sign(**{**facts, "now_seconds": time.time()})


@dataclass
class Notices(Callbacks):
    """Keeps what is reported."""

    texts: list[str] = field(default_factory=list)

    def on_notice(self, text: str) -> None:
        """Keep it."""
        self.texts.append(text)


@dataclass
class Night:
    """One night: an emulator and a program whose clocks show the same time."""

    emulator: Emulator
    now: datetime
    folder: Path
    notices: list[str] = field(default_factory=list)

    @property
    def compartment(self) -> str:
        """Return the compartment that is exported."""
        return find_compartment(self.emulator, "payments")

    def export(self, options: ExportOptions, name: str, **resume: bool) -> ExportResult:
        """Export into a file of this name or pattern."""
        notices = Notices()
        self.notices = notices.texts
        self.emulator.clear_log()
        context = make_tools(self.emulator, clock=StoppedClock(self.now), callbacks=notices)
        own = {one.name: getattr(context.credentials, one.name) for one in fields(context.credentials)}
        context = replace(context, credentials=PromptCredentials(**own))
        options = replace(options, compartments=(self.compartment,), resume=ResumeOptions(**resume))
        return export_here(options, self.folder / name, context)

    def list_truth(self, start: str, end: str) -> bytes:
        """Return the file that a complete export of a range is."""
        return write_array(list_events(self.emulator, start, end, regions=[REGION], compartments=[self.compartment]))


@contextmanager
def at(now: datetime, folder: Path) -> Iterator[Night]:
    """Start a night."""
    with Emulator("--now", now.strftime("%Y-%m-%dT%H:%M:%SZ"), *FLAGS) as emulator:
        yield Night(emulator, now, folder)


def list_names(folder: Path) -> list[str]:
    """Return the names of outputs and run directories."""
    names = [path.name for path in folder.iterdir() if "manifest" not in path.name]
    return sorted(name for name in names if name.endswith((".json", ".run")))


def test_nights_of_yesterday_are_whole_days_without_holes(tmp_path: Path) -> None:
    """`yesterday` from 00:15 UTC gives one final file for each day, and the days meet."""
    ranges = []
    for number, minutes in enumerate((0, 3, -5)):  # cron is not exact
        with at(FIRST_NIGHT + timedelta(days=number, minutes=minutes), tmp_path) as night:
            result = night.export(YESTERDAY, "audit-{start}.json")
            assert result.complete
            assert not result.manifest.provisional
            found = read_manifest(result.output)["range"]
            ranges.append((found["start"], found["end"]))
            assert result.output.read_bytes() == night.list_truth(*ranges[-1])
    assert ranges == [(f"2025-06-{day:02}T00:00:00Z", f"2025-06-{day + 1:02}T00:00:00Z") for day in (9, 10, 11)]
    assert list_names(tmp_path) == ["audit-2025-06-09.json", "audit-2025-06-10.json", "audit-2025-06-11.json"]


def test_a_night_that_is_too_early_is_completed_later(tmp_path: Path) -> None:
    """At 00:05 `--settle 15m` leaves the end of the day open, and the same command adds it to the same file."""
    options = replace(YESTERDAY, settle="15m")
    with at(FIRST_NIGHT.replace(minute=5), tmp_path) as night:
        assert night.export(options, "audit-{start}.json").manifest.range.end == "2025-06-09T23:50:00Z"
    with at(FIRST_NIGHT.replace(hour=3), tmp_path) as night:
        result = night.export(options, "audit-{start}.json")
        assert result.complete
        assert result.output.read_bytes() == night.list_truth("2025-06-09T00:00:00Z", "2025-06-10T00:00:00Z")
    assert list_names(tmp_path) == ["audit-2025-06-09.json"]


def leave_a_night(folder: Path, options: ExportOptions, name: str) -> None:
    """Leave a night with a gap and its run directory."""
    with at(FIRST_NIGHT + timedelta(days=1), folder) as night:
        night.emulator.faults([BROKEN])
        result = night.export(options, name)
        assert night.emulator.fault_states()[0]["fired"] == 1
        assert not result.complete


def test_an_unfinished_night_is_finished_by_the_same_command_on_its_day(tmp_path: Path) -> None:
    """Three hours later the same command requests only the gap: `yesterday` still means that day."""
    leave_a_night(tmp_path, YESTERDAY, "audit-{start}.json")
    with at(FIRST_NIGHT + timedelta(days=1, hours=3), tmp_path) as night:
        assert night.export(YESTERDAY, "audit-{start}.json").complete
        assert {one.start for one in list_requests(night.emulator.log())} == {"2025-06-10T00:00:00Z"}
    assert list_names(tmp_path) == ["audit-2025-06-10.json"]


def test_an_unfinished_night_does_not_disturb_the_next(tmp_path: Path) -> None:
    """The next night exports its own day and reports the one before, which its dates finish."""
    leave_a_night(tmp_path, YESTERDAY, "audit-{start}.json")
    with at(FIRST_NIGHT + timedelta(days=2), tmp_path) as night:
        result = night.export(YESTERDAY, "audit-{start}.json")
        assert result.complete
        assert result.output.name == "audit-2025-06-11.json"
        (notice,) = [text for text in night.notices if "is not finished" in text]
        assert f"--start 2025-06-10 --end 2025-06-10 -o {tmp_path / 'audit-2025-06-10.json'}" in notice
        before = replace(YESTERDAY, start="2025-06-10", end="2025-06-10")
        assert night.export(before, "audit-2025-06-10.json").complete
        assert not [text for text in night.notices if "is not finished" in text]
        expected = night.list_truth("2025-06-10T00:00:00Z", "2025-06-11T00:00:00Z")
    assert (tmp_path / "audit-2025-06-10.json").read_bytes() == expected
    assert list_names(tmp_path) == ["audit-2025-06-10.json", "audit-2025-06-11.json"]


@pytest.mark.parametrize("resume", [{}, {"resume": True}])
def test_yesterday_never_resumes_the_wrong_day(tmp_path: Path, resume: dict[str, bool]) -> None:
    """In a file of a fixed name, the unfinished day before is named, and nothing is requested for it."""
    leave_a_night(tmp_path, YESTERDAY, "audit.json")
    with at(FIRST_NIGHT + timedelta(days=2), tmp_path) as night:
        with pytest.raises(UsageError, match="start was 2025-06-10, is 2025-06-11") as caught:
            night.export(YESTERDAY, "audit.json", **resume)
        assert night.emulator.log() == []
        assert "--restart" in caught.value.hint
        result = night.export(YESTERDAY, "audit.json", restart=True)
        assert result.complete
        expected = night.list_truth("2025-06-11T00:00:00Z", "2025-06-12T00:00:00Z")
    assert (tmp_path / "audit.json").read_bytes() == expected


def test_nights_of_the_last_day_need_no_option(tmp_path: Path) -> None:
    """`--start 1d --settle 15m` into a file named after its start is final each night, whatever came before."""
    leave_a_night(tmp_path, LAST_DAY, "nightly-{start}.json")
    names = ["nightly-2025-06-10T0020Z.json", "nightly-2025-06-10T0020Z.json.run"]
    assert list_names(tmp_path) == names
    for number in (2, 3):
        with at(FIRST_NIGHT + timedelta(days=number, minutes=number), tmp_path) as night:
            result = night.export(LAST_DAY, "nightly-{start}.json")
            assert result.complete
            assert not result.manifest.provisional
            names.append(f"nightly-2025-06-{9 + number}T{20 + number:04}Z.json")
            assert result.output.name == names[-1]
            (notice,) = [text for text in night.notices if "is not finished" in text]
            assert f"{tmp_path / names[0]} --resume" in notice
    assert list_names(tmp_path) == sorted(names)


def test_resume_finds_the_night_that_is_left(tmp_path: Path) -> None:
    """`--resume` finishes the one run that the pattern has left, with its own range and name."""
    leave_a_night(tmp_path, LAST_DAY, "nightly-{start}.json")
    with at(FIRST_NIGHT + timedelta(days=2, minutes=7), tmp_path) as night:
        result = night.export(LAST_DAY, "nightly-{start}.json", resume=True)
        assert result.complete
        expected = night.list_truth("2025-06-10T00:20:00Z", "2025-06-11T00:05:00Z")
    assert (tmp_path / "nightly-2025-06-10T0020Z.json").read_bytes() == expected
    assert list_names(tmp_path) == ["nightly-2025-06-10T0020Z.json"]


def test_resume_does_not_choose_between_two_nights(tmp_path: Path) -> None:
    """With two unfinished runs `--resume` names both, and requests nothing."""
    leave_a_night(tmp_path, LAST_DAY, "nightly-{start}.json")
    run = tmp_path / "nightly-2025-06-10T0020Z.json.run"
    (tmp_path / "nightly-2025-06-09T0020Z.json.run").mkdir()
    (tmp_path / "nightly-2025-06-09T0020Z.json.run" / "plan.json").write_bytes((run / "plan.json").read_bytes())
    with at(FIRST_NIGHT + timedelta(days=2), tmp_path) as night:
        with pytest.raises(UsageError, match=r"2 runs can be resumed: .*06-09.*06-10"):
            night.export(LAST_DAY, "nightly-{start}.json", resume=True)
        assert night.emulator.log() == []


def test_a_night_that_cannot_be_resumed_is_explained(tmp_path: Path) -> None:
    """A damaged leftover does not stop the next night, and the notice says how to remove it."""
    leave_a_night(tmp_path, LAST_DAY, "nightly-{start}.json")
    run = tmp_path / "nightly-2025-06-10T0020Z.json.run"
    (run / "plan.json").write_text("{}")
    with at(FIRST_NIGHT + timedelta(days=2), tmp_path) as night:
        assert night.export(LAST_DAY, "nightly-{start}.json").complete
        (notice,) = [text for text in night.notices if "cannot be resumed" in text]
        assert f"rm -r {run}" in notice


def test_a_manifest_is_named_after_its_night(tmp_path: Path) -> None:
    """`{start}` is filled in in the name of the manifest too."""
    with at(FIRST_NIGHT, tmp_path) as night:
        options = replace(YESTERDAY, manifest=tmp_path / "statement-{start}.json")
        result = night.export(options, "audit-{start}.json")
    assert result.manifest_path == tmp_path / "statement-2025-06-09.json"
    assert result.manifest_path.exists()
