"""Every format, spelling and compression at export: what is in the file, what is said of it, and what is refused."""

import csv
import gzip
import io
import json
import stat
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import pyarrow.parquet
import pytest
import zstandard

from ociaudit.archive.inputs import open_inputs
from ociaudit.events.columns import read_row
from ociaudit.events.field_naming import choose_shape
from ociaudit.formats.base import Record
from ociaudit.formats.csv import format_cell
from ociaudit.formats.registry import choose_output_format
from ociaudit.operations.context import ExportOptions
from ociaudit.operations.diff import compare_inputs
from ociaudit.operations.export import export_events
from ociaudit.operations.verify import verify_export
from ociaudit.planning.shard import Target
from ociaudit.storage.manifest import name_manifest
from support.exports import make_tools, read_manifest, run_export
from support.processes import prepare_in_shell
from support.truth import find_compartment, list_events

EMULATOR_FLAGS = ("--events-per-day", "60")  # a quiet tenancy

START, END = "2025-06-02T00:00:00Z", "2025-06-03T00:00:00Z"
REGIONS = ["ap-tokyo-1", "us-ashburn-1"]
DAYS = ("--start", "2025-06-02", "--end", "2025-06-02")
NAMES = [
    "a.json",
    "a.json.gz",
    "a.json.zst",
    "a.ndjson",
    "a.ndjson.gz",
    "a.jsonl.zst",
    "a.csv",
    "a.csv.gz",
    "a.csv.zst",
    "a.parquet",
]
every_name = pytest.mark.parametrize("name", NAMES)
csv.field_size_limit(2**30)


@pytest.fixture(scope="module")
def compartment(shared_emulator):
    """One compartment that is asked."""
    return find_compartment(shared_emulator, "payments")


@pytest.fixture(scope="module")
def records(shared_emulator, compartment):
    """What an export must hold, in its order, each event with its origin."""
    events = list_events(shared_emulator, START, END, regions=REGIONS, compartments=[compartment])
    found = {
        raw: Target(region, compartment)
        for region in reversed(REGIONS)
        for raw in list_events(shared_emulator, START, END, regions=[region], compartments=[compartment])
    }
    assert len({target.region for target in found.values()}) == 2
    return [Record(raw, found[raw]) for raw in events]


@pytest.fixture(scope="module")
def export(shared_emulator, compartment):
    """Export a day of the compartment in this process."""

    def run(output: Path, *, shape="api", with_origin=False, **words) -> None:
        form = choose_output_format(output, **words)
        options = ExportOptions(
            start=START,
            end=END,
            regions=tuple(REGIONS),
            compartments=(compartment,),
            is_subtree=False,
            shape=shape,
            format=form.format,
            compression=form.compression,
            with_origin=with_origin,
        )
        assert export_events(replace(options, output=output), make_tools(shared_emulator)).complete

    return run


def unpack(path: Path) -> bytes:
    """The bytes inside a compressed file, by the libraries everybody has."""
    data = path.read_bytes()
    match path.suffix:
        case ".gz":
            return gzip.decompress(data)
        case ".zst":
            return zstandard.ZstdDecompressor().decompressobj().decompress(data)
        case _:
            return data


def read_rows(path: Path) -> list[dict[str, object]]:
    """The rows of a table, or the events of JSON as rows."""
    data = unpack(path)
    match choose_output_format(path).format:
        case "csv":
            return list(csv.DictReader(io.StringIO(data.decode(), newline="")))
        case "parquet":
            return pyarrow.parquet.read_table(io.BytesIO(data)).to_pylist()
        case "ndjson":
            return [{"event": line} for line in data.decode().split("\n")[:-1]]
        case _:
            return [{"event": line.removesuffix(",")} for line in data.decode().split("\n")[1:-2]]


@every_name
@pytest.mark.parametrize("shape", ["api", "sdk", "cli"])
def test_every_event_is_in_the_file(export, records, tmp_path, name, shape):
    """Format, shape and compression change how an event is written, and neither which ones nor their order; what is
    written verifies.
    """
    path = tmp_path / name
    export(path, shape=shape)
    rows = read_rows(path)
    assert [row["event"].encode() for row in rows] == [choose_shape(shape)(record.raw) for record in records]
    if "event_id" in rows[0]:
        wanted = [record.origin for record in records]
        assert [Target(row["origin_region"], row["origin_compartment"]) for row in rows] == wanted
        values = [read_row(record)[1] for record in records]
        assert [row["event_id"] for row in rows] == values
    stated = read_manifest(path)["arguments"]
    form = choose_output_format(path)
    assert (stated["format"], stated["compress"], stated["shape"]) == (form.format, form.compression, shape)
    result = verify_export(path, manifest_path=name_manifest(path))
    assert (result.verdict.kind, result.problems) == ("complete", [])
    assert bool(result.notes) == (form.format in {"csv", "parquet"})


