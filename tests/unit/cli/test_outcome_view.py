import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

from ociaudit.cli.figures import Figures
from ociaudit.cli.outcome_view import describe_effort, describe_empty_filter, describe_gaps, describe_outcome
from ociaudit.events.filters import Criteria, FilterSpec
from ociaudit.jobs.export import Outcome
from ociaudit.plan.shard import Gap, Place
from ociaudit.plan.window import Window
from ociaudit.source.answer import FinishedRequest
from ociaudit.store.manifest import EventRange, EventTimes, FileEntry, Manifest, Principal, Range, Scope, Tool, Totals
from ociaudit.store.run_folder import ExportArguments
from support.drawn_shards import HERE, THERE, make_shard

ZEROS = dict.fromkeys(Totals.__struct_fields__, 0)
MANIFEST = Manifest(
    complete=True,
    tool=Tool("oci-audit", "0"),
    arguments=ExportArguments(start="a", end="b", profile="c", event_types=("LoginFailure", "x{2}")),
    asked_by=Principal("t", "p", None),
    range=Range("a", "b"),
    event_times=EventTimes(None, None, 0, 0),
    scope=Scope((), (), (), (), ("ocid1.compartment.oc1..gone",), None, reaches_beyond_retention=False),
    totals=Totals(**ZEROS | {"scanned": 1234, "filtered": 1234, "pages": 1, "requests": 3, "shards": 2}),
    conflicting_ids=(),
    coverage=(),
    gaps=(),
    waived_gaps=(),
    provisional=(),
    output=FileEntry("a.json", 5, "0" * 64),
    ledger=FileEntry("l", 5, "0" * 64),
    clock_skew_seconds=None,
    started_at="a",
    finished_at="b",
)


def make_outcome(tally: Mapping[str, int] | None = None, *, was_complete_before: bool = False) -> Outcome:
    """Make an outcome whose filter let nothing pass."""
    return Outcome(
        manifest=MANIFEST,
        digest="d" * 64,
        output=Path("/x/a.json"),
        manifest_path=Path("/x/a.json.manifest.json"),
        tally=tally or {},
        was_complete_before=was_complete_before,
        waived=(make_gap(THERE),),
    )


POLICY = "Allow group <group> to read audit-events in tenancy"


def make_gap(place: Place, start: int = 0, reason: str = "404 no", request_id: str | None = "r-1") -> Gap:
    """Make a denied gap."""
    return Gap(place, Window(start, start + 1), "denied", reason, request_id)


def test_the_summary_adds_up() -> None:
    """What was scanned, written, filtered and identical, the file, the digest, and what cannot be proven."""
    text = "\n".join(describe_outcome(make_outcome()))
    assert "0 events written to /x/a.json (5 bytes)" in text
    assert "1,234 scanned = 0 written + 1,234 filtered out + 0 identical; 1 page in 3 requests, 2 windows" in text
    assert "ocid1.compartment.oc1..gone occurs in events but is not listed" in text
    assert f"1 waived gap: {THERE.region} {THERE.compartment}" in text
    assert f"sha256:{'d' * 64}" in text


def test_a_repeated_command_says_that_nothing_was_asked() -> None:
    """One line, and no words about filters."""
    outcome = make_outcome(was_complete_before=True)
    (line,) = describe_outcome(outcome)
    assert "nothing was asked" in line
    assert not list(describe_empty_filter(outcome))


def test_a_filter_that_matched_nothing_is_explained() -> None:
    """The patterns, the most frequent types in a fixed order, and what Audit records instead."""
    lines = list(describe_empty_filter(make_outcome({"b": 2, "a": 2, "c": 3, **{f"t{n}": 1 for n in range(20)}})))
    assert lines[0] == "no event matched 'LoginFailure' or 'x{2}' among 1,234 scanned"
    assert [line.split()[-1] for line in lines[2:6]] == ["c", "a", "b", "t0"]
    assert len(lines) == 2 + 10 + 1
    assert "IdentitySignOn.InteractiveLogin" in lines[-1]


