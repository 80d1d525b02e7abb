"""An archive from a real sync, read by others: the Delta log it keeps, its tail, and an export of the same time."""

from __future__ import annotations

from pathlib import Path

import duckdb
import polars as pl
import pytest
from deltalake import DeltaTable

from ociaudit.archive.reader import open_archive
from ociaudit.operations.archive_changes import import_files
from ociaudit.operations.context import ExportOptions
from ociaudit.operations.sync import SyncOptions, sync_archive
from support.clocks import FastForwardClock
from support.emulator import Emulator
from support.exports import export_here, make_tools
from support.processes import find_command, run_process


@pytest.fixture(scope="module")
def emulator():
    """A service with some events a day."""
    with Emulator("--events-per-day", "60") as emulator:
        yield emulator


def read_live(archive: Path) -> list[str]:
    """Return the hashes of the events in the live segments."""
    files = [str(archive / one) for one in open_archive(archive).state.segments]
    found = duckdb.execute("SELECT event_sha256 FROM read_parquet(?, hive_partitioning = false)", [files])
    return sorted(row[0] for row in found.fetchall())


def test_a_sync_keeps_the_delta_log_and_catches_up(emulator, tmp_path) -> None:
    """The first `--delta` describes what is there; a sync without it leaves the log, and the next one catches up."""
    archive = tmp_path / "archive"
    options = {"archive": archive, "compartments": ()}
    sync_archive(SyncOptions(**options, start="3d"), make_tools(emulator))
    assert not (archive / "events/_delta_log").exists()
    sync_archive(SyncOptions(**options, is_delta=True), make_tools(emulator))
    assert sorted(pl.read_delta(str(archive / "events"))["event_sha256"]) == read_live(archive)
    before = len(read_live(archive))
    sync_archive(SyncOptions(**options, start="6d"), make_tools(emulator))
    assert DeltaTable(archive / "events").version() == 0
    sync_archive(SyncOptions(**options, is_delta=True), make_tools(emulator))
    assert DeltaTable(archive / "events").version() > 0
    ids = sorted(pl.read_delta(str(archive / "events"))["event_sha256"])
    assert ids == read_live(archive)
    assert len(ids) == len(set(ids)) > before


def test_an_export_of_the_same_time_adds_nothing(emulator, tmp_path) -> None:
    """What a sync has, an export of the same days does not add again; `tail` gives each event of the archive once."""
    archive = tmp_path / "archive"
    sync_archive(SyncOptions(archive=archive, start="3d"), make_tools(emulator))
    export = tmp_path / "export.json"
    export_here(ExportOptions(start="2d", end="1d"), export, make_tools(emulator))
    result = import_files(archive, [export], clock=FastForwardClock())
    assert result.read > 0
    assert (result.added, result.covered_minutes, result.skipped_targets) == (0, 0, 0)
    ended = run_process([find_command("oci-audit"), "tail", "archive", "--with-record-id"], cwd=tmp_path)
    ids = [line.rpartition(b'"record_id":"')[2][:64].decode() for line in ended.stdout.splitlines()]
    assert sorted(ids) == read_live(archive)
