"""An archive as its readers see it: order, ranges, scope, replaced and older segments, and views for DuckDB."""

from __future__ import annotations

import json
import shutil
from itertools import product
from pathlib import Path

import duckdb
import pytest

from ociaudit.analysis.query import _replace_lone_surrogates, connect_archive, run_query
from ociaudit.archive.inputs import open_input, open_inputs
from ociaudit.archive.reader import Archive, ArchiveView, open_archive
from ociaudit.errors import CorruptRun, UsageError
from ociaudit.events.event import read_event
from ociaudit.formats.base import Record
from ociaudit.formats.parquet import cast_json
from ociaudit.planning.shard import Target, parse_minute
from support.archives import PATHS, REGIONS, build_archive, make_event
from support.hostile_events import RAWS

pytestmark = pytest.mark.usefixtures("quick_disk")

EU, US = REGIONS
ROOT, PRODUCTION, PAYMENTS, TEST = PATHS
TARGETS = [Target(EU, ROOT), Target(EU, PAYMENTS), Target(US, PRODUCTION), Target(US, TEST)]
EVENTS = [
    (make_event(f"2026-02-{day}T{hour:02}:30:00.123456789Z", day * 100 + hour), TARGETS[hour % 4])
    for day in (26, 27, 28)
    for hour in range(0, 24, 3)
]
UNKNOWN = [(make_event("no time", 7), TARGETS[0]), (make_event("", 8), None)]
ORDERED = sorted([*EVENTS, *UNKNOWN], key=lambda item: (read_event(item[0]).order, item[0]))


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """Two commits: every second event, then all others; the days have two segments each."""
    build_archive(tmp_path / "archive", [EVENTS[::2], [*EVENTS[1::2], *UNKNOWN]])
    return open_archive(tmp_path / "archive")


def read(view: ArchiveView) -> list[Record]:
    """Return all records of a view."""
    return [record for batch in view.read() for record in batch]


def minute(text: str) -> int:
    """Return a minute of 2026-02."""
    return parse_minute(f"2026-02-{text}:00Z")


def test_the_events_come_in_canonical_order_those_of_unknown_time_first(archive: Archive) -> None:
    """Every record of both commits is read once, with its origin, in the order of an export."""
    records = read(archive.select())
    assert records == [Record(*item) for item in ORDERED]
    assert b"no time" in records[0].raw


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("26T03:30", "26T03:31", 1),
        ("26T03:31", "26T06:30", 0),
        ("26T12:00", "27T12:00", 8),
        ("27T00:00", "28T00:00", 8),
        (None, "26T06:31", 3),
        ("28T20:00", None, 1),
        ("01T00:00", "02T00:00", 0),
    ],
)
def test_a_range_is_of_event_times_and_keeps_unreadable_ones(
    archive: Archive, start: str | None, end: str | None, expected: int
) -> None:
    """`[start, end)` selects by event time, to the minute; events without a readable time are in every range."""
    view = archive.select(start=minute(start) if start else None, end=minute(end) if end else None)
    found = [record.raw for record in read(view)]
    assert found[:2] == [raw for raw, _ in ORDERED[:2]]
    assert len(found) == expected + 2
    with connect_archive(view) as connection:
        rows = connection.execute("SELECT event FROM events").fetchall()
    assert sorted(json.loads(row[0])["eventId"] for row in rows) == sorted(json.loads(raw)["eventId"] for raw in found)


def test_only_touched_dates_are_opened(archive: Archive) -> None:
    """A range can be read when the segments of all other dates are gone; the whole cannot."""
    for day in (26, 28):
        shutil.rmtree(archive.folder.events / f"event_date=2026-02-{day}")
    view = archive.select(start=minute("27T00:00"), end=minute("27T10:00"))
    assert len(read(view)) == 2 + 4
    with connect_archive(view) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchall() == [(6,)]
    with pytest.raises(CorruptRun, match=r"2026-02-26.* is missing"):
        read(archive.select())


