"""`oci-audit convert` as a process: real exports and other tools' files in, one file out, and every refusal."""

import contextlib
import csv
import gzip
import json
import os
import random
import shutil
import signal
import stat
import subprocess
import time
from pathlib import Path

import msgspec
import pytest

from ociaudit.events.field_naming import choose_shape
from support.processes import Finished, find_command, make_environment, obey_file_modes, run_process
from support.sample_events import encode_export

EMULATOR_FLAGS = ("--events-per-day", "120", "--page-size", "50")  # a quiet tenancy

CONVERT = (find_command("oci-audit"), "convert")


def convert(folder: Path, *words: str) -> Finished:
    """Run the command in a folder."""
    return run_process([*CONVERT, *words], cwd=folder)


def read_events(path: Path) -> list[bytes]:
    """Read an array of ours, line by line."""
    data = path.read_bytes()
    assert data.startswith(b"[\n")
    return data[2:-3].split(b",\n")


def list_names(folder: Path) -> list[str]:
    """Return what stands in a folder."""
    return sorted(path.name for path in folder.iterdir())


def assert_refused(finished: Finished, code: int, *words: str) -> None:
    """Insist on an exit code, one sentence with these words, a hint, no traceback and no data."""
    assert finished.code == code, finished.stderr
    assert len(finished.error_lines) == len(finished.hint_lines) == 1, finished.stderr
    for word in words:
        assert word in finished.error_lines[0], finished.stderr
    assert "Traceback" not in finished.stderr
    assert finished.stdout == b""


def test_an_export_converted_is_the_same_bytes(original, tmp_path):
    """Array to array keeps every byte; so does the way through gzip and stdout."""
    assert convert(tmp_path, str(original), "-o", "a.json").code == 0
    assert (tmp_path / "a.json").read_bytes() == original.read_bytes()
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o600
    assert convert(tmp_path, "a.json", "-o", "b.json.gz").code == 0
    assert gzip.decompress((tmp_path / "b.json.gz").read_bytes()) == original.read_bytes()
    streamed = convert(tmp_path, "b.json.gz", "-o", "-")
    assert streamed.stdout == original.read_bytes()
    assert "events written" in streamed.stderr


def test_an_altered_export_has_no_origins(original, tmp_path):
    """Origins are those of the events as they were written: in another order, they would be those of others."""
    for path in original.parent.glob(f"{original.name}*"):
        if path.is_file():
            shutil.copy(path, tmp_path)
    for is_altered in (False, True):
        if is_altered:
            (tmp_path / original.name).write_bytes(encode_export(read_events(original)[::-1]))
        assert convert(tmp_path, original.name, "-o", f"{is_altered}.csv").code == 0
        with (tmp_path / f"{is_altered}.csv").open(newline="") as file:
            regions = {row["origin_region"] for row in csv.DictReader(file)}
        assert (regions == {""}) == is_altered


