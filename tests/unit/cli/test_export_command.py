from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from ociaudit.cli.console import describe_gaps
from ociaudit.cli.export_command import (
    check_modes,
    describe_empty_filter,
    describe_preview,
    describe_result,
    read_waivers,
)
from ociaudit.cli.progress import RunStats, describe_effort
from ociaudit.client.transport import FinishedRequest
from ociaudit.errors import ServiceError, UsageError
from ociaudit.events.filters import Criteria, FilterSpec
from ociaudit.operations.export import ExportResult
from ociaudit.operations.preview import Preview, Speed, encode_preview
from ociaudit.planning.planner import Amount, Estimate
from ociaudit.planning.shard import Gap, Target, Window
from ociaudit.storage.manifest import EventRange, EventTimes, FileEntry, Manifest, Principal, Range, Scope, Tool, Totals
from ociaudit.storage.run_dir import ExportArguments, RunPlan
from support.drawn_shards import HERE, TENANCY, THERE, make_shard

ZEROS = dict.fromkeys(Totals.__struct_fields__, 0)
START, END = "2025-12-01T00:00:00Z", "2025-12-08T00:00:00Z"
MANIFEST = Manifest(
    complete=True,
    tool=Tool("oci-audit", "0"),
    arguments=ExportArguments(start=START, end=END, profile="c", event_types=("LoginFailure", "x{2}")),
    asked_by=Principal("t", "p", None),
    range=Range(START, END),
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


def make_result(tally: Mapping[str, int] | None = None, *, was_complete_before: bool = False) -> ExportResult:
    """Return the result of an export whose filter matched nothing."""
    return ExportResult(
        manifest=MANIFEST,
        digest="d" * 64,
        output=Path("/x/a.json"),
        manifest_path=Path("/x/a.json.manifest.json"),
        tally=tally or {},
        was_complete_before=was_complete_before,
        waived=(make_gap(THERE),),
    )


POLICY = "Allow group <group> to read audit-events in tenancy"


def make_gap(target: Target, start: int = 0, reason: str = "404 no", request_id: str | None = "r-1") -> Gap:
    """Return a gap of a denied target."""
    return Gap(target, Window(start, start + 1), "denied", reason, request_id)


def test_the_summary_adds_up() -> None:
    """The summary has the events scanned, written, filtered and identical, the file, the digest, and what is waived."""
    text = "\n".join(describe_result(make_result()))
    assert "0 events written to /x/a.json (5 bytes)" in text
    assert "1,234 scanned = 0 written + 1,234 filtered out + 0 identical; 1 page, 2 windows" in text
    assert "ocid1.compartment.oc1..gone occurs in events but is no longer listed" in text
    assert "complete except 1 waived target for filter event type 'LoginFailure' or 'x{2}': 0 of 1,234 scanned" in text
    assert f"waived: {THERE.compartment} denied in {THERE.region}" in text
    assert f"sha256:{'d' * 64}" in text


def test_the_result_has_the_verdict() -> None:
    """The Python API's result has the verdict of the manifest, by the waivers of the call."""
    waived = make_result()
    assert (waived.verdict.kind, waived.verdict.waived, waived.verdict.exit_code) == (
        "complete_except_waived",
        (THERE,),
        0,
    )
    counted = dataclasses.replace(waived, waived=(), gaps=waived.waived)
    assert (counted.verdict.kind, counted.verdict.gaps, counted.verdict.exit_code) == ("incomplete", 1, 10)
    assert not counted.complete


def test_events_fetched_twice_are_counted_apart() -> None:
    """Of the identical records, those that a split requested again are named as fetched twice; the sum stays right."""
    totals = replace(MANIFEST.totals, scanned=1_300, identical=66, fetched_twice=60)
    text = "\n".join(describe_result(dataclasses.replace(make_result(), manifest=replace(MANIFEST, totals=totals))))
    assert "1,300 scanned = 0 written + 1,234 filtered out + 60 fetched twice + 6 identical; 1 page" in text


def test_a_repeated_command_says_that_nothing_was_requested() -> None:
    """The summary of a repeated command is what the file holds and its verdict, without a hint about the filter."""
    result = make_result(was_complete_before=True)
    line, verdict, *_ = describe_result(result)
    assert line == "/x/a.json exists with 0 events; nothing was requested"
    assert verdict.startswith("complete except 1 waived target")
    assert not list(describe_empty_filter(result))


def test_a_filter_that_matched_nothing_is_explained() -> None:
    """An empty result lists the patterns and the most frequent types in a fixed order."""
    lines = list(describe_empty_filter(make_result({"b": 2, "a": 2, "c": 3, **{f"t{n}": 1 for n in range(20)}})))
    assert lines[0] == "no event matched 'LoginFailure' or 'x{2}' among 1,234 scanned"
    assert [line.split()[-1] for line in lines[2:6]] == ["c", "a", "b", "t0"]
    assert len(lines) == 2 + 10


@pytest.mark.parametrize(("pattern", "is_hinted"), [("LoginFailure", False), ("a.*LoginFailure", True)])
def test_what_audit_records_instead_is_a_hint_unless_the_filter_resolves_it(pattern: str, *, is_hinted: bool) -> None:
    """A plain name that Audit does not record is resolved with a notice; a pattern that contains it gets a hint."""
    for change in ({"event_types": (pattern,)}, {"event_types": (), "filter": FilterSpec(event_names=[pattern])}):
        manifest = replace(MANIFEST, arguments=replace(MANIFEST.arguments, **change))
        lines = list(describe_empty_filter(dataclasses.replace(make_result(), manifest=manifest)))
        assert any("IdentitySignOn.InteractiveLogin" in line for line in lines) is is_hinted


def test_a_filter_of_several_conditions_is_described() -> None:
    """The conditions are named."""
    spec = FilterSpec(event_names=["LoginFailure"], exclude=Criteria(principals=["bob"]))
    manifest = replace(MANIFEST, arguments=replace(MANIFEST.arguments, event_types=(), filter=spec))
    lines = list(describe_empty_filter(dataclasses.replace(make_result(), manifest=manifest)))
    assert lines[0] == "no event matched event name 'LoginFailure'; not principal 'bob' among 1,234 scanned"
    unfiltered = replace(MANIFEST, arguments=replace(MANIFEST.arguments, event_types=()))
    assert not list(describe_empty_filter(dataclasses.replace(make_result(), manifest=unfiltered)))


@pytest.mark.parametrize("is_settled", [True, False])
def test_what_a_range_of_event_times_dropped_is_reported(*, is_settled: bool) -> None:
    """The summary has the events outside the range, and until when it is complete if late ones may be missing."""
    manifest = replace(
        MANIFEST,
        event_range=EventRange(START, "2025-12-07T23:00:00Z" if is_settled else END, "1h", is_settled=is_settled),
        totals=replace(MANIFEST.totals, outside_event_range=1000),
    )
    text = "\n".join(describe_result(dataclasses.replace(make_result(), manifest=manifest)))
    assert f"1,000 events outside the event times {START} .. " in text
    assert ("can be final from 2025-12-08T01:15:00Z" in text) is not is_settled


def test_every_gap_is_shown_or_counted() -> None:
    """Up to forty causes are shown, the rest is counted, and the total is right."""
    gaps = [make_gap(HERE, start, reason=f"{500 + start} no") for start in range(50)]
    lines = list(describe_gaps(gaps, policy=POLICY))
    assert lines[0] == "INCOMPLETE: 50 gaps"
    assert sum(HERE.compartment in line for line in lines) == 40
    assert any("10 more" in line for line in lines)
    assert any("read audit-events" in line for line in lines)


def test_gaps_of_one_cause_are_one_line() -> None:
    """Compartments with one cause in the same regions are one line, with their number."""
    gaps = [make_gap(Target("r1", f"c{n}"), reason="401 NotAuthenticated: no") for n in range(4)]
    lines = list(describe_gaps([*gaps, make_gap(Target("r2", "c0"))], policy=POLICY))
    assert lines[0] == "INCOMPLETE: 5 gaps"
    assert any("4 compartments (c0, …): denied in r1 (401 NotAuthenticated)" in line for line in lines)
    assert any("is not subscribed" in line for line in lines)


def test_a_compartment_denied_in_several_regions_is_one_line() -> None:
    """A compartment is named by path with the regions that deny it; request ids appear only when verbose."""
    gaps = [make_gap(Target(region, "c1"), reason="404 NotAuthorizedOrNotFound: no") for region in ("r1", "r2", "r3")]
    gaps = [Gap(gap.target, Window(0, 60), gap.kind, gap.reason, gap.request_id) for gap in gaps]
    whole = Range("1970-01-01T00:00:00Z", "1970-01-01T01:00:00Z")
    paths = {"c1": "root/investigations"}
    lines = list(describe_gaps(gaps, policy=POLICY, paths=paths, requested=whole))
    assert lines[:2] == ["INCOMPLETE: 3 gaps", "  root/investigations: denied in r1, r2, r3 (404)"]
    assert not any("opc-request-id" in line for line in lines)
    detailed = list(describe_gaps(gaps, policy=POLICY, paths=paths, requested=whole, is_detailed=True))
    assert sum("opc-request-id r-1" in line for line in detailed) == 3
    partial = list(describe_gaps(gaps[:1], policy=POLICY, paths=paths))
    assert partial[1:3] == [
        "  root/investigations: denied in r1 (404), 1 window in 1970-01-01T00:00:00Z ..",
        "    1970-01-01T01:00:00Z",
    ]


def test_reserialised_records_are_part_of_the_sum() -> None:
    """The summary adds reserialised records to the sum where there are any."""
    manifest = replace(MANIFEST, totals=replace(MANIFEST.totals, reserialised=4))
    text = "\n".join(describe_result(dataclasses.replace(make_result(), manifest=manifest)))
    assert "0 identical + 4 reserialised;" in text


def test_a_run_to_stdout_promises_no_resume() -> None:
    """The hint promises a resume only if the run directory is kept."""
    assert any("requests only the gaps" in line for line in describe_gaps([make_gap(HERE)], policy=POLICY))
    assert not any(
        line.startswith("hint: the same") for line in describe_gaps([make_gap(HERE)], policy=POLICY, is_kept=False)
    )
    assert replace(MANIFEST, complete=False).complete is False


def test_what_a_run_took_is_printed_with_its_slowest_windows() -> None:
    """The summary has time, requests, 429s, bytes, splits, and the slowest windows that took a second or more."""
    now = 0.0

    def read() -> float:
        return now

    run_stats = RunStats(monotonic=read)
    assert list(describe_effort(run_stats)) == []
    for number in range(40):
        run_stats.on_request(FinishedRequest("h", "/p", 429 if number < 3 else 200, 50_000, 0.1, 1, None, None))
    for shard, seconds in ((make_shard(0, 60), 12.5), (make_shard(60, 120), 0.5), (make_shard(120, 180), 2.0)):
        run_stats.on_shard_begun(shard)
        run_stats.on_page(shard, scanned=100, kept=100)
        now += seconds
        run_stats.on_shard_done(shard)
    now = 20.0
    lines = list(describe_effort(run_stats))
    assert lines[0] == "took 20 s: 40 requests (2.0/s), 3 × 429, 2.0 MB received, 0 windows split"
    assert lines[1] == "slowest windows:"
    assert lines[2] == f"  {make_shard(0, 60)}: 12.5 s, 1 page, 100 events"
    assert lines[3] == f"  {make_shard(120, 180)}: 2.0 s, 1 page, 100 events"
    assert len(lines) == 4


PLAN = RunPlan(
    arguments=ExportArguments(start="a", end="b", profile="DEFAULT"),
    tenancy=TENANCY,
    window=Window(0, 2880),
    targets=(HERE, Target("us-ashburn-1", TENANCY)),
    listed_compartments=None,
    retention_days=90,
    started_at="2025-12-10T12:00:00Z",
)
PREVIEW = Preview(
    plan=PLAN,
    max_window_days=1,
    windows=4,
    settled_until=2880,
    is_beyond_retention=False,
    speed=Speed(16, 5.0),
    requests_made=3,
)
ESTIMATE = Estimate(
    events=Amount(123_456, 4_321, 234_567),
    size_bytes=Amount(5e9, 1e6, 9e9),
    requests=Amount(700, 4, 1_234),
    seconds=Amount(40, 1, 7_000),
    windows=400,
    sampled=16,
    dense=2,
    unlike_share=3 / 16,
    is_exact=False,
    seconds_per_request=0.31,
)


def describe(**changes: object) -> str:
    """Return the dry run with some fields changed, as one text."""
    return "\n".join(describe_preview(dataclasses.replace(PREVIEW, **changes)))  # type: ignore[arg-type]


def test_without_a_sample_there_is_no_estimate() -> None:
    """A dry run without a sample prints only what is known, and that nothing was written."""
    printed = describe()
    assert "3 requests made, nothing written" in printed
    assert "at least 4: 2 windows of at most 1 day for each target" in printed
    assert "90 days: the whole range is kept" in printed
    assert "about" not in printed


def test_an_estimate_is_rounded_and_has_its_range() -> None:
    """An estimate has three digits, low and high, the time at the rate limit, the method, and what may differ."""
    printed = describe(estimate=ESTIMATE, probes=24)
    assert "24 requests: the first page of 16 of 400 windows, 2 of them with more pages and slices of those" in printed
    assert "about 123,000 (4,320 to 235,000)" in printed
    assert "about 5.0 GB (1.0 MB to 9.0 GB)" in printed
    assert "about 40 s (1 s to 1.9 h) with 16 requests in flight and at most 5 per second" in printed
    assert "most of the events" in printed
    assert "up to 19% of the windows may differ" in printed


def test_what_is_exact_is_not_an_estimate() -> None:
    """Exact numbers have neither `about` nor a range nor a method; the time remains an estimate."""
    exact = dataclasses.replace(ESTIMATE, is_exact=True, unlike_share=0.0, dense=0)
    printed = describe(estimate=exact, probes=24)
    assert "events      123,456\n" in printed
    assert "bytes       5.0 GB, uncompressed\n" in printed
    assert "requests    700\n" in printed
    assert "time        about 40 s with 16 requests in flight" in printed
    assert "method" not in printed
    assert "differ" not in printed


def test_a_short_export_takes_less_than_a_second() -> None:
    """An estimate below half a second is not printed as `about 0 s`."""
    short = dataclasses.replace(ESTIMATE, is_exact=True, seconds=Amount(0.04, 0.04, 0.04))
    assert "time        less than 1 s with 16 requests" in describe(estimate=short, probes=24)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"is_beyond_retention": True}, "THE RANGE STARTS BEFORE THAT"),
        ({"settled_until": 2879}, "--settle 15m omits them"),
        ({"plan": msgspec.structs.replace(PLAN, retention_days=None)}, "unknown"),
    ],
)
def test_what_will_be_missing_is_printed(changes: dict[str, object], words: str) -> None:
    """A range that is too old, not settled, or of unknown retention is marked."""
    assert words in describe(**changes)


