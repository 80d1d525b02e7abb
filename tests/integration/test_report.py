import gzip
import json
import signal
import stat
import sys
import time
from pathlib import Path

import pytest

from support.processes import find_command, finish_process, obey_file_modes, run_process, start_process
from support.reports import make_event, make_gap, read_data, write_export, write_manifest

TARGETS = [("a-1", "ocid1.compartment.oc1..aaaaone"), ("b-1", "ocid1.compartment.oc1..aaaaone")]


def run_report(folder, *arguments, wrap=list):
    """Run the command in a folder."""
    return run_process(wrap([find_command("oci-audit"), "report", *map(str, arguments)]), cwd=folder)


@pytest.fixture
def export(tmp_path):
    """An export of a hundred events, complete by its manifest."""
    path = tmp_path / "audit.json"
    count = write_export(path, [make_event(number) for number in range(100)])
    write_manifest(path, targets=TARGETS, written=count)
    return path


def read_verdict(page) -> str:
    """The class of the page's verdict."""
    return page.read_text("utf-8").partition('<section class="verdict ')[2].partition('"')[0]


def test_a_report_is_private_whole_and_always_the_same(export, tmp_path):
    """The page is 0600 under any umask, says what the file is, and a second one is equal to the byte."""
    done = run_report(
        tmp_path, export, "-o", "a.html", wrap=lambda command: ["/bin/sh", "-c", 'umask 0; exec "$@"', "sh", *command]
    )
    assert done.code == 0
    assert done.stdout == b""
    assert "100 events, all of them in the table" in done.stderr
    assert run_report(tmp_path, export, "-o", "b.html").code == 0
    pages = [tmp_path / name for name in ("a.html", "b.html")]
    assert pages[0].read_bytes() == pages[1].read_bytes()
    assert [stat.S_IMODE(page.stat().st_mode) for page in pages] == [0o600, 0o600]
    assert read_verdict(pages[0]) == "complete"
    manifest = json.loads(export.with_name("audit.json.manifest.json").read_bytes())
    text = pages[0].read_text("utf-8")
    assert f"sha256:{manifest['output']['sha256']}" in text
    assert f"sha256:{manifest['digest']}" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.html",
        "audit.json",
        "audit.json.manifest.json",
        "b.html",
    ]


def test_gaps_are_on_the_page_and_on_the_screen(export, tmp_path):
    """A report of an export with gaps says so first, and names each."""
    gap = make_gap(*TARGETS[1], reason="404 <forbidden>", start="2025-12-02T00:00:00Z", end="2025-12-03T00:00:00Z")
    write_manifest(export, targets=TARGETS, gaps=[gap], written=100)
    done = run_report(tmp_path, export, "-o", "page.html")
    assert done.code == 10
    assert "INCOMPLETE: 1 gap in 1 of 2 targets" in done.stderr
    text = (tmp_path / "page.html").read_text("utf-8")
    assert read_verdict(tmp_path / "page.html") == "incomplete"
    assert text.index("INCOMPLETE: 1 gap in 1 of 2 targets") < text.index('<dl class="figures">')
    assert "404 &lt;forbidden&gt;" in text


@pytest.mark.parametrize("change", ["event", "manifest", "count"])
def test_a_file_that_is_not_its_manifests_is_called_so(export, tmp_path, change):
    """A changed byte in the file or in the manifest is the verdict, not a footnote."""
    path = export if change == "event" else export.with_name("audit.json.manifest.json")
    old, new = {
        "event": (b"10.0.0.1", b"10.0.0.2"),
        "manifest": (b'"retention_days": 365', b'"retention_days": 366'),
        "count": (b'"written": 100', b'"written": 101'),
    }[change]
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    done = run_report(tmp_path, export, "-o", "page.html")
    assert done.code == 7
    assert "ALTERED" in done.stderr
    assert read_verdict(tmp_path / "page.html") == "altered"


def test_without_a_manifest_nothing_is_claimed(export, tmp_path):
    """A file alone, plain or gzip, gives a page whose coverage is unknown; another manifest can be named."""
    manifest = export.with_name("audit.json.manifest.json")
    manifest.rename(tmp_path / "elsewhere.json")
    packed = tmp_path / "packed.json.gz"
    packed.write_bytes(gzip.compress(export.read_bytes()))
    for number, path in enumerate((export, packed)):
        done = run_report(tmp_path, path, "-o", f"{number}.html")
        assert done.code == 0, done.stderr
        assert "unknown: there is no manifest beside the file" in done.stderr
        assert read_verdict(tmp_path / f"{number}.html") == "unknown"
        assert read_data(tmp_path / f"{number}.html")["events"] == 100
    assert run_report(tmp_path, export, "-o", "page.html", "--manifest", "elsewhere.json").code == 0
    assert read_verdict(tmp_path / "page.html") == "complete"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no JSON at all",
        b'{"events": 1}',
        b"[1, 2]",
        b'[\n{"eventId": "a"},\n{"eventId": "b"',
        b'[\n{"eventId": "a"},\n{"eventId": "b"},\n',
        b'[\n{"eventId": "a"},\n["x"]\n]\n',
        b'[\n{"eventId": "a"},\n{"eventId": \xff}\n]\n',
        b"\x1f\x8b\x08\x00cut",
        b"\x00" * 100,
        b"<html></html>",
    ],
)
def test_a_file_that_is_no_export_is_refused(tmp_path, content):
    """One clear sentence with the file's name and a hint, the exit code of an unreadable file, and nothing written."""
    (tmp_path / "bad.json").write_bytes(content)
    done = run_report(tmp_path, "bad.json", "-o", "page.html")
    assert done.code == 6, done.stderr
    assert len(done.error_lines) == len(done.hint_lines) == 1
    assert "bad.json" in done.error_lines[0]
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bad.json"]