def test_stdin_is_an_input_like_any_other(original, tmp_path):
    """`-` reads a pipe."""
    done = subprocess.run(
        [*CONVERT, "-", "-o", "-", "--quiet"],
        cwd=tmp_path,
        env=make_environment(tmp_path),
        input=gzip.compress(original.read_bytes()),
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == original.read_bytes()
    assert done.stderr == b""


def test_sorted_is_canonical_whatever_came_in(original, tmp_path):
    """Shuffled, doubled, split over files and spelled anew: `--sort` gives the export again, to the byte."""
    events = read_events(original)
    shuffled = [*events, *events[:40]]
    random.Random(5).shuffle(shuffled)
    (tmp_path / "one").write_bytes(b"\n".join(shuffled[:70]))
    (tmp_path / "two").write_bytes(gzip.compress(b"[" + b",".join(shuffled[70:]) + b"]"))
    done = convert(tmp_path, "one", "two", str(original), "-o", "a.json", "--sort")
    assert done.code == 0, done.stderr
    assert (tmp_path / "a.json").read_bytes() == original.read_bytes()
    read = len(shuffled) + len(events)
    assert f"{read:,} read = {len(events):,} written + 0 filtered out + {read - len(events):,} identical" in done.stderr
    assert convert(tmp_path, "one", "-o", "c.json").code == 0
    assert read_events(tmp_path / "c.json") == shuffled[:70]


@pytest.mark.parametrize("shape", ["sdk", "cli"])
def test_a_shape_and_back_gives_the_same_shape(shape, original, tmp_path):
    """What is spelled as another tool does is read back: both ways to that spelling end in the same bytes."""
    assert convert(tmp_path, str(original), "-o", "there.json", "--shape", shape).code == 0
    assert read_events(tmp_path / "there.json") == list(map(choose_shape(shape), read_events(original)))
    assert convert(tmp_path, "there.json", "-o", "back.json").code == 0
    assert convert(tmp_path, "back.json", "-o", "again.json", "--shape", shape).code == 0
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "there.json").read_bytes()
    back = [json.loads(event) for event in read_events(tmp_path / "back.json")]
    served = [json.loads(event) for event in read_events(original)]
    for was, now in zip(served, back, strict=True):
        assert {name: now["data"].get(name) for name in was["data"] if name not in {"request", "response"}} == {
            name: value if not isinstance(value, dict) or name not in {"identity", "stateChange"} else now["data"][name]
            for name, value in was["data"].items()
            if name not in {"request", "response"}
        }
        assert (now["eventId"], now["eventType"]) == (was["eventId"], was["eventType"])


def test_a_filter_takes_out_and_counts(original, tmp_path):
    """What does not pass is counted apart."""
    events = read_events(original)
    kinds = [json.loads(event)["eventType"] for event in events]
    wanted = [event for event, kind in zip(events, kinds, strict=True) if "ompute" in kind]
    assert 0 < len(wanted) < len(events)
    done = convert(tmp_path, str(original), "-o", "a.json", "--event-type", "ompute")
    assert read_events(tmp_path / "a.json") == wanted
    expected = (
        f"{len(events):,} read = {len(wanted):,} written + {len(events) - len(wanted):,} filtered out + 0 identical"
    )
    assert expected in done.stderr


def test_every_filter_is_there(original, tmp_path):
    """Presets, outcomes, times and exclusions work on files as at export; a wrong value is refused in words."""
    done = convert(tmp_path, str(original), "-o", "a.json", "--preset", "iam", "--exclude-outcome", "failure")
    assert done.code == 0, done.stderr
    kept = read_events(tmp_path / "a.json")
    assert 0 < len(kept) < len(read_events(original))
    rest = convert(tmp_path, str(original), "-o", "b.json", "--exclude-preset", "iam")
    failed = convert(tmp_path, str(original), "-o", "c.json", "--preset", "iam", "--outcome", "failure")
    assert rest.code == failed.code == 0
    parts = [(tmp_path / name).read_bytes() for name in ("a.json", "b.json", "c.json")]
    events = [event for part in parts for event in part[2:-3].split(b",\n") if event]
    assert sorted(events) == sorted(read_events(original))
    for words, sentence in ((["--ip", "300.1.1.1/8"], "300.1.1.1/8"), (["--preset", "iamm"], "iam")):
        assert_refused(convert(tmp_path, str(original), "-o", "d.json", *words), 2, sentence)


