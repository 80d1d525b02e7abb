"""The Delta log of an archive, read by delta-rs and Polars: exact rows, one entry per commit, healed and rebuilt."""

from __future__ import annotations

import builtins
import json
import shutil
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

from ociaudit.archive import delta as delta_module
from ociaudit.archive.commit_log import CommitLog, lock_archive
from ociaudit.archive.delta import check_delta, update_delta
from ociaudit.archive.reader import open_archive
from ociaudit.clock import SystemClock
from ociaudit.errors import CorruptRun, DiskError, UsageError
from ociaudit.formats.parquet import SEGMENT_COLUMNS
from ociaudit.operations.archive_changes import prune_archive
from ociaudit.operations.verify import verify_archive
from support.event_archives import EventArchive, make_event

pytestmark = pytest.mark.usefixtures("quick_disk")
DATE, NEXT = "2025-12-01", "2025-12-02"


@pytest.fixture
def archive(tmp_path) -> EventArchive:
    """An archive of two commits, with a Delta log."""
    archive = EventArchive(tmp_path / "archive")
    archive.add([make_event(number) for number in range(10)])
    archive.add([make_event(number, date=NEXT) for number in range(10)] + [b'{"eventTime":"?","eventId":"x"}'])
    update(archive)
    return archive


def update(archive: EventArchive) -> int:
    """Bring the log up to date under the lock, as a sync does at its end."""
    with lock_archive(archive.path):
        return update_delta(CommitLog.open(archive.path), open_archive(archive.path).state)


def test_verification_knows_the_log(archive) -> None:
    """An archive with a Delta log is consistent, and a note says that the log is not checked; other files are found."""
    found = verify_archive(archive.path)
    assert found.problems == []
    assert any("Delta log" in note for note in found.notes)
    for name in ("x.parquet", "00000000000000000000.checkpoint.parquet", f"{'0' * 19}a.json"):
        surplus = archive.path / "events" / "_delta_log" / name
        surplus.write_bytes(b"x")
        assert [one.file for one in verify_archive(archive.path).problems] == [f"events/_delta_log/{name}"]
        surplus.unlink()


def read_ids(archive: EventArchive) -> list[str]:
    """Return the hashes of the events that both engines see; they must agree."""
    events = archive.path / "events"
    by_polars = pl.read_delta(str(events))["event_sha256"].to_list()
    by_delta = DeltaTable(events).to_pyarrow_table(columns=["event_sha256"])["event_sha256"].to_pylist()
    assert sorted(by_polars) == sorted(by_delta)
    return sorted(by_polars)


def read_live(archive: EventArchive) -> list[str]:
    """Return the hashes of the events in the archive's live segments."""
    live = open_archive(archive.path).state.segments
    files = [str(archive.path / one) for one in live]
    found = duckdb.execute("SELECT event_sha256 FROM read_parquet(?, hive_partitioning = false)", [files])
    return sorted(row[0] for row in found.fetchall())


def read_entry(archive: EventArchive, version: int) -> list[dict[str, Any]]:
    """Return the actions of an entry."""
    path = archive.path / "events/_delta_log" / f"{version:020}.json"
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_engines_see_the_rows_of_the_archive(archive) -> None:
    """delta-rs and Polars give each row once, with the columns of the segments, their types and the date."""
    assert read_ids(archive) == read_live(archive)
    frame = pl.read_delta(str(archive.path / "events"))
    assert frame.columns == [*(one.name for one in SEGMENT_COLUMNS), "event_date"]
    assert frame.schema["event_time"] == pl.Datetime("us", "UTC")
    assert sorted(set(frame["event_date"])) == [DATE, NEXT, "unknown"]
    table = DeltaTable(archive.path / "events")
    assert (table.version(), table.transaction_version(open_archive(archive.path).header.id)) == (0, 2)