def test_a_filter_of_several_conditions_is_told_in_words() -> None:
    """The conditions are named, and names that Audit does not record lead to a hint wherever they were typed."""
    spec = FilterSpec(event_names=["LoginFailure"], exclude=Criteria(principals=["bob"]))
    manifest = replace(MANIFEST, arguments=replace(MANIFEST.arguments, event_types=(), filter=spec))
    lines = list(describe_empty_filter(dataclasses.replace(make_outcome(), manifest=manifest)))
    assert lines[0] == "no event matched event name 'LoginFailure'; not principal 'bob' among 1,234 scanned"
    assert "IdentitySignOn.InteractiveLogin" in lines[-1]
    unfiltered = replace(MANIFEST, arguments=replace(MANIFEST.arguments, event_types=()))
    assert not list(describe_empty_filter(dataclasses.replace(make_outcome(), manifest=unfiltered)))


@pytest.mark.parametrize("is_settled", [True, False])
def test_what_a_range_of_event_times_dropped_is_told(*, is_settled: bool) -> None:
    """How many of the filtered happened outside, and whether late ones may be missing."""
    manifest = replace(
        MANIFEST,
        event_range=EventRange("a", "b", "1h", is_settled=is_settled),
        totals=replace(MANIFEST.totals, outside_event_range=1000),
    )
    text = "\n".join(describe_outcome(dataclasses.replace(make_outcome(), manifest=manifest)))
    assert "1,000 of the filtered out happened outside a .. b" in text
    assert ("late ones may be missing" in text) is not is_settled


def test_every_gap_is_shown_or_counted() -> None:
    """Up to forty causes are shown, the rest is a number, and the total is right."""
    gaps = [make_gap(HERE, start) for start in range(50)]
    lines = list(describe_gaps(gaps, policy=POLICY))
    assert lines[0] == "INCOMPLETE: 50 gaps"
    assert sum(HERE.compartment in line for line in lines) == 40
    assert any("10 more" in line for line in lines)
    assert any("read audit-events" in line for line in lines)


def test_gaps_of_one_cause_are_one_line() -> None:
    """Places that one answer took away are shown together, with their number."""
    gaps = [make_gap(Place("r1", f"c{n}"), reason="401 NotAuthenticated: no") for n in range(3)]
    lines = list(describe_gaps([*gaps, make_gap(Place("r2", "c0"))], policy=POLICY))
    assert lines[0] == "INCOMPLETE: 4 gaps"
    assert "and the same for 2 more compartments" in lines[1]
    assert any("has not subscribed" in line for line in lines)


def test_a_run_to_stdout_promises_no_resume() -> None:
    """Only where a run directory stays does the same command go on."""
    assert any("asks for the gaps alone" in line for line in describe_gaps([make_gap(HERE)], policy=POLICY))
    assert not any(
        line.startswith("hint: the same") for line in describe_gaps([make_gap(HERE)], policy=POLICY, is_kept=False)
    )
    assert replace(MANIFEST, complete=False).complete is False


def test_what_a_run_took_is_said_with_its_slowest_windows() -> None:
    """Time, requests, pace, 429s, bytes and cuts; windows that took less than a second are nobody's business."""
    now = 0.0

    def read() -> float:
        return now

    figures = Figures(monotonic=read)
    assert list(describe_effort(figures)) == []
    for number in range(40):
        figures.on_request(FinishedRequest("h", "/p", 429 if number < 3 else 200, 50_000, 0.1, 1, None, None))
    for shard, seconds in ((make_shard(0, 60), 12.5), (make_shard(60, 120), 0.5), (make_shard(120, 180), 2.0)):
        figures.on_shard_begun(shard)
        figures.on_page(shard, scanned=100, kept=100)
        now += seconds
        figures.on_shard_done(shard)
    now = 20.0
    lines = list(describe_effort(figures))
    assert lines[0] == "took 20 s: 40 requests (2.0/s), 3 × 429, 2.0 MB received, 0 windows cut"
    assert lines[1] == "slowest windows:"
    assert lines[2] == f"  {make_shard(0, 60)}: 12.5 s, 1 page, 100 events"
    assert lines[3] == f"  {make_shard(120, 180)}: 2.0 s, 1 page, 100 events"
    assert len(lines) == 4