def test_redacted_events_hold_no_planted_secret(original, tmp_path):
    """Secrets planted in events are gone from the output, the screen says where they were, the rest stays."""
    secret = "Zx9Qw7Er5Ty3"
    events = [json.loads(event) for event in read_events(original)[:50]]
    for number, event in enumerate(events):
        request = event["data"].setdefault("request", None) or {}
        event["data"]["request"] = {
            **request,
            "headers": {"Authorization": [f'Signature x="{secret}"'], "N": [str(number)]},
        }
        event["data"]["identity"] = {**(event["data"].get("identity") or {}), "credentials": secret}
        event["data"]["extra"] = {"text": f"password={secret}", "newPassword": secret}
    (tmp_path / "in.json").write_text(json.dumps(events))
    done = convert(tmp_path, "in.json", "-o", "out.json", "--redact", "--sort")
    assert done.code == 0, done.stderr
    text = (tmp_path / "out.json").read_text()
    assert secret not in text
    assert secret not in done.stderr
    assert text.count("(redacted)") >= 200
    assert len(json.loads(text)) == 50
    assert {event["data"]["request"]["headers"]["N"][0] for event in json.loads(text)} == set(map(str, range(50)))
    for path in ("data.request.headers.Authorization", "data.identity.credentials", "data.extra.text"):
        assert path in done.stderr
    assert "in 50 events" in done.stderr


def test_lone_surrogates_are_replaced_and_counted(original, tmp_path):
    """With `--valid-unicode` strict readers take the file, other events keep their bytes, and the count is printed."""
    before = read_events(original)[:3]
    before[1] = before[1].replace(b'"eventId":"', rb'"eventId":"\ud800\ud83d\ude00\\ud800\uDFFF')
    (tmp_path / "given.json").write_bytes(b"[\n" + b",\n".join(before) + b"\n]\n")
    with pytest.raises(msgspec.MsgspecError):
        msgspec.json.decode((tmp_path / "given.json").read_bytes())
    finished = convert(tmp_path, "given.json", "--valid-unicode", "-o", "valid.json")
    assert finished.code == 0, finished.stderr
    assert "replaced: 2 lone surrogates in 1 event" in finished.stderr
    after = read_events(tmp_path / "valid.json")
    assert (after[0], after[2]) == (before[0], before[2])
    assert rb'"eventId":"\ufffd\ud83d\ude00\\ud800\ufffd' in after[1]
    assert len(msgspec.json.decode((tmp_path / "valid.json").read_bytes())) == 3


def test_what_stands_beside_exports_is_left_out(original, tmp_path):
    """A glob names manifests and ledgers too; they hold no events, and that is said."""
    names = sorted(map(str, original.parent.glob("audit.json*")))
    files = [name for name in names if Path(name).is_file()]
    assert len(files) == 3
    done = convert(tmp_path, *files, "-o", "a.json")
    assert done.code == 0, done.stderr
    assert done.stderr.count("is omitted") == 2
    assert (tmp_path / "a.json").read_bytes() == original.read_bytes()
    assert_refused(convert(tmp_path, files[1], "-o", "b.json"), 2, "no file of events")


def test_gaps_of_an_export_are_told(original, tmp_path):
    """What is made of an incomplete export is incomplete: the screen says so, and says when it cannot know."""
    done = convert(tmp_path, str(original), "-o", "a.json")
    assert "INCOMPLETE: 1 gap in 1 of 15 targets" in done.stderr
    manifest = original.with_name("audit.json.manifest.json")
    (tmp_path / "b.json").write_bytes(original.read_bytes())
    (tmp_path / "b.json.manifest.json").write_bytes(manifest.read_bytes()[:100])
    assert "whether b.json is complete is unknown" in convert(tmp_path, "b.json", "-o", "c.json").stderr


@pytest.mark.parametrize("way", ["itself", "symlink", "hardlink", "dotted"])
def test_an_output_over_an_input_is_refused(way, original, tmp_path):
    """Under whatever name, with `--overwrite` or not; the input stays as it was."""
    source = tmp_path / "in.json"
    source.write_bytes(original.read_bytes())
    output = tmp_path / "out.json"
    match way:
        case "symlink":
            output.symlink_to(source)
        case "hardlink":
            os.link(source, output)
        case "dotted":
            output = Path("../") / tmp_path.name / "in.json"
        case _:
            output = source
    for more in ([], ["--overwrite"]):
        finished = convert(tmp_path, "in.json", "-o", str(output), *more)
        assert_refused(finished, 2, "is the input")
    assert source.read_bytes() == original.read_bytes()