def test_every_commit_becomes_one_entry_and_none_comes_twice(archive) -> None:
    """Commits since the last entry follow in order; calling it again changes nothing."""
    archive.add([make_event(number) for number in range(10, 15)])
    archive.add([make_event(1)])  # adds nothing, so it has no entry
    archive.add([make_event(number) for number in range(15, 20)])
    assert update(archive) == 2
    assert update(archive) == 0
    assert read_ids(archive) == read_live(archive)
    assert [one["add"]["dataChange"] for one in read_entry(archive, 2) if "add" in one] == [True]
    assert [one["txn"]["version"] for one in read_entry(archive, 2) if "txn" in one] == [5]


def test_compaction_changes_no_data(archive) -> None:
    """Compaction removes and adds files in one entry with `dataChange` false; the rows stay the same."""
    archive.add([make_event(number) for number in range(10, 15)])
    archive.compact(DATE)
    assert update(archive) == 2
    assert read_ids(archive) == read_live(archive)
    actions = [action for one in read_entry(archive, 2) for action in one.items()]
    changes = [(name, facts["dataChange"]) for name, facts in actions if name in {"add", "remove"}]
    assert sorted(changes) == [("add", False), ("remove", False), ("remove", False)]


def test_a_rewritten_and_a_pruned_date_leave(archive) -> None:
    """Smaller bytes of an event replace a file, and pruning removes one: both are changes of data."""
    archive.add([make_event(0).replace(b'{"', b'{ "', 1), make_event(70)])
    prune_archive(archive.path, NEXT, clock=SystemClock(), is_confirmed=True)
    assert update(archive) == 2
    assert read_ids(archive) == read_live(archive)
    assert len(read_ids(archive)) == 11
    assert all(one["remove"]["dataChange"] for one in read_entry(archive, 2) if "remove" in one)


def test_a_crash_at_any_entry_is_healed(archive, monkeypatch) -> None:
    """Whether an entry was written or not when the process ended, the next call leaves each row once."""
    for number in range(4):
        archive.add([make_event(number * 10 + 100)])
    create = delta_module.create_exclusively
    for is_written in (False, True):

        def crash(path: Path, data: bytes, *, is_written: bool = is_written) -> bool:
            if is_written:
                create(path, data)
            raise DiskError("the power failed")

        monkeypatch.setattr(delta_module, "create_exclusively", crash)
        with pytest.raises(DiskError, match="power"):
            update(archive)
        monkeypatch.setattr(delta_module, "create_exclusively", create)
    (archive.path / "events/_delta_log/.00000000000000000009.json.abc.partial").write_bytes(b"{")
    assert update(archive) == 3
    assert read_ids(archive) == read_live(archive)
    assert not list((archive.path / "events/_delta_log").glob(".*"))


def test_a_writer_that_is_behind_fails(archive, monkeypatch) -> None:
    """When another process writes the next version first, nothing is written over it."""
    archive.add([make_event(100)])
    real_open = delta_module._open

    def be_slow(events: Path, folder: Path) -> DeltaTable:
        table = real_open(events, folder)
        (folder / f"{1:020}.json").write_text('{"commitInfo":{"timestamp":1}}\n')
        return table

    monkeypatch.setattr(delta_module, "_open", be_slow)
    with pytest.raises(UsageError, match="another program"):
        update(archive)


def test_a_table_that_another_program_changed_is_left_alone(archive) -> None:
    """After a foreign write the log is rejected by name, and the sentence says how to build it again."""
    frame = pl.read_delta(str(archive.path / "events")).head(1).to_arrow()
    write_deltalake(archive.path / "events", frame, mode="append")
    with pytest.raises(CorruptRun, match="another program") as caught:
        update(archive)
    assert "--delta" in caught.value.hint


