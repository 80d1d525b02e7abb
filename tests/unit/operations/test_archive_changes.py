"""Import and pruning: what is added once, what counts as covered, what goes, and what is refused before any change."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ociaudit.archive.commit import Commit, Compartment, ScopeChange
from ociaudit.archive.commit_log import CommitLog, lock_archive
from ociaudit.archive.inputs import open_input
from ociaudit.archive.reader import open_archive
from ociaudit.archive.segments import check_segment, read_date
from ociaudit.archive.state import plan_asks
from ociaudit.cli.archive_commands import describe_status
from ociaudit.cli.tail_commands import describe_import
from ociaudit.errors import CorruptRun, DiskError, UnreadableInput, UsageError
from ociaudit.operations.archive_changes import ImportResult, import_files, prune_archive
from ociaudit.operations.context import Callbacks, ExportOptions
from ociaudit.operations.status import make_status
from ociaudit.planning.shard import MINUTES_PER_DAY, Target, Window, floor_minute, format_minute
from ociaudit.storage.manifest import decode_manifest, encode_manifest, name_manifest
from ociaudit.storage.verdict import VerdictKind
from support.clocks import NoWaitClock
from support.emulator import Emulator
from support.event_archives import TARGET, EventArchive, make_event
from support.exports import export_here, make_tools

REGION = "us-ashburn-1"
START, END = "2025-12-01", "2025-12-03"


class Stopped(NoWaitClock):
    """A clock that shows one time, later than the real exports of these tests whenever they run."""

    def now(self) -> datetime:
        """Return the time."""
        return datetime(2090, 11, 29, 12, tzinfo=UTC)


class Notices(Callbacks):
    """Keeps what is reported."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def on_notice(self, text: str) -> None:
        """Keep a notice."""
        self.texts.append(text)


@pytest.fixture(scope="module")
def emulator():
    """A service that keeps every day."""
    with Emulator("--retention-days", "36500", "--events-per-day", "60") as emulator:
        yield emulator


@pytest.fixture(scope="module")
def exports(emulator, tmp_path_factory) -> dict[str, Path]:
    """Exports of the same days: whole, filtered, redacted, in another shape, and by event time."""
    folder = tmp_path_factory.mktemp("exports")
    whole = ExportOptions(start=START, end=END, regions=(REGION,))
    kinds = {
        "whole": whole,
        "filtered": replace(whole, event_types=("Login",)),
        "redacted": replace(whole, redact=True),
        "sdk": replace(whole, shape="sdk"),
        "event-time": replace(whole, time_basis="event-time", late="2h"),
        "gz": whole,
        "parquet": whole,
        "origin": replace(whole, with_origin=True),
    }
    suffixes = {"gz": ".json.gz", "parquet": ".parquet"}
    found = {}
    for name, options in kinds.items():
        found[name] = folder / f"{name}{suffixes.get(name, '.json')}"
        export_here(options, found[name], make_tools(emulator))
    return found


def run(archive: Path, *files: Path, **options: Any) -> ImportResult:
    """Import files at a fixed time."""
    return import_files(archive, files, clock=Stopped(), **options)


def read_all(archive: Path, tmp_path: Path) -> list[bytes]:
    """Return all events of an archive, checked segment by segment."""
    view = open_archive(archive)
    scratch = tmp_path / "scratch"
    scratch.mkdir(mode=0o700, exist_ok=True)
    for entry in view.state.segments.values():
        check_segment(archive, entry)
    return [
        record.raw
        for entries in view.state.group_segments().values()
        for record in read_date(archive, entries, scratch=scratch)
    ]


def read_lines(path: Path) -> list[bytes]:
    """Return the events of an export in JSON."""
    return [line.rstrip(b",") for line in path.read_bytes().splitlines()[1:-1]]


def list_files(path: Path) -> list[str]:
    """Return the paths of all files below a folder."""
    return sorted(str(one.relative_to(path)) for one in path.rglob("*") if one.is_file())


