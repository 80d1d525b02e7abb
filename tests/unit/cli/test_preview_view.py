import dataclasses
import json

import msgspec
import pytest

from ociaudit.cli.export_modes import check_modes
from ociaudit.cli.preview_view import describe_preview, show_preview
from ociaudit.errors import Refused, UsageError
from ociaudit.jobs.preview import Preview, Speed
from ociaudit.plan.estimate import Amount, Estimate
from ociaudit.plan.shard import Place
from ociaudit.plan.window import Window
from ociaudit.store.run_folder import ExportArguments, RunPlan
from support.drawn_shards import HERE, TENANCY, make_shard

PLAN = RunPlan(
    arguments=ExportArguments(start="a", end="b", profile="DEFAULT"),
    tenancy=TENANCY,
    window=Window(0, 2880),
    places=(HERE, Place("us-ashburn-1", TENANCY)),
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
GUESS = Estimate(
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
    """The dry run with some things changed, as one text."""
    return "\n".join(describe_preview(dataclasses.replace(PREVIEW, **changes)))  # type: ignore[arg-type]


def test_without_a_sample_there_is_no_guess() -> None:
    """Only what is known is said, and that nothing was written."""
    said = describe()
    assert "3 requests made, nothing written" in said
    assert "at least 4: 2 windows of at most 1 day for each place" in said
    assert "90 days: the whole range is kept" in said
    assert "about" not in said


def test_a_guess_is_rounded_and_has_its_range() -> None:
    """Three digits, low and high, the time at the pace allowed, the method, and what may be unlike."""
    said = describe(estimate=GUESS, probes=24)
    assert "24 questions: the first page of 16 of 400 windows, 2 of them with more pages and slices of those" in said
    assert "about 123,000 (4,320 to 235,000)" in said
    assert "about 5.0 GB (1.0 MB to 9.0 GB)" in said
    assert "about 40 s (1 s to 1.9 h) with 16 requests in flight and at most 5 per second" in said
    assert "two standard errors" in said
    assert "up to 19% of the windows may be unlike" in said


def test_what_is_exact_is_no_guess() -> None:
    """Without a doubt there is neither `about` nor a range nor a method for the numbers."""
    exact = dataclasses.replace(GUESS, is_exact=True, unlike_share=0.0, dense=0)
    said = describe(estimate=exact, probes=24)
    assert "events      123,456\n" in said
    assert "requests    700\n" in said
    assert "method" not in said
    assert "unlike" not in said


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"is_beyond_retention": True}, "THE RANGE BEGINS BEFORE THAT"),
        ({"settled_until": 2879}, "--settle 15m leaves it out"),
        ({"plan": msgspec.structs.replace(PLAN, retention_days=None)}, "not known"),
    ],
)
def test_what_will_be_missing_is_said(changes: dict[str, object], words: str) -> None:
    """A range that is too old, not settled, or of which the retention is not known."""
    assert words in describe(**changes)


def test_refusals_are_listed_but_not_without_end() -> None:
    """The first ten with their reason and request id, then a number."""
    error = Refused("404 no", status=404, code="N", is_oci=True, request_id="r-1")
    refused = tuple((make_shard(number, number + 1), error) for number in range(12))
    said = describe(refused=refused).splitlines()
    assert len([line for line in said if "404 no (opc-request-id r-1)" in line]) == 10
    assert said[-1] == "refused     and 2 more"


def test_json_has_the_same_facts() -> None:
    """One object that JSON can write, with nothing rounded away but fractions."""
    shown = json.loads(json.dumps(show_preview(dataclasses.replace(PREVIEW, estimate=GUESS, probes=24))))
    assert shown["start"] == "1970-01-01T00:00:00Z"
    assert (shown["places"], shown["requests_at_least"], shown["requests_made"]) == (2, 4, 3)
    assert shown["estimate"]["events"] == {"likely": 123456, "low": 4321, "high": 234567}
    assert shown["estimate"]["max_requests_per_second"] == 5.0
    assert show_preview(PREVIEW)["estimate"] is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"output": None, "dry_run": False, "probe": False, "as_json": False}, "-o"),
        ({"output": "a", "dry_run": False, "probe": True, "as_json": False}, "--probe"),
        ({"output": "a", "dry_run": False, "probe": False, "as_json": True}, "--json"),
    ],
)
def test_options_that_would_be_ignored_are_refused(given: dict, words: str) -> None:
    """A dry run's options without it, and an export without an output."""
    with pytest.raises(UsageError, match=words):
        check_modes(**given)
    check_modes(**{**given, "output": None, "dry_run": True})