def test_a_manifest_that_cannot_be_read_stops_it(export, tmp_path):
    """What stands beside the file and is no manifest is not passed over in silence."""
    export.with_name("audit.json.manifest.json").write_text("{}")
    done = run_report(tmp_path, export, "-o", "page.html")
    assert done.code == 6
    assert not (tmp_path / "page.html").exists()


def test_nothing_is_replaced_that_was_not_meant(export, tmp_path):
    """An existing page needs --overwrite; the input, its manifest and links to them are never written over."""
    manifest = export.with_name("audit.json.manifest.json")
    (tmp_path / "link.html").symlink_to(export)
    (tmp_path / "hard.html").hardlink_to(export)
    before = export.read_bytes(), manifest.read_bytes()
    for name in ("audit.json", "audit.json.manifest.json", "audit.json.ledger.ndjson", "link.html", "hard.html"):
        done = run_report(tmp_path, export, "-o", name, "--overwrite")
        assert done.code == 2, name
        assert "made from" in done.stderr
    (tmp_path / "page.html").write_text("mine")
    done = run_report(tmp_path, export, "-o", "page.html")
    assert done.code == 2
    assert "--overwrite" in done.hint_lines[0]
    assert (tmp_path / "page.html").read_text() == "mine"
    assert run_report(tmp_path, export, "-o", "page.html", "--overwrite").code == 0
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    assert (export.read_bytes(), manifest.read_bytes()) == before


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("nothing.json", "-o", "page.html"), 2),
        ((".", "-o", "page.html"), 2),
        (("audit.json",), 2),
        (("audit.json", "-o", "no/such/folder/page.html"), 2),
        (("audit.json", "-o", "."), 2),
        (("audit.json", "-o", "page.html", "--manifest", "nothing.json"), 2),
    ],
)
def test_arguments_that_cannot_be_carried_out(export, tmp_path, arguments, code):
    """Each is one sentence with a hint, and nothing is written."""
    before = sorted(tmp_path.iterdir())
    done = run_report(tmp_path, *arguments)
    assert done.code == code, done.stderr
    assert len(done.error_lines) == len(done.hint_lines) == 1
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_that_cannot_be_written_to(export, tmp_path):
    """The disk's refusal has its own exit code, before the file is read."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    done = run_report(tmp_path, export, "-o", folder / "page.html", wrap=obey_file_modes)
    assert done.code == 5, done.stderr
    assert len(done.hint_lines) == 1


def test_a_million_names_do_not_make_a_huge_page(tmp_path):
    """Where every event has names of its own the page stays small, and says what it leaves out."""
    events = [
        make_event(
            number,
            eventType=f"com.oraclecloud.made.Type{number}",
            identity={
                "principalName": f"p{number}",
                "ipAddress": f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}",
            },
            data={"compartmentId": f"c{number}", "compartmentName": f"n{number}"},
        )
        for number in range(30_000)
    ]
    export = tmp_path / "many.json"
    write_export(export, events)
    done = run_report(tmp_path, export, "-o", "page.html")
    assert done.code == 0, done.stderr
    assert (tmp_path / "page.html").stat().st_size < 5_000_000
    data = read_data(tmp_path / "page.html")
    assert data["is_sampled"]
    assert data["principals"]["distinct"] == data["top_addresses"]["distinct"] == 30_000


def list_open_files(pid) -> list[str]:
    """The names of the files that a process has open."""
    names = []
    for one in Path(f"/proc/{pid}/fd").iterdir():
        try:
            names.append(one.readlink().name)
        except OSError:  # closed meanwhile
            continue
    return names


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_an_interrupted_report_leaves_nothing(tmp_path):
    """SIGTERM ends it with 143 and a hint, without a page or a part of one."""
    export = tmp_path / "long.json"
    write_export(export, (make_event(number, data={"message": "x" * 2_000}) for number in range(150_000)))
    process = start_process([find_command("oci-audit"), "report", str(export), "-o", "page.html"], cwd=tmp_path)
    deadline = time.monotonic() + 30
    while not Path(f"/proc/{process.pid}/fd").exists() or "long.json" not in list_open_files(process.pid):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    done = finish_process(process)
    assert done.code == 143, done.stderr
    assert len(done.hint_lines) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["long.json"]