def test_an_export_creates_an_archive_that_holds_its_events_and_its_coverage(exports, tmp_path) -> None:
    """From a whole export comes an archive with exactly its events, whose covered minutes are those of its manifest."""
    archive = tmp_path / "archive"
    result = run(archive, exports["whole"])
    assert result.is_new
    assert result.commit is not None
    assert read_all(archive, tmp_path) == read_lines(exports["whole"])
    view = open_archive(archive)
    manifest = decode_manifest(name_manifest(exports["whole"]).read_bytes(), where="")
    assert view.header.tenancy == manifest.asked_by.tenancy
    for entry in manifest.coverage:
        spans = view.state.targets[entry.target].coverage.spans
        assert tuple(Window(span.start, span.end) for span in spans) == entry.coverage.windows
        ahead = timedelta(seconds=max(0.0, manifest.clock_skew_seconds or 0.0))
        began = floor_minute(datetime.fromisoformat(manifest.started_at) - ahead)
        assert {span.asked_at for span in spans} == ({began} if entry.windows else set())
    assert (view.state.start, view.state.end) == (manifest.window.start, manifest.window.end)
    week = MINUTES_PER_DAY * 7
    assert view.select().judge().final_from == format_minute(manifest.window.end - 1 + week + 15), (
        "as the first sync would do"
    )
    assert result.commit.kind == "import"
    assert result.commit.sources == (f"sha256:{manifest.output.sha256} whole.json",)
    sidecar = view.folder.tail_path(1).read_bytes()
    assert len(sidecar) > 32 * result.added


@pytest.mark.parametrize("kind", ["whole", "gz", "parquet", "origin"])
def test_the_same_export_again_changes_nothing(exports, tmp_path, kind) -> None:
    """In whatever format an export comes, a second import of its events adds none and makes no commit."""
    archive = tmp_path / "archive"
    run(archive, exports["whole"])
    before = list_files(archive)
    result = run(archive, exports[kind])
    assert (result.added, result.covered_minutes, result.commit) == (0, 0, None)
    assert list_files(archive) == before


def test_the_screen_of_an_import_says_what_counts(exports, tmp_path) -> None:
    """A manifest with gaps is not called whole; coverage has a unit; an archive that was created is not as before."""
    archive = tmp_path / "archive"
    result = run(archive, exports["whole"])
    (file,) = result.files
    assert file.manifest is not None
    for gaps in ((), (object(),)):
        result.files = (replace(file, manifest=msgspec.structs.replace(file.manifest, gaps=gaps, waived_gaps=())),)
        lines = list(describe_import(result, archive, is_dry_run=False))
        assert lines[0].endswith(": its coverage counts" if gaps else ": whole, its coverage counts")
    assert f"coverage grew by {result.covered_minutes:,} target-minutes" in lines
    empty = ImportResult(result.files, is_new=True)
    assert f"{archive} was created and is empty" in list(describe_import(empty, archive, is_dry_run=False))[-1]
    empty.is_new = False
    assert "nothing was new" in list(describe_import(empty, archive, is_dry_run=False))[-1]


def test_origins_come_from_the_ledger(exports, tmp_path) -> None:
    """Every event of an export has its region and compartment in the archive, though its file does not state them."""
    run(tmp_path / "archive", exports["whole"])
    view = open_archive(tmp_path / "archive")
    (tmp_path / "s").mkdir(mode=0o700)
    for entries in view.state.group_segments().values():
        for record in read_date(tmp_path / "archive", entries, scratch=tmp_path / "s"):
            assert record.origin is not None
            assert record.origin.region == REGION


@pytest.mark.parametrize(
    ("kind", "words"), [("filtered", "filtered"), ("sdk", "shape sdk"), ("event-time", "event time")]
)
def test_a_partial_export_adds_events_and_no_coverage(exports, tmp_path, kind, words) -> None:
    """Where events of the windows are missing or not as served, events count and coverage does not."""
    archive = tmp_path / "archive"
    result = run(archive, exports[kind])
    assert words in result.files[0].why_not
    assert result.added == len(read_lines(exports[kind])) > 0
    assert result.covered_minutes == 0
    assert not any(one.coverage.spans for one in open_archive(archive).state.targets.values())


def test_coverage_is_what_a_sync_does_not_ask_again(exports, tmp_path) -> None:
    """After an import, only what the export did not cover is planned: here nothing but what follows it."""
    run(tmp_path / "archive", exports["whole"])
    state = open_archive(tmp_path / "archive").state
    target = next(one for one in state.targets if state.targets[one].coverage.spans)
    now = floor_minute(Stopped().now())
    asks = plan_asks(state, now=now, settle=15, due=(120,), retention_start=0, targets=[target])
    assert asks == {target: (Window(state.end, now - 15),)}


