"""Reading many files with processes that read ahead."""

import gzip
import json
from pathlib import Path

import pytest

from ociaudit.errors import UnreadableInput, UsageError
from ociaudit.formats import reader
from ociaudit.formats.reader import open_records, read_files

DYING = {
    "at the start": "import sys; sys.exit(3)",
    "after a name": "import sys; sys.stdin.buffer.read(9); sys.exit(3)",
    "within an answer": "import sys; sys.stdout.buffer.write(bytes([200, 0, 0, 0, 1, 2])); sys.exit(3)",
    "after three answers": (
        "import sys; sys.path.insert(0, sys.argv[1]); from ociaudit.formats import reader\n"
        "write, count = reader._write_frame, []\n"
        "def stop(file, data):\n"
        "    count.append(1)\n"
        "    if len(count) > 3: sys.exit(3)\n"
        "    write(file, data)\n"
        "reader._write_frame = stop\n"
        "reader.serve_files()"
    ),
}


@pytest.fixture(autouse=True)
def always_ahead(monkeypatch):
    """Use processes for the smallest files, whatever the machine."""
    monkeypatch.setattr(reader, "_FEWEST_FILES", 1)
    monkeypatch.setattr(reader, "_FEWEST_BYTES", 0)
    monkeypatch.setattr(reader.os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)


def make_files(folder: Path, count: int, *, events: int = 700) -> list[Path]:
    """Write files of events in several kinds: plain, wrapped with an origin, and with an object that is not one."""
    paths = []
    for number in range(count):
        lines = [{"eventId": f"{number}-{line}", "eventType": "é", "data": {}} for line in range(events)]
        if number % 3 == 1:
            content = {"type": "t", "specversion": "1.0", "id": f"{number}", "oracle": {"compartmentid": "c"}}
            lines += [{"logContent": content, "regionId": "us-ashburn-1"}, {"other": 1}]
        if number % 3 == 2:
            lines.append({"data": [{"eventId": f"{number}-last"}], "opc-next-page": "x"})
        paths.append(folder / f"{number}.log.gz")
        paths[-1].write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode()))
    return paths


def read_all(sources):
    """Return the records of each source, and what is known of it."""
    found = []
    for source in sources:
        records = [record for batch in source for record in batch]
        known = (source.name, source.description, source.records, source.with_origin, +source.kinds)
        found.append((records, known))
    return found


def read_one_by_one(paths, notes):
    """Return the same without processes."""
    found = []
    for path in paths:
        with open_records(path, on_incomplete=notes.append) as source:
            found += read_all([source])
    return found


@pytest.mark.parametrize("count", [1, 2, 7])
def test_reading_ahead_changes_nothing(count, tmp_path):
    """Records, origins, counts, descriptions and notes are those of reading one file after the other."""
    paths = make_files(tmp_path, count)
    ahead, notes = [], []
    assert read_all(read_files(paths, on_incomplete=ahead.append)) == read_one_by_one(paths, notes)
    assert ahead == notes


@pytest.mark.parametrize("program", DYING.values(), ids=DYING)
def test_a_process_that_dies_loses_nothing(program, tmp_path, monkeypatch):
    """What a process no longer gives is read here, each record once."""
    paths = make_files(tmp_path, 5)
    notes = []
    expected = read_one_by_one(paths, notes)
    monkeypatch.setattr(reader, "_SERVE", program)
    ahead = []
    assert read_all(read_files(paths, on_incomplete=ahead.append)) == expected
    assert ahead == notes


def test_a_file_that_cannot_be_read_is_the_error_that_it_is(tmp_path):
    """A damaged file and a missing one raise the errors of `open_records`, after the files before them."""
    paths = make_files(tmp_path, 4)
    data = paths[2].read_bytes()
    paths[2].write_bytes(data[:-30])
    sources = read_files(paths)
    with pytest.raises(UnreadableInput, match=r"2\.log\.gz: the gzip stream is truncated, at byte"):
        read_all(sources)
    paths[2].unlink()
    with pytest.raises(UsageError, match="does not exist"):
        read_all(read_files(paths))


def test_a_source_that_is_not_read_to_its_end_does_not_disturb_the_next(tmp_path):
    """Files can be left after any batch, and the generator closed at any time."""
    paths = make_files(tmp_path, 4)
    sources = read_files(paths)
    names = []
    for source in sources:
        names.append(source.name)
        next(iter(source))
    assert names == [str(path) for path in paths]
    sources = read_files(paths)
    next(sources)
    sources.close()
