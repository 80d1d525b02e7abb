import hashlib
import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ociaudit.errors import ExitCode
from ociaudit.events.filters import FilterSpec
from ociaudit.storage.manifest import (
    CoveredTarget,
    EventRange,
    EventTimes,
    FileEntry,
    GapEntry,
    Manifest,
    Principal,
    ProvisionalEntry,
    Range,
    Scope,
    Tool,
    Totals,
)
from ociaudit.storage.run_dir import ExportArguments
from ociaudit.storage.verdict import Verdict, VerdictKind, describe_headline, describe_verdict, is_described, judge

START, END = "2025-12-01T00:00:00Z", "2025-12-08T00:00:00Z"
NOON = "2025-12-07T12:00:00Z"
TARGETS = [("r1", "c1"), ("r1", "c2"), ("r2", "c1")]


def make_manifest(**changes: Any) -> Manifest:
    """Return the manifest of a complete export of three targets, with changes; `arguments` are merged."""
    arguments: dict[str, Any] = {"start": "2025-12-01", "end": "2025-12-07", "profile": "DEFAULT"}
    manifest = Manifest(
        complete=not changes.get("gaps"),
        tool=Tool("oci-audit", "0"),
        arguments=ExportArguments(**(arguments | changes.pop("arguments", {}))),
        asked_by=Principal("t", "p", None),
        range=Range(START, END),
        event_times=EventTimes(None, None, 0, 0),
        scope=Scope((), (), (), (), (), 365, reaches_beyond_retention=False),
        totals=Totals(8088, 132, 7956, 0, 0, 3, 0, 3, 3),
        conflicting_ids=(),
        coverage=tuple(CoveredTarget(region, compartment, ((START, END),)) for region, compartment in TARGETS),
        gaps=(),
        waived_gaps=(),
        provisional=(),
        output=FileEntry("a.json", 2, hashlib.sha256(b"[]").hexdigest()),
        ledger=FileEntry("l", 0, ""),
        clock_skew_seconds=None,
        started_at=END,
        finished_at=END,
    )
    return replace(manifest, **changes)


def make_gap(region: str = "r2", compartment: str = "c1") -> GapEntry:
    """Return a gap of a denied target."""
    return GapEntry(region, compartment, START, END, "denied", "404 NotAuthorizedOrNotFound", "q")


PROVISIONAL = ProvisionalEntry("r1", "c1", NOON, END, END)
FILTER = {"filter": FilterSpec(addresses=("192.0.2.20",))}


def test_everything_answered_is_complete() -> None:
    """A range that was over, answered by every target, is complete and final."""
    verdict = judge(make_manifest())
    assert (verdict.kind, verdict.exit_code, verdict.is_final) == (VerdictKind.COMPLETE, ExitCode.OK, True)
    assert describe_verdict(verdict) == ["complete: 3 of 3 targets answered"]


def test_a_filter_and_its_cost_are_stated() -> None:
    """The headline of a filtered export names the filter, and how many of the scanned events it let pass."""
    headline = describe_headline(judge(make_manifest(arguments=FILTER)))
    assert headline == "complete for filter address '192.0.2.20': 132 of 8,088 scanned events written"


def test_waived_targets_are_named() -> None:
    """A waived target is counted and named once, whatever the number of its windows."""
    gaps = (make_gap(), make_gap(), make_gap("r1"))
    verdict = judge(make_manifest(waived_gaps=gaps))
    assert (verdict.kind, verdict.exit_code) == (VerdictKind.COMPLETE_EXCEPT_WAIVED, ExitCode.OK)
    assert describe_verdict(verdict) == [
        "complete except 2 waived targets: 1 of 3 targets answered",
        "waived: c1 denied in r1, r2",
    ]


def test_provisional_windows_are_complete_so_far() -> None:
    """With provisional windows the verdict says until when it is final, and when the rest can be."""
    verdict = judge(make_manifest(provisional=(PROVISIONAL,)))
    assert (verdict.kind, verdict.exit_code) == (VerdictKind.COMPLETE_SO_FAR, ExitCode.OK)
    assert verdict.find_exit_code(require_final=True) is ExitCode.NOT_FINAL
    assert describe_verdict(verdict) == [
        f"complete so far, until {NOON}; can be final from 2025-12-08T00:15:00Z",
        "1 window provisional: requested within 15 minutes of the end",
    ]