def test_a_clock_that_was_ahead_does_not_make_the_future_covered(exports, tmp_path) -> None:
    """An export that claims to have begun later than now counts as asked now."""
    copy = tmp_path / "later.json"
    copy_export(exports["whole"], copy, started_at="2091-01-01T00:00:00Z")
    run(tmp_path / "archive", copy)
    state = open_archive(tmp_path / "archive").state
    asked = {span.asked_at for one in state.targets.values() for span in one.coverage.spans}
    assert asked == {floor_minute(Stopped().now())}


def copy_export(path: Path, copy: Path, **changes: Any) -> None:
    """Copy an export with its ledger; its manifest is written again with changes."""
    copy.write_bytes(path.read_bytes())
    manifest = decode_manifest(name_manifest(path).read_bytes(), where="")
    names = {
        "output": msgspec.structs.replace(manifest.output, name=copy.name),
        "ledger": msgspec.structs.replace(manifest.ledger, name=f"{copy.name}.ledger.ndjson"),
    }
    (copy.parent / f"{copy.name}.ledger.ndjson").write_bytes((path.parent / manifest.ledger.name).read_bytes())
    name_manifest(copy).write_bytes(encode_manifest(msgspec.structs.replace(manifest, **{**names, **changes}))[0])


def test_a_foreign_file_adds_what_is_new(exports, tmp_path) -> None:
    """A file of Oracle's CLI adds the events that the archive lacks, each once, with a smaller origin kept."""
    archive = tmp_path / "archive"
    run(archive, exports["whole"])
    lines = read_lines(exports["whole"])
    new = [make_event(number) for number in range(5)]
    foreign = tmp_path / "foreign.ndjson.gz"
    foreign.write_bytes(gzip.compress(b"\n".join([*lines[:20], *new, *new]) + b"\n"))
    result = run(archive, foreign)
    assert result.commit is not None
    assert (result.read, result.added) == (30, 5)
    assert (result.commit.counts.known, result.commit.counts.identical) == (20, 5)
    assert result.commit.counts.received == 30
    assert sorted(read_all(archive, tmp_path)) == sorted([*lines, *new])
    assert result.covered_minutes == 0


def test_an_archive_of_imported_events_alone_has_no_range(exports, tmp_path) -> None:
    """Where nothing states coverage, no time is named."""
    archive, partial = tmp_path / "archive", exports["filtered"]
    run(archive, partial)
    found = open_archive(archive)
    lines = list(describe_status(make_status(found, now=datetime(2026, 3, 1, tzinfo=UTC)), None))
    assert lines[0] == "INCOMPLETE: nothing was requested yet"
    assert not [line for line in lines if "1970" in line or "1969" in line]
    facts = open_input(archive).read_facts()
    assert (facts.start, facts.end) == (None, None)


def test_a_dry_run_counts_the_same_and_changes_nothing(exports, tmp_path) -> None:
    """What a dry run announces is what the import then does."""
    archive = tmp_path / "archive"
    announced = run(archive, exports["whole"], is_dry_run=True)
    assert not archive.exists()
    done = run(archive, exports["whole"])
    assert (announced.added, announced.added_by_date, announced.covered_minutes) == (
        done.added,
        done.added_by_date,
        done.covered_minutes,
    )
    before = list_files(archive)
    foreign = tmp_path / "more.ndjson"
    foreign.write_bytes(read_lines(exports["whole"])[0] + b"\n" + make_event(1) + b"\n")
    announced = run(archive, foreign, is_dry_run=True)
    assert announced.added == 1
    assert list_files(archive) == before
    assert run(archive, foreign).added == 1


