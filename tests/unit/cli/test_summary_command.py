import json
import unicodedata
from pathlib import Path

import pytest

from ociaudit.analysis.report import ReportOutcome
from ociaudit.analysis.summary import CoverageEntry, Summary, make_summary
from ociaudit.cli.summary_command import describe_report, describe_summary, encode_summary
from ociaudit.errors import ExitCode
from ociaudit.storage.manifest import GapEntry
from ociaudit.storage.verdict import VerdictKind
from support.sample_events import collect_stats, encode_change, encode_event, encode_sign_in

HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202egnp\r\n2025 forged line\u2028"

UNKNOWN = ("unknown: there is no manifest beside the file",)


def summarize(
    *events: bytes, files: tuple[CoverageEntry, ...] = (CoverageEntry("a.json", "unknown", UNKNOWN),)
) -> Summary:
    """Return the summary of these events."""
    return make_summary(collect_stats(events), files)


def show(*events: bytes, **given) -> str:
    """Return the screen of these events."""
    return "\n".join(describe_summary(summarize(*events, **given)))


def test_every_text_of_an_event_is_hostile() -> None:
    """No text in names, addresses or agents forges a line or reaches the terminal uncleaned."""
    theft = [encode_sign_in("failure", HOSTILE, HOSTILE, hours=one / 60) for one in range(9)]
    events = [
        *theft,
        encode_sign_in("success", HOSTILE, HOSTILE, hours=0.2),
        encode_change(HOSTILE, HOSTILE, HOSTILE, hours=0.3, resourceName=HOSTILE),
        encode_event(HOSTILE, HOSTILE, HOSTILE, hours=0.4, status="404"),
    ]
    text = show(*events, files=(CoverageEntry(HOSTILE, "unknown", (HOSTILE,)),))
    assert not any(unicodedata.category(char) in {"Cc", "Cf", "Zl", "Zp"} for char in text.replace("\n", ""))
    assert text.count("\n") == show(*[one.replace(json.dumps(HOSTILE).encode(), b'"x"') for one in events]).count("\n")


def test_json_loses_nothing_and_is_ascii() -> None:
    """JSON has hostile text unchanged, as escapes."""
    text = encode_summary(summarize(encode_event(HOSTILE)))
    assert text.isascii()
    assert json.loads(text)["event_names"] == {HOSTILE: 1}


def test_a_narrow_screen_lists_one_below_the_other() -> None:
    """Side by side in 80 columns; in fewer, no line of the lists is wider than the screen, and none is split."""
    summary = summarize(*[encode_change(f"Create{one}", f"user{one}", f"10.0.0.{one}", hours=one) for one in range(9)])
    wide, narrow = list(describe_summary(summary)), list(describe_summary(summary, width=40))
    assert any("events" in line and "addresses (9)" in line for line in wide)
    assert "1 10.0.0.0" in narrow
    assert narrow.index("1 10.0.0.0") > narrow.index("1 user0") > narrow.index("1 Create0")


def test_the_screen_has_a_limited_size() -> None:
    """The screen has at most fifty lines of 150 characters for any number of events."""
    events = [
        encode_change(
            f"Create{number}",
            f"user{number}",
            f"10.0.{number % 200}.{number % 7}",
            hours=number,
            status=str(200 + number % 300),
        )
        for number in range(900)
    ]
    events += [
        encode_sign_in("failure", f"u{one % 40}", f"10.9.0.{one % 20}", hours=901 + one / 600) for one in range(900)
    ]
    lines = show(*events).splitlines()
    assert len(lines) <= 50
    assert max(map(len, lines)) <= 150


def make_gap(number: int) -> GapEntry:
    """Return a gap."""
    return GapEntry(
        "iad",
        f"ocid1.compartment.oc1..{number:012}",
        "2025-12-01T00:00:00Z",
        "2025-12-02T00:00:00Z",
        "denied",
        "404",
        None,
    )


def test_gaps_cannot_be_missed() -> None:
    """The screen of an incomplete export starts with its gaps; without a manifest coverage is unknown."""
    coverage = CoverageEntry(
        "a.json",
        "incomplete",
        ("INCOMPLETE: 9 gaps in 3 of 45 targets", "1 window provisional"),
        True,
        "2025-12-01T00:00:00Z",
        "2025-12-02T00:00:00Z",
        45,
        42,
        tuple(map(make_gap, range(9))),
        1,
        2,
        7,
        {f"ocid1.compartment.oc1..{0:012}": "root/investigations"},
    )
    lines = show(encode_event("ListUsers"), files=(coverage,)).splitlines()
    assert lines[2] == "coverage   INCOMPLETE: 9 gaps in 3 of 45 targets"
    assert lines[3] == "           requested 2025-12-01T00:00:00Z to 2025-12-02T00:00:00Z"
    assert lines[4] == "           1 window provisional"
    assert "GAP 9 compartments (root/investigations, …): denied in iad (404)" in lines[5]
    assert "7 events filtered out at export" in "\n".join(lines[6:12])
    assert "coverage   unknown" in show(encode_event("ListUsers"))
    altered = CoverageEntry("a", "altered", ("ALTERED: another file",))
    assert show(files=(altered,)).endswith("coverage   ALTERED: another file")


def test_an_empty_file_has_two_lines() -> None:
    """The screen of a file without events is two lines."""
    assert show() == "a.json: 0 events, 0.0 MB of JSON\ncoverage   unknown: there is no manifest beside the file"


def test_no_detection_is_reported() -> None:
    """If no rule matches, the screen says so."""
    assert "findings: no rule matched" in show(encode_event("ListUsers"))


@pytest.mark.parametrize(
    ("events", "in_table", "words"),
    [
        (0, 0, "0 events, 9 bytes"),
        (1, 1, "1 event, 9 bytes"),
        (2, 2, "2 events, all of them in the table, 9 bytes"),
        (2_000, 1_000, "2,000 events, 1,000 of them in the table, 9 bytes"),
    ],
)
def test_a_report_says_how_many_events_are_in_its_table(events: int, in_table: int, words: str) -> None:
    """Only of several events, the screen says how many are in the table."""
    path = Path("a.html")
    outcome = ReportOutcome(path, 9, events, in_table, VerdictKind.UNKNOWN, ("unknown",), ExitCode.OK, ())
    assert list(describe_report(outcome, path)) == [f"a.html: {words}", "unknown"]