@pytest.mark.parametrize(
    ("end", "final_from"),
    [
        ("2025-12-08", "2025-12-09T00:15:00Z"),
        ("2025-12-08T00:01:00Z", "2025-12-08T00:16:00Z"),
        ("2025-12-08T02:00:00+01:00", "2025-12-08T01:15:00Z"),
        ("2025-12-07", None),
        ("2025-12-08T00:00:00Z", None),
        ("now", None),
        ("36h", None),
    ],
)
def test_a_range_that_is_not_over_is_complete_so_far(end: str, final_from: str | None) -> None:
    """An end after the last minute that could be requested makes the verdict `complete so far`."""
    verdict = judge(make_manifest(arguments={"end": end}))
    assert (verdict.kind is VerdictKind.COMPLETE_SO_FAR) is (final_from is not None)
    assert verdict.final_from == final_from
    assert any("the range is not over" in line for line in describe_verdict(verdict)) is (final_from is not None)


@pytest.mark.parametrize("is_settled", [True, False])
def test_a_range_of_event_times_is_over_when_late_events_have_had_their_time(*, is_settled: bool) -> None:
    """A range of event times is complete when processing was requested until `late` after its end."""
    end = "2025-12-07T23:00:00Z" if is_settled else "2025-12-07T23:01:00Z"
    event_range = EventRange(START, end, "1h", is_settled=is_settled)
    verdict = judge(make_manifest(event_range=event_range, arguments={"time_basis": "event-time", "end": "now"}))
    assert verdict.is_final is is_settled
    assert verdict.final_from == (None if is_settled else "2025-12-08T00:16:00Z")
    assert f"0 events outside the event times {START} .. {end} dropped" in describe_verdict(verdict)


def test_one_gap_is_incomplete() -> None:
    """Gaps are counted, and so are the targets that have them."""
    verdict = judge(make_manifest(gaps=(make_gap(),)))
    assert (verdict.kind, verdict.exit_code) == (VerdictKind.INCOMPLETE, ExitCode.INCOMPLETE)
    assert describe_headline(verdict) == "INCOMPLETE: 1 gap in 1 of 3 targets"


def test_without_a_manifest_nothing_is_known() -> None:
    """A file without a manifest is neither complete nor incomplete."""
    verdict = judge(None)
    assert (verdict.kind, verdict.exit_code) == (VerdictKind.UNKNOWN, ExitCode.OK)
    assert describe_verdict(verdict) == ["unknown: there is no manifest beside the file"]


def test_a_time_that_cannot_be_read_is_an_alteration() -> None:
    """A manifest whose range cannot be read proves nothing."""
    assert judge(make_manifest(range=Range("?", END))).kind is VerdictKind.ALTERED


@given(*[st.booleans()] * 7)
def test_no_qualifier_is_dropped(has_filter, has_gap, has_waiver, is_provisional, is_open, is_old, is_altered) -> None:
    """Every combination has the worst kind, and its words name each of its qualifiers, altered or not."""
    manifest = make_manifest(
        arguments=(FILTER if has_filter else {}) | ({"end": "2025-12-09"} if is_open else {}),
        gaps=(make_gap("r1", "c2"),) if has_gap else (),
        waived_gaps=(make_gap(),) if has_waiver else (),
        provisional=(PROVISIONAL,) if is_provisional else (),
        scope=Scope((), (), (), (), ("gone",), 365, reaches_beyond_retention=is_old),
    )
    verdict = judge(manifest, is_altered=is_altered)
    ranked = (
        (is_altered, VerdictKind.ALTERED),
        (has_gap, VerdictKind.INCOMPLETE),
        (is_provisional or is_open, VerdictKind.COMPLETE_SO_FAR),
        (has_waiver, VerdictKind.COMPLETE_EXCEPT_WAIVED),
        (True, VerdictKind.COMPLETE),
    )
    assert verdict.kind is next(kind for applies, kind in ranked if applies)
    assert verdict.is_final is not (is_provisional or is_open)
    text = "\n".join(describe_verdict(verdict))
    expected = (
        (has_filter, "for filter address '192.0.2.20'"),
        (has_filter, "132 of 8,088 scanned events written"),
        (has_gap, "1 gap in 1 of 3 targets"),
        (has_waiver, "waived: c1 denied in r2"),
        (is_provisional, "1 window provisional"),
        (is_open, "the range is not over: 2025-12-10T00:00:00Z was requested"),
        (is_provisional or is_open, f"until {NOON if is_provisional else END}"),
        (is_provisional or is_open, f"can be final from {'2025-12-10' if is_open else '2025-12-08'}T00:15:00Z"),
        (is_old, "begins before the retention period of 365 days"),
        (True, "compartment gone occurs in events"),
    )
    for applies, words in expected:
        assert (words in text) is applies, words