def test_a_dry_run_knows_records_in_other_bytes(tmp_path) -> None:
    """A record that the archive has in other bytes is not announced as new; one that differs in value is."""
    archive = EventArchive(tmp_path / "archive")
    archive.add([make_event(1), make_event(2), make_event(3, date="2025-12-02")])
    larger, smaller = make_event(1).replace(b": ", b":  "), make_event(2).replace(b": ", b":")
    other = [make_event(1, text="other"), make_event(4), make_event(5, date="2025-12-03")]
    foreign = tmp_path / "more.ndjson"
    foreign.write_bytes(b"".join(raw + b"\n" for raw in [larger, smaller, make_event(3, date="2025-12-02"), *other]))
    announced = run(archive.path, foreign, is_dry_run=True)
    done = run(archive.path, foreign)
    assert announced.added == done.added == 3
    assert announced.added_by_date == done.added_by_date == {"2025-12-01": 2, "2025-12-03": 1}


def test_an_import_without_space_changes_nothing(tmp_path, monkeypatch) -> None:
    """Where the disk has less space than the files need, the import ends before it writes, and says how much it is."""
    archive = EventArchive(tmp_path / "archive")
    archive.add([make_event(1)])
    foreign = tmp_path / "more.ndjson"
    foreign.write_bytes(make_event(2) + b"\n")
    before = list_files(archive.path)
    free = shutil.disk_usage(tmp_path)._replace(free=256 * 2**20 + foreign.stat().st_size - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(DiskError, match=r"has 256 MiB left, and this import needs 256 MiB"):
        run(archive.path, foreign)
    assert list_files(archive.path) == before
    free = free._replace(free=free.free + 1)
    assert run(archive.path, foreign).added == 1


@pytest.mark.parametrize("change", ["event", "manifest", "ledger", "truncated"])
def test_an_altered_export_is_refused(exports, tmp_path, change) -> None:
    """One changed byte in the file, its manifest or its ledger ends the import before the archive exists."""
    copy = tmp_path / "copy.json"
    copy_export(exports["whole"], copy)
    path = {"manifest": name_manifest(copy), "ledger": tmp_path / "copy.json.ledger.ndjson"}.get(change, copy)
    data = bytearray(path.read_bytes())
    if change == "truncated":
        del data[-40:]
    else:
        at = data.index(b"2025-12-01")
        data[at : at + 10] = b"2025-12-02"
    path.write_bytes(data)
    with pytest.raises(CorruptRun, match="altered"):
        run(tmp_path / "archive", copy)
    assert not (tmp_path / "archive").exists()


def test_what_cannot_be_imported_is_refused_by_name(exports, tmp_path) -> None:
    """Redacted, of another tenancy, foreign without an archive, no file, no events: each has a sentence of its own."""
    archive = tmp_path / "archive"
    foreign = tmp_path / "foreign.ndjson"
    foreign.write_bytes(make_event(1) + b"\n")
    with pytest.raises(UsageError, match="redacted"):
        run(archive, exports["redacted"])
    with pytest.raises(UsageError, match="says whose events"):
        run(archive, foreign)
    with pytest.raises(UsageError, match="does not exist"):
        run(archive, tmp_path / "missing.json")
    with pytest.raises(UsageError, match="folder"):
        run(archive, tmp_path)
    with pytest.raises(UsageError, match="same file"):
        run(archive, exports["whole"], exports["whole"])
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="plain file"):
        run(archive, tmp_path / "pipe")
    assert not archive.exists()
    EventArchive(tmp_path / "other")
    with pytest.raises(UsageError, match="of the tenancy"):
        run(tmp_path / "other", exports["whole"])
    with pytest.raises(UsageError, match="is an archive, not a file of events") as refused:
        run(archive, tmp_path / "other")
    assert "oci-audit convert" in (refused.value.hint or "")
    (tmp_path / "note.txt").write_text("no events")
    with pytest.raises(UnreadableInput):
        run(tmp_path / "other", tmp_path / "note.txt")
    (tmp_path / "mixed.ndjson").write_bytes(foreign.read_bytes() + b'{"a": 1}\n')
    with pytest.raises(UnreadableInput, match="not audit events"):
        run(tmp_path / "other", tmp_path / "mixed.ndjson")
    with lock_archive(tmp_path / "other"), pytest.raises(UsageError, match="another oci-audit process"):
        run(tmp_path / "other", foreign)
    assert open_archive(tmp_path / "other").state.sequence == 0