@pytest.mark.parametrize(
    ("regions", "compartments", "wanted"),
    [
        (["fra"], [], {TARGETS[0], TARGETS[1]}),
        (["us-ashburn-1,fra"], [], set(TARGETS)),
        ([], ["root"], set(TARGETS)),
        ([], ["production"], {TARGETS[1], TARGETS[2]}),
        ([], ["root/production/payments"], {TARGETS[1]}),
        ([], [PRODUCTION, "test"], {TARGETS[1], TARGETS[2], TARGETS[3]}),
        (["iad"], ["payments"], set()),
    ],
)
def test_regions_and_compartments_select_by_origin(
    archive: Archive, regions: list[str], compartments: list[str], wanted: set[Target]
) -> None:
    """A name, a path or an OCID selects a compartment with those below it; an unknown origin is in no selection."""
    view = archive.select(regions=regions, compartments=compartments)
    is_all = compartments == ["root"]
    expected = [Record(*item) for item in ORDERED if item[1] in wanted or (is_all and item[1] is None)]
    assert read(view) == expected
    with connect_archive(view) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchall() == [(len(expected),)]
    assert is_all or {target for target in view.targets if target in TARGETS} == wanted


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"regions": ["eu-frankfurt-9"]}, "region"),
        ({"regions": ["phx"]}, "has no region 'us-phoenix-1'"),
        ({"compartments": ["prodction"]}, "no compartment of that name"),
        ({"compartments": ["ocid1.compartment.oc1..gone"]}, "has no compartment"),
    ],
)
def test_an_unknown_scope_is_refused(archive: Archive, options: dict[str, list[str]], words: str) -> None:
    """What the archive does not know is an error with a hint, not an empty result."""
    with pytest.raises(UsageError, match=words) as caught:
        archive.select(**options)
    assert caught.value.hint


def test_a_view_stays_that_of_its_commit(archive: Archive) -> None:
    """What a sync replaces after the archive was opened is read from replaced/, also in the middle of a query."""
    connection = connect_archive(archive.select())
    before = connection.execute("SELECT count(*), count(DISTINCT event) FROM events").fetchall()
    with run_query([open_input(archive.folder.path)], "SELECT event_id FROM events ORDER BY event_id") as result:
        batches = iter(result.batches)
        for path in sorted(archive.folder.events.rglob("*.parquet")):
            goal = archive.folder.replaced_path(path.relative_to(archive.folder.path).as_posix())
            goal.parent.mkdir(parents=True, exist_ok=True)
            path.rename(goal)
        assert sum(map(len, batches)) == len(ORDERED)
    assert connection.execute("SELECT count(*), count(DISTINCT event) FROM events").fetchall() == before
    assert read(archive.select()) == [Record(*item) for item in ORDERED]
    with connect_archive(archive.select()) as later:
        assert later.execute("SELECT count(*) FROM events").fetchall() == [(len(ORDERED),)]


def drop_column(path: Path) -> None:
    """Write a segment again as an older version would have: without one of its columns."""
    other = path.with_suffix(".tmp")
    source = f"SELECT * EXCLUDE (user_agent) FROM read_parquet('{path}', hive_partitioning = false)"
    duckdb.execute(f"COPY ({source}) TO '{other}' (FORMAT parquet)")
    other.replace(path)


def test_segments_with_fewer_columns_are_read_by_name(tmp_path: Path) -> None:
    """A column that a segment does not have is NULL in its rows; the rows of other segments have it."""
    agent = {"data": {"identity": {"userAgent": "curl"}}}
    old = [(make_event("2026-02-26T01:00:00Z", 1, **agent), TARGETS[0])]
    new = [(make_event(f"2026-02-{day}T02:00:00Z", day, **agent), TARGETS[0]) for day in (25, 26, 27)]
    build_archive(tmp_path / "archive", [old], rewrite=drop_column)
    rewritten = open_archive(tmp_path / "archive")
    assert [raw for raw, _ in read(rewritten.select())] == [old[0][0]]
    build_archive(tmp_path / "other", [new])
    sql = "SELECT user_agent, count(*) FROM events GROUP BY 1 ORDER BY 1 NULLS FIRST"
    with run_query(open_inputs([tmp_path / "archive", tmp_path / "other"]), sql) as result:
        assert [row for batch in result.batches for row in batch] == [(None, 1), ("curl", 3)]