def test_only_what_is_complete_so_far_fails_for_not_being_final() -> None:
    """`require_final` changes the exit code of what is complete so far, and of nothing else."""
    manifests = (
        make_manifest(),
        make_manifest(waived_gaps=(make_gap(),)),
        make_manifest(provisional=(PROVISIONAL,)),
        make_manifest(provisional=(PROVISIONAL,), gaps=(make_gap(),)),
    )
    codes = [
        judge(manifest).find_exit_code(require_final=require_final)
        for manifest, require_final in itertools.product(manifests, (False, True))
    ]
    assert codes == [0, 0, 0, 0, 0, 11, 10, 10]


@pytest.mark.parametrize(("content", "is_own"), [(b"[]", True), (b"{}", False), (b"[ ]", False)])
def test_a_file_is_recognized_by_size_and_hash(tmp_path: Path, content: bytes, *, is_own: bool) -> None:
    """A file with the same size and other bytes is not the one of the manifest."""
    path = tmp_path / "a.json"
    path.write_bytes(content)
    assert is_described(path, make_manifest()) is is_own


def test_what_limits_an_archive_is_never_left_out() -> None:
    """Lost, unrequested, closed, pruned, imported and unanchored parts of an archive are in its words."""
    verdict = Verdict(
        kind=VerdictKind.INCOMPLETE,
        targets=9,
        gaps=1,
        lost=2,
        unrequested=3,
        targets_with_gaps=4,
        closed=5,
        imported_files=6,
        pruned_before=START,
        is_anchored=False,
        final_until=START,
    )
    headline, *qualifiers = describe_verdict(verdict)
    assert headline == "INCOMPLETE: 1 gap, 2 lost windows, 3 unrequested windows in 4 of 9 targets"
    text = "\n".join(qualifiers)
    words = ("2 windows lost", "5 targets closed", f"before {START} were removed", "6 imported files", "not anchored")
    for expected in (*words, f"final until {START}; the rest can no longer be requested"):
        assert expected in text


@pytest.mark.parametrize("is_archive", [True, False])
def test_what_is_altered_keeps_the_words_of_what_it_states(*, is_archive: bool) -> None:
    """An altered file or archive gets a headline of its own, then what it states, with every qualifier."""
    stated = Verdict(
        kind=VerdictKind.INCOMPLETE, is_archive=is_archive, targets=9, gaps=1, targets_with_gaps=4, closed=5
    )
    altered = stated.mark_altered()
    headline, said, *qualifiers = describe_verdict(altered)
    assert (altered.kind, altered.exit_code, altered.mark_altered()) == (VerdictKind.ALTERED, ExitCode.ALTERED, altered)
    assert headline.startswith(f"ALTERED: the {'archive' if is_archive else 'file'} is not the one of its ")
    assert said == f"its {'commits state' if is_archive else 'manifest states'}: {describe_headline(stated)}"
    assert qualifiers == describe_verdict(stated)[1:] != []


def test_what_can_no_longer_be_requested_is_not_promised_to_become_final() -> None:
    """Where nothing can become final any more, the verdict names no time for it, and is not final."""
    verdict = Verdict(kind=VerdictKind.COMPLETE_SO_FAR, targets=1, final_until=END)
    assert describe_headline(verdict) == f"complete so far, until {END}; the rest can no longer be requested"
    assert (verdict.is_final, verdict.find_exit_code(require_final=True)) == (False, ExitCode.NOT_FINAL)