def test_rejected_probes_are_listed_up_to_a_number() -> None:
    """The first ten rejected requests are listed with reason and request id, the others are counted."""
    error = ServiceError("404 no", status=404, code="N", is_oci=True, request_id="r-1")
    failed = tuple((make_shard(number, number + 1), error) for number in range(12))
    printed = describe(failed=failed).splitlines()
    assert len([line for line in printed if "404 no (opc-request-id r-1)" in line]) == 10
    assert printed[-1] == "rejected    and 2 more"


def test_json_has_the_same_facts() -> None:
    """The JSON object has the same facts, with only fractions rounded."""
    shown = json.loads(json.dumps(encode_preview(dataclasses.replace(PREVIEW, estimate=ESTIMATE, probes=24))))
    assert shown["start"] == "1970-01-01T00:00:00Z"
    assert (shown["targets"], shown["requests_at_least"], shown["requests_made"]) == (2, 4, 3)
    assert shown["estimate"]["events"] == {"likely": 123456, "low": 4321, "high": 234567}
    assert shown["estimate"]["max_requests_per_second"] == 5.0
    assert encode_preview(PREVIEW)["estimate"] is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"output": None, "dry_run": False, "probe": False, "as_json": False}, "-o"),
        ({"output": Path("a"), "dry_run": False, "probe": True, "as_json": False}, "--probe"),
        ({"output": Path("a"), "dry_run": False, "probe": False, "as_json": True}, "--json"),
    ],
)
def test_options_that_would_be_ignored_are_rejected(given: dict, words: str) -> None:
    """Options of a dry run without --dry-run, and an export without an output, are usage errors."""
    with pytest.raises(UsageError, match=words):
        check_modes(**given)
    check_modes(**{**given, "output": None, "dry_run": True})


@pytest.mark.parametrize("argument", ["waiver.txt", "./waivers", "waive.list"])
def test_a_misspelled_file_of_waivers_suggests_the_nearest(
    argument: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value of --waive that is meant as a file and is not there is a usage error with the nearest file names."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "waivers.txt").write_text("investigations\n")
    with pytest.raises(UsageError, match="there is no such file") as caught:
        read_waivers([argument])
    assert "did you mean waivers.txt?" in caught.value.hint
    assert read_waivers(["payments.prod"]) == ("payments.prod",)