def test_an_output_is_not_replaced_unasked(original, tmp_path):
    """What stands there stays; with `--overwrite` it goes, unless it is an export with a manifest."""
    output = tmp_path / "out.json"
    output.write_text("mine")
    assert_refused(convert(tmp_path, str(original), "-o", "out.json"), 2, "exists")
    assert output.read_text() == "mine"
    assert convert(tmp_path, str(original), "-o", "out.json", "--overwrite").code == 0
    assert output.read_bytes() == original.read_bytes()
    (tmp_path / "out.json.manifest.json").write_text("{}")
    assert_refused(convert(tmp_path, str(original), "-o", "out.json", "--overwrite"), 2, "manifest")


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"", 6, ["in.json is empty"]),
        (b"hello", 6, ["in.json", "neither JSON"]),
        (b'[{"eventType":"x"},\n{"eventType":', 6, ["in.json", "truncated", "byte"]),
        (gzip.compress(b'[{"eventType":"x"}]' * 1000, mtime=0)[:-8], 6, ["in.json", "gzip stream is truncated"]),
        (b'{"a":1}', 6, ["in.json", "audit event"]),
        (b'[{"eventType":"\x1b[31m"},{"eventType":"x"]', 6, ["in.json", "byte"]),
        (None, 2, ["in.json does not exist"]),
    ],
)
@pytest.mark.parametrize("more", [[], ["--sort"]])
def test_bad_input_leaves_nothing_behind(content, code, words, more, original, tmp_path):
    """A clear sentence, the code of the table, and no output, not even a part of one, also after good files."""
    if content is not None:
        (tmp_path / "in.json").write_bytes(content)
    before = list_names(tmp_path)
    assert_refused(convert(tmp_path, str(original), "in.json", "-o", "out.json", *more), code, *words)
    assert list_names(tmp_path) == before


def test_usage_errors_are_told_before_anything_is_read(original, tmp_path):
    """A folder, stdin twice, a file twice, an output without a folder, an output that is a folder, a wrong pattern."""
    path = str(original)
    for words, sentence in (
        ([".", "-o", "out.json"], "is a folder"),
        (["-", "-", "-o", "out.json"], "stdin is named twice"),
        ([path, path, "-o", "out.json"], "are the same file"),
        ([path, "-o", "no/out.json"], "does not exist"),
        ([path, "-o", "."], "is a folder"),
        ([path, "-o", "out.json", "--event-type", "("], "not a regular expression"),
        ([path], "--output"),
        (["-o", "out.json"], "IN"),
        ([path, "-o", "out.json", "--shape", "xml"], "xml"),
    ):
        assert_refused(convert(tmp_path, *words), 2, sentence)
    assert list_names(tmp_path) == []


def test_what_cannot_be_read_is_a_disk_error(original, tmp_path):
    """A file mode is obeyed, and the file named."""
    (tmp_path / "in.json").write_bytes(original.read_bytes())
    (tmp_path / "in.json").chmod(0)
    finished = run_process(obey_file_modes([*CONVERT, "in.json", "-o", "out.json"]), cwd=tmp_path)
    assert_refused(finished, 5, "cannot read in.json")