@every_name
def test_a_second_export_has_the_same_bytes(export, tmp_path, name):
    """The file depends on the events alone."""
    paths = [tmp_path / folder / name for folder in ("one", "two")]
    for path in paths:
        path.parent.mkdir()
        export(path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize("name", ["a.json", "a.ndjson.zst"])
@pytest.mark.parametrize("shape", ["api", "sdk"])
def test_an_origin_stands_in_each_event(export, records, tmp_path, name, shape):
    """With it each event ends in the region and the compartment it was asked from, and the file verifies."""
    path = tmp_path / name
    export(path, shape=shape, with_origin=True)
    events = [json.loads(row["event"]) for row in read_rows(path)]
    assert [event.pop("origin") for event in events] == [
        {"region": record.origin.region, "compartment": record.origin.compartment} for record in records
    ]
    assert events == [json.loads(choose_shape(shape)(record.raw)) for record in records]
    assert verify_export(path, manifest_path=name_manifest(path)).verdict.kind == "complete"
    assert read_manifest(path)["arguments"]["with_origin"] is True


@every_name
def test_an_altered_file_is_found(export, tmp_path, name):
    """A changed byte, a lost end and a doubled end are seen in every form, at many places."""
    path = tmp_path / name
    export(path)
    data = path.read_bytes()
    step = max(1, len(data) // 25)
    altered = [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in range(0, len(data), step)]
    altered += [data[: len(data) - at] for at in (1, 2, 5, len(data) // 2)] + [data + data[-5:], b""]
    for changed in altered:
        path.write_bytes(changed)
        result = verify_export(path, manifest_path=name_manifest(path))
        assert result.verdict.kind == "altered"
        assert {problem.file for problem in result.problems} == {name}


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.ndjson"])
def test_a_number_of_rows_that_is_not_stated_is_found(export, tmp_path, name):
    """A table with fewer events than its manifest says is altered, even where its hash were right."""
    path = tmp_path / name
    export(path)
    statement = name_manifest(path)
    data = statement.read_bytes()
    written = read_manifest(path)["totals"]["written"]
    for field in (b'"written": %d', b'"scanned": %d'):
        data = data.replace(field % written, field % (written + 1))
    statement.write_bytes(data)
    texts = [problem.text for problem in verify_export(path, manifest_path=statement).problems]
    assert any(f"it holds {written:,} events, the manifest states {written + 1:,}" in text for text in texts)


def test_lines_and_arrays_are_compared(export, tmp_path):
    """`diff` reads all formats, and exports with origins beside ones without."""
    for name in ("a.json", "b.ndjson.gz", "c.csv"):
        export(tmp_path / name)
    export(tmp_path / "d.json", with_origin=True)
    for name in ("b.ndjson.gz", "c.csv", "d.json"):
        assert compare_inputs(*open_inputs([tmp_path / "a.json", tmp_path / name])).is_same


@pytest.fixture
def run(shared_emulator, compartment, tmp_path):
    """Run the command over the same day, in an empty folder."""
    target = ("--compartment", compartment, "--no-subtree", *(word for one in REGIONS for word in ("--region", one)))

    def run_in(folder: Path, *arguments: str, **how):
        return run_export(shared_emulator, folder, *DAYS, *target, *arguments, **how)

    return partial(run_in, tmp_path)


def test_the_command_writes_a_table(run, records, tmp_path):
    """`-o audit.parquet` is all it takes; the file is private whatever the umask, and nothing else is left."""
    finished = run("-o", "audit.parquet", wrap=partial(prepare_in_shell, "umask 0"))
    assert finished.code == 0, finished.stderr
    assert [row["event"].encode() for row in read_rows(tmp_path / "audit.parquet")] == [one.raw for one in records]
    names = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert names == dict.fromkeys(
        ("audit.parquet", "audit.parquet.manifest.json", "audit.parquet.ledger.ndjson"), 0o600
    )
    again = run("-o", "audit.parquet")
    assert (again.code, "nothing was requested" in again.stderr) == (0, True)


def test_stdout_takes_every_text(run, records):
    """With `-o -` the words say the form."""
    plain = run("-o", "-", "--format", "ndjson", "--with-origin")
    assert (plain.code, plain.stdout.count(b"\n")) == (0, len(records))
    assert b'"origin":{"region":"' in plain.stdout
    packed = run("-o", "-", "--format", "csv", "--compress", "zst", "--shape", "sdk")
    data = zstandard.ZstdDecompressor().decompressobj().decompress(packed.stdout)
    rows = list(csv.DictReader(io.StringIO(data.decode(), newline="")))
    assert [row["event"].encode() for row in rows] == [choose_shape("sdk")(record.raw) for record in records]


def test_words_win_with_a_notice(run, records, tmp_path):
    """A format and a compression that contradict the suffix are written as said, and said again."""
    finished = run("-o", "a.json", "--format", "csv", "--compress", "gz")
    assert finished.code == 0
    assert "a.json will hold csv, as --format says" in finished.stderr
    head = gzip.decompress((tmp_path / "a.json").read_bytes()).split(b"\r\n", 1)[0]
    assert head.startswith(b"event_time,event_id,")
    other = run("-o", "a.json")
    assert other.code == 2
    assert "format was csv, is json" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-o", "a.xlsx"), (".xlsx", ".parquet")),
        (("-o", "a.parquet.gz"), ("compressed inside",)),
        (("-o", "a.parquet", "--compress", "zst"), ("compressed inside",)),
        (("-o", "-", "--format", "parquet"), ("stdout", "-o audit.parquet")),
        (("-o", "a.json", "--format", "xml"), ("xml", "ndjson")),
        (("-o", "a.json", "--compress", "zip"), ("zip", "zst")),
        (("-o", "a.json", "--shape", "java"), ("java", "sdk")),
    ],
)
def test_a_form_that_does_not_exist_is_refused(run, emulator, tmp_path, arguments, words):
    """It is exit 2 with what there is, before anything is asked, and nothing is written."""
    finished = run(*arguments)
    assert finished.code == 2
    assert finished.stdout == b""
    assert all(word in finished.stderr for word in words), finished.stderr
    assert "Traceback" not in finished.stderr
    assert list(tmp_path.iterdir()) == []
    assert emulator.log() == []


@pytest.mark.parametrize(
    ("name", "room", "refused"),
    [("a.parquet", 10, "a.parquet.run/"), ("a.parquet", 50, "a.parquet.run/rows.parquet:"), ("a.csv", 100, "a.csv:")],
    ids=["the spool does not fit", "Parquet does not fit", "CSV does not fit"],
)
def test_a_full_disk_leaves_no_table(run, records, tmp_path, name, room, refused):
    """Wherever the room ends, it is exit 5 and no table stands there; with room the same command writes it."""
    finished = run("-o", name, wrap=partial(prepare_in_shell, f"ulimit -f {room}"))
    assert finished.code == 5, finished.stderr
    assert refused in finished.error_lines[0]
    assert "Traceback" not in finished.stderr
    assert {path.name for path in tmp_path.iterdir()} <= {f"{name}.run"}
    assert run("-o", name).code == 0
    assert len(read_rows(tmp_path / name)) == len(records)


def test_a_cell_of_an_event_is_written_as_documented(export, records, tmp_path):
    """A row of CSV is its cells, to the byte."""
    export(tmp_path / "a.csv")
    expected = [",".join(map(format_cell, read_row(record))).encode() for record in records]
    assert (tmp_path / "a.csv").read_bytes().split(b"\r\n", 1)[1] == b"".join(row + b"\r\n" for row in expected)


def test_old_manifests_are_read(export, tmp_path):
    """A manifest that says nothing of the format is that of a JSON array."""
    export(tmp_path / "a.json")
    path = name_manifest(tmp_path / "a.json")
    statement = json.loads(path.read_bytes())
    for name in ("format", "compress", "with_origin"):
        del statement["arguments"][name]
    path.write_bytes(msgspec.json.encode(statement))
    problems = verify_export(tmp_path / "a.json", manifest_path=path).problems
    assert [problem.file for problem in problems] == [path.name]