def test_a_foreign_file_that_looks_redacted_is_reported(tmp_path) -> None:
    """Without a manifest nobody knows; the mark of a redaction in its events is a notice."""
    archive = EventArchive(tmp_path / "archive").path
    (tmp_path / "a.ndjson").write_bytes(make_event(1, text="(redacted)") + b"\n")
    notices = Notices()
    run(archive, tmp_path / "a.ndjson", callbacks=notices)
    assert any("may have been redacted" in one for one in notices.texts)


def sync_facts(archive: Path, *, start: int, end: int, targets: Sequence[Target]) -> None:
    """Append the commit of a sync that lists these targets and covers everything of them."""
    from ociaudit.archive.commit import Answered
    from support.archives import WRITER

    with lock_archive(archive):
        log = CommitLog.open(archive)
        log.append(
            Commit(
                sequence=log.next_sequence,
                previous=log.previous,
                kind="sync",
                at="2026-03-01T12:31:00Z",
                writer=WRITER,
                run_id="r",
                now=end + 15,
                start=start,
                end=end,
                settle_minutes=15,
                rings=(120,),
                rings_run=(120,),
                retention_days=365,
                scope=ScopeChange(
                    added_regions=tuple({one.region for one in targets}),
                    compartments={one.compartment: Compartment("root", "ACTIVE") for one in targets},
                ),
                answered=(Answered((Window(start, end),)),),
            )
        )


def test_an_older_export_moves_the_start_only_without_a_hole(exports, tmp_path) -> None:
    """What is imported right before the archive's start extends it; with a hole between, the start stays."""
    manifest = decode_manifest(name_manifest(exports["whole"]).read_bytes(), where="")
    targets = [entry.target for entry in manifest.coverage if entry.windows]
    for name, hole in (("touching", 0), ("apart", 1)):
        archive = EventArchive(tmp_path / name, tenancy=manifest.asked_by.tenancy).path
        start = manifest.window.end + hole
        sync_facts(archive, start=start, end=start + 1440, targets=targets)
        since = {one.since for one in open_archive(archive).state.targets.values()}
        result = run(archive, exports["whole"])
        state = open_archive(archive).state
        assert state.start == (start if hole else manifest.window.start)
        assert result.covered_minutes == manifest.window.minutes * len(targets)
        assert {one.since for one in state.targets.values()} <= {*since, state.start}
        assert not any(one.lost for one in state.targets.values())


def test_targets_that_the_archive_does_not_follow_stay_out(exports, tmp_path) -> None:
    """Coverage of a target that no sync has listed is left out, and counted; its events are added all the same."""
    manifest = decode_manifest(name_manifest(exports["whole"]).read_bytes(), where="")
    archive = EventArchive(tmp_path / "archive", tenancy=manifest.asked_by.tenancy).path
    sync_facts(archive, start=manifest.window.end, end=manifest.window.end + 60, targets=[TARGET])
    result = run(archive, exports["whole"])
    assert result.skipped_targets == sum(bool(entry.windows) for entry in manifest.coverage)
    assert result.covered_minutes == 0
    assert result.added == manifest.totals.written
    assert set(open_archive(archive).state.targets) == {TARGET}


# --- prune


@pytest.fixture
def dated(tmp_path) -> EventArchive:
    """An archive of three dates and an event of unreadable time."""
    archive = EventArchive(tmp_path / "dated")
    for day in ("2025-12-01", "2025-12-02", "2025-12-03"):
        archive.add([make_event(number, date=day) for number in range(10)])
    archive.add([json.dumps({"eventTime": "?", "eventId": "x"}).encode()])
    return archive


def prune(archive: EventArchive, before: str, **options: Any):
    """Prune at a fixed time."""
    return prune_archive(archive.path, before, clock=Stopped(), **{"is_confirmed": True, **options})


def test_without_confirmation_nothing_goes(dated) -> None:
    """The dates, events and bytes that would go are shown, and every file stays."""
    files = list_files(dated.path)
    result = prune(dated, "2025-12-03", is_confirmed=False)
    sizes = [one.size_bytes for one in open_archive(dated.path).state.segments.values() if one.date < "2025-12-03"]
    assert result.dates == ("2025-12-01", "2025-12-02")
    assert (result.events, result.size_bytes, result.commit) == (20, sum(sizes), None)
    assert list_files(dated.path) == files