def test_the_log_is_built_again_from_the_archive(archive) -> None:
    """Without its folder the log comes back in one entry, with the live files alone."""
    archive.add([make_event(number) for number in range(10, 15)])
    archive.compact(DATE)
    update(archive)
    shutil.rmtree(archive.path / "events/_delta_log")
    assert update(archive) == 1
    assert read_ids(archive) == read_live(archive)
    assert DeltaTable(archive.path / "events").version() == 0


@pytest.mark.parametrize("damage", ["garbage", "other", "ahead", "link", "file"])
def test_a_log_that_is_not_ours_is_refused(archive, tmp_path, damage) -> None:
    """Damage, the log of another table, a restored archive, a link: each is named, and nothing is written."""
    folder = archive.path / "events/_delta_log"
    first = folder / f"{0:020}.json"
    if damage == "garbage":
        first.write_text("{")
    elif damage == "other":
        first.write_text(first.read_text().replace(open_archive(archive.path).header.id, "0" * 32))
    elif damage == "ahead":
        first.write_text(first.read_text().replace('"version":2', '"version":3'))
    else:
        shutil.rmtree(folder)
        if damage == "link":
            (tmp_path / "elsewhere").mkdir()
            folder.symlink_to(tmp_path / "elsewhere")
        else:
            folder.write_text("x")
    with pytest.raises(CorruptRun, match="_delta_log"):
        update(archive)
    assert not (tmp_path / "elsewhere").exists() or not list((tmp_path / "elsewhere").iterdir())


def test_recovery_leaves_the_log_alone(archive) -> None:
    """A writer's recovery removes uncommitted segments and nothing of the Delta log."""
    before = {path: path.read_bytes() for path in (archive.path / "events/_delta_log").iterdir()}
    orphan = archive.path / "events" / f"event_date={DATE}" / f"{'0' * 32}.parquet"
    orphan.write_bytes(b"x")
    with lock_archive(archive.path):
        log = CommitLog.open(archive.path)
        assert log.recover(known=open_archive(archive.path).state.segments) != ()
    assert not orphan.exists()
    assert {path: path.read_bytes() for path in (archive.path / "events/_delta_log").iterdir()} == before


def test_a_glob_over_the_segments_does_not_find_the_log(archive) -> None:
    """No checkpoint is written: below `events/` only segments are Parquet files."""
    for number in range(120):
        if number % 12 == 0:
            archive.add([make_event(number + 1000)])
            update(archive)
    assert not list((archive.path / "events/_delta_log").glob("*.parquet"))
    properties = DeltaTable(archive.path / "events").metadata().configuration
    assert properties["delta.deletedFileRetentionDuration"] == "interval 36500 days"


def test_an_archive_without_events_has_no_table_yet(tmp_path) -> None:
    """Before the first event there is nothing to describe; the first sync with one makes the table."""
    archive = EventArchive(tmp_path / "empty")
    assert update(archive) == 0
    archive.add([make_event(1)])
    assert update(archive) == 1
    assert read_ids(archive) == read_live(archive)


def test_without_the_package_the_message_names_it(monkeypatch, tmp_path) -> None:
    """Before any work, `--delta` without deltalake says what to install."""
    real = builtins.__import__

    def refuse(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "deltalake":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UsageError, match="deltalake") as caught:
        check_delta(tmp_path)
    assert "oci-audit-streamer[delta]" in caught.value.hint


def test_a_folder_that_delta_rs_cannot_open_is_refused_early(tmp_path) -> None:
    """delta-rs reads `%41` in a path as `A`; such an archive gets a sentence before any work."""
    with pytest.raises(UsageError, match="percent"):
        check_delta(tmp_path / "an %41")


def test_the_folder_may_have_a_space_in_its_name(tmp_path) -> None:
    """delta-rs reads the table of an archive whose path has spaces, and later entries follow."""
    archive = EventArchive(tmp_path / "my archive")
    for number in range(3):
        archive.add([make_event(number)])
        assert update(archive) == 1
    assert len(DeltaTable(archive.path / "events").to_pyarrow_table()) == 3