def test_a_reader_that_goes_away_is_told(original, tmp_path):
    """Stdout that is closed early ends the conversion with a sentence, not with a traceback."""
    (tmp_path / "big.json").write_bytes(b"[" + b",\n".join(read_events(original) * 60) + b"]")
    done = subprocess.run(
        ["/bin/sh", "-c", f"{{ '{CONVERT[0]}' convert big.json -o -; echo $? >&2; }} | head -c 10"],
        cwd=tmp_path,
        env=make_environment(tmp_path),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert b"stdout was closed before all events were written" in done.stderr
    assert done.stderr.rstrip().endswith(b"5")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_conversion_leaves_nothing(number, original, tmp_path):
    """A signal while a slow pipe is read: exit 130 or 143, and no output under any name."""
    process = subprocess.Popen(
        [*CONVERT, "-", "-o", "out.json"],
        cwd=tmp_path,
        env=make_environment(tmp_path),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    data = b"\n".join(read_events(original)) + b"\n"
    for _ in range(1000):
        process.stdin.write(data)
        process.stdin.flush()
        if (tmp_path / ".out.json.partial").exists():
            break
        time.sleep(0.01)
    process.send_signal(number)
    with contextlib.suppress(BrokenPipeError):
        for _ in range(1000):
            process.stdin.write(data)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert b"interrupted" in told
    assert list_names(tmp_path) == []


FORMS = [
    "json",
    "json.gz",
    "json.zst",
    "ndjson",
    "jsonl",
    "ndjson.gz",
    "ndjson.zst",
    "csv",
    "csv.gz",
    "csv.zst",
    "parquet",
]


@pytest.fixture(scope="module")
def with_origin(original, tmp_path_factory) -> Path:
    """The same events as lines that say where they were asked from; one of them does not know."""
    path = tmp_path_factory.mktemp("origins") / "audit.ndjson"
    lines = [
        event[:-1] + b',"origin":{"region":"us-ashburn-1","compartment":"ocid1.compartment.oc1..%d"}}' % (number % 3)
        for number, event in enumerate(read_events(original))
    ]
    lines[4] = read_events(original)[4][:-1] + b',"origin":null}'
    path.write_bytes(b"\n".join([*lines, b""]))
    return path


@pytest.mark.parametrize("form", FORMS)
def test_every_format_gives_the_events_and_their_origins_back(form, with_origin, original, tmp_path):
    """Through each format and back: the same bytes, with origins and without."""
    done = convert(tmp_path, str(with_origin), "-o", f"a.{form}", "--with-origin")
    assert done.code == 0, done.stderr
    assert stat.S_IMODE((tmp_path / f"a.{form}").stat().st_mode) == 0o600
    assert convert(tmp_path, f"a.{form}", "-o", "b.ndjson", "--with-origin").code == 0
    assert (tmp_path / "b.ndjson").read_bytes() == with_origin.read_bytes()
    assert convert(tmp_path, f"a.{form}", "-o", "c.json", "--sort").code == 0
    assert (tmp_path / "c.json").read_bytes() == original.read_bytes()


@pytest.mark.parametrize("form", ["csv", "parquet", "ndjson"])
@pytest.mark.parametrize("shape", ["sdk", "cli"])
def test_a_table_in_another_shape_is_read_back(form, shape, with_origin, tmp_path):
    """The column `event` may be spelled as another tool does; its origin stays."""
    options = ("--shape", shape, "--with-origin")
    assert convert(tmp_path, str(with_origin), "-o", f"a.{form}", *options).code == 0
    assert convert(tmp_path, str(with_origin), "-o", "plain.json", *options).code == 0
    back = convert(tmp_path, f"a.{form}", "-o", "back.json", *options)
    assert back.code == 0, back.stderr
    assert (tmp_path / "back.json").read_bytes() == (tmp_path / "plain.json").read_bytes()


def test_the_origin_survives_the_sort(with_origin, original, tmp_path):
    """Of equal records the one that knows its origin is kept, whichever comes first."""
    bare = tmp_path / "bare.json"  # without manifest and ledger, its origins are unknown
    bare.write_bytes(original.read_bytes())
    for order in ([str(bare), str(with_origin)], [str(with_origin), str(bare)]):
        done = convert(tmp_path, *order, "-o", "a.ndjson", "--sort", "--with-origin", "--overwrite")
        assert done.code == 0, done.stderr
        assert (tmp_path / "a.ndjson").read_bytes() == with_origin.read_bytes()


def test_a_form_that_cannot_be_is_refused(original, tmp_path):
    """Parquet to stdout or in gzip, an unknown suffix or format: said before anything is read."""
    for words, sentence in (
        (["-o", "-", "--format", "parquet"], "Parquet"),
        (["-o", "a.parquet.gz"], "Parquet"),
        (["-o", "a.xml"], "xml"),
        (["-o", "a.json", "--format", "xml"], "xml"),
        (["-o", "a.json", "--compress", "rar"], "rar"),
    ):
        assert_refused(convert(tmp_path, str(original), *words), 2, sentence)
    assert list_names(tmp_path) == []


def test_the_bounds_on_the_event_time_take_every_form_of_a_time(original, tmp_path):
    """A week, a time of a zone and milliseconds select the same events as the times in UTC; an age is exit 2."""
    events = read_events(original)
    wanted = [raw for raw in events if "2025-06-03T00:00" <= json.loads(raw)["eventTime"] < "2025-06-03T12:00"]
    assert 0 < len(wanted) < len(events)
    for number, bounds in enumerate(
        (
            ("2025-06-03 02:00 Europe/Berlin", "2025-06-03 08:00 America/New_York"),
            ("2025/06/03", "1748952000000"),
            ("20250603", "1748952000"),
        )
    ):
        output = tmp_path / f"{number}.json"
        words = ("--event-after", bounds[0], "--event-before", bounds[1])
        finished = convert(tmp_path, str(original), *words, "-o", str(output))
        assert finished.code == 0, finished.stderr
        assert read_events(output) == wanted
    assert_refused(
        convert(tmp_path, str(original), "--event-after", "7d", "-o", "x.json"), 2, "--event-after", "'7d' is an age"
    )


def test_a_filter_that_matches_nothing_names_the_nearest_values(original, tmp_path):
    """With no event written, convert says so and names the nearest values of the filter's fields; else it does not."""
    names = sorted({json.loads(raw)["data"].get("compartmentName") or "" for raw in read_events(original)})
    name = max(names, key=len)
    finished = convert(tmp_path, str(original), "--compartment-name", name[:-1], "-o", "none.json")
    assert finished.code == 0
    assert "no event matched the filter among" in finished.stderr
    assert f"hint: nearest compartment among the events read: {name}" in finished.stderr
    finished = convert(tmp_path, str(original), "--compartment-name", name, "-o", "some.json")
    assert "nearest" not in finished.stderr


@pytest.mark.parametrize("name", ["{start}.json", "a-{x}.csv"])
def test_a_placeholder_is_refused_where_nothing_fills_it_in(original, tmp_path, name):
    """Every command but export rejects an output with a placeholder, and writes no file of that literal name."""
    page = name.partition(".")[0]
    for words in (
        (*CONVERT, str(original), "-o", name),
        (CONVERT[0], "query", str(original), "SELECT 1", "-o", name),
        (CONVERT[0], "report", str(original), "-o", f"{page}.html"),
        (CONVERT[0], "summary", str(original), "--event-counts", f"{page}.json"),
    ):
        assert_refused(run_process(list(words), cwd=tmp_path), 2, "placeholder", "which only export fills in")
    assert list_names(tmp_path) == []


@pytest.mark.parametrize("links", [1, 2])
def test_a_link_to_a_stream_is_refused_as_the_stream_is(original, tmp_path, links):
    """An output that is a symlink to /dev/stdout, also through another, is exit 2 with the way to write to stdout."""
    target = "/dev/stdout"
    for number in range(links):
        (tmp_path / f"{number}.json").symlink_to(target)
        target = f"{number}.json"
    for words in (("convert", str(original)), ("query", str(original), "SELECT 1"), ("export", "--start", "1h")):
        finished = run_process([CONVERT[0], *words, "-o", target, "--overwrite"], cwd=tmp_path)
        assert_refused(finished, 2, f"{target} is an open stream")
        assert "-o -" in finished.hint_lines[0]