def test_pruned_dates_go_and_a_commit_says_why(dated, tmp_path) -> None:
    """The dates before go to `replaced/`; later dates and events of unreadable time stay; the chain has the reason."""
    result = prune(dated, "2025-12-03", reason="retention policy 7")
    view = open_archive(dated.path)
    commit = list(view.log.read_commits())[-1]
    assert (commit.kind, commit.reason, commit) == ("prune", "retention policy 7", result.commit)
    assert commit.start == floor_minute(datetime(2025, 12, 3, tzinfo=UTC))
    assert view.state.pruned_before == commit.start
    assert list(view.state.group_segments()) == ["2025-12-03", "unknown"]
    assert len(read_all(dated.path, tmp_path)) == 11
    assert len([one for one in list_files(dated.path) if one.startswith("replaced/")]) == 2
    assert prune(dated, "2025-12-03").is_needed is False


def test_pruned_minutes_are_not_requested_again(dated) -> None:
    """The next sync asks for nothing before the date."""
    start = floor_minute(datetime(2025, 11, 1, tzinfo=UTC))
    sync_facts(dated.path, start=start, end=start + 10, targets=[TARGET])
    prune(dated, "2025-12-03")
    state = open_archive(dated.path).state
    now = floor_minute(datetime(2025, 12, 4, tzinfo=UTC))
    asks = plan_asks(state, now=now, settle=15, due=(120,), retention_start=0, targets=[TARGET])
    assert asks == {TARGET: (Window(state.pruned_before, now - 15),)}


def test_what_was_pruned_is_neither_provisional_nor_covered(dated) -> None:
    """Minutes that no sync will request again do not keep the verdict open, and no comparison counts on them."""
    start, pruned = (floor_minute(datetime(2025, 12, day, tzinfo=UTC)) for day in (2, 4))
    sync_facts(dated.path, start=start, end=pruned, targets=[TARGET])
    before = open_archive(dated.path).select()
    assert before.judge().kind is VerdictKind.COMPLETE_SO_FAR
    assert before.provisional
    assert before.coverage[0].coverage.windows == (Window(start, pruned),)
    prune(dated, "2025-12-03")
    view = open_archive(dated.path).select()
    assert view.coverage[0].coverage.windows == (Window(view.archive.state.pruned_before, pruned),)
    assert view.provisional == before.provisional
    prune(dated, "2025-12-04")
    view = open_archive(dated.path).select()
    assert (view.judge().kind, view.judge().final_until) == (VerdictKind.COMPLETE, None)
    assert view.judge().pruned_before == "2025-12-04T00:00:00Z"
    assert not view.provisional
    assert view.coverage[0].windows == ()


def test_a_late_event_of_a_pruned_date_is_kept_until_the_next_pruning(dated, tmp_path) -> None:
    """What the service shows only later is not dropped unseen; pruning the same date again takes it."""
    prune(dated, "2025-12-03")
    late = make_event(77, date="2025-12-01")
    dated.add([late])
    assert late in read_all(dated.path, tmp_path)
    assert prune(dated, "2025-12-03").events == 1
    assert late not in read_all(dated.path, tmp_path)


@pytest.mark.parametrize(
    ("before", "words"),
    [
        ("yesterday-ish", "not a date"),
        ("2025-13-01", "2025-13-01"),
        ("2025-12", "not a date"),
        ("2091-01-01", "future"),
        ("", "not a date"),
        ("2025-12-01T10:00", "not a date"),
    ],
)
def test_only_whole_dates_of_the_past_can_be_pruned(dated, before, words) -> None:
    """Anything else is refused by name, with or without confirmation."""
    for is_confirmed in (False, True):
        with pytest.raises(UsageError, match=words):
            prune(dated, before, is_confirmed=is_confirmed)


def test_pruning_needs_an_archive_and_the_lock(dated, tmp_path) -> None:
    """A folder that is no archive, or one that another process writes to, is refused."""
    with pytest.raises(UsageError, match="not an archive"):
        prune_archive(tmp_path, "2025-12-03", clock=Stopped(), is_confirmed=True)
    with lock_archive(dated.path), pytest.raises(UsageError, match="another oci-audit process"):
        prune(dated, "2025-12-03")