def test_events_of_any_kind_are_in_the_column_event(tmp_path: Path) -> None:
    """Hostile events, lone surrogates among them, are JSON in the view as in a file, and none is lost."""
    build_archive(tmp_path / "archive", [[(raw, TARGETS[0]) for raw in RAWS]])
    archive = open_archive(tmp_path / "archive")
    with connect_archive(archive.select()) as connection:
        assert connection.execute("SELECT count(*), count(event) FROM events").fetchall() == [(len(set(RAWS)),) * 2]


def test_a_query_reads_nothing_but_the_segments(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the check of the query, the connection itself opens no other file, and writes none."""
    monkeypatch.setattr("ociaudit.analysis.query._check", lambda _: frozenset())
    source = [open_input(archive.folder.path)]
    segment = next(archive.folder.events.rglob("*.parquet"))
    before = segment.read_bytes()
    for sql in (
        "SELECT * FROM read_text('/etc/passwd')",
        f"SELECT * FROM read_text('{archive.folder.header_path}')",
        f"COPY (SELECT 1) TO '{archive.folder.path / 'x.csv'}'",
        "SET enable_external_access = true",
        "SET allowed_paths = ['/etc/passwd']",
    ):
        with pytest.raises(UsageError), run_query(source, sql) as result:
            list(result.batches)
    assert segment.read_bytes() == before
    assert not (archive.folder.path / "x.csv").exists()


def test_text_of_an_archive_never_becomes_sql(tmp_path: Path) -> None:
    """Quotes in the folder's name and in a compartment's OCID are data."""
    folder = tmp_path / "it's; DROP"
    build_archive(folder, [EVENTS])
    with run_query([open_input(folder)], "SELECT count(*) FROM events") as result:
        assert list(result.batches) == [[(len(EVENTS),)]]
    view = ArchiveView(open_archive(folder), compartments=frozenset({"x') OR 1=1 --"}))
    with connect_archive(view) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchall() == [(0,)]


def test_lone_surrogates_are_replaced_in_sql_as_in_python() -> None:
    """The expression for the column `event` replaces exactly what the loader of other files does."""
    parts = [r"\\", r"\ud800", r"\udc00", r"\uDBFF", r"\uDFFF", r"\n", r"\"", "x", "ud800", r"\u0041", r"\ud83d\ude00"]
    texts = [json.dumps({})] + ['{"a":"' + "".join(some) + '"}' for some in product(parts, repeat=3)]
    duckdb_rows = duckdb.execute(
        f"SELECT CAST({cast_json('x')} AS VARCHAR) FROM (SELECT unnest(?::VARCHAR[]) AS x)", [texts]
    ).fetchall()
    assert [row[0] for row in duckdb_rows] == [_replace_lone_surrogates(text.encode()).decode() for text in texts]


def test_a_parquet_file_keeps_events_with_lone_surrogates(tmp_path: Path) -> None:
    """They are JSON in the column `event` of a query, as they are of a JSON file."""
    raw = make_event("2026-02-26T00:00:00Z", 1)[:-1] + rb',"x":"\ud800"}'
    build_archive(tmp_path / "other", [[(raw, TARGETS[0])]])
    segment = next((tmp_path / "other" / "events").rglob("*.parquet"))
    for source in (segment, tmp_path / "other"):
        with run_query([open_input(source)], "SELECT event->>'$.x' FROM events") as result:
            assert list(result.batches) == [[("\ufffd",)]]
