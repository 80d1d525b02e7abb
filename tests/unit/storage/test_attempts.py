"""The files of tasks that fetch parts of one plan: whole or refused, and counted once however often a task ran."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.errors import CorruptRun
from ociaudit.planning.shard import Coverage, Gap, Target, Window, format_minute
from ociaudit.storage.ledger import (
    Attempt,
    AttemptLine,
    TaskRun,
    encode_attempt,
    join_attempts,
    list_windows,
    read_attempt,
)
from ociaudit.storage.verdict import VerdictKind

TARGET = Target("us-ashburn-1", "ocid1.compartment.oc1..a")
WHOLE = Window(10_000, 10_100)


def make_head(part=0, parts=1, *, plan="p", asked_at=20_000):
    """Return the first line of an attempt at a part of a plan of a hundred minutes."""
    return AttemptLine(
        run="r",
        plan=plan,
        planned_at=f"2026-01-01T00:00:0{len(plan)}Z",
        part=part,
        parts=parts,
        tenancy="t",
        start=format_minute(WHOLE.start),
        end=format_minute(WHOLE.end),
        named_end=format_minute(WHOLE.end),
        retention_days=None,
        asked_at=format_minute(asked_at),
        events=3,
    )


def make_attempt(*gaps, **head):
    """Return an attempt at one target with these windows as gaps."""
    found = [Gap(TARGET, gap, "failed", "503") for gap in gaps]
    return Attempt(make_head(**head), tuple(list_windows({TARGET: Coverage([WHOLE])}, found, {})))


def count(lines, status):
    """Return how many minutes have a status."""
    return sum(line.window.minutes for line in lines if (line.status == "answered") == (status == "answered"))


windows = st.tuples(st.integers(10_000, 10_098), st.integers(1, 30)).map(
    lambda pair: Window(pair[0], min(pair[0] + pair[1], 10_100))
)
disjoint = st.lists(windows, max_size=4).map(lambda some: Coverage(some).windows)


@given(st.lists(disjoint, min_size=1, max_size=4))
def test_only_what_every_attempt_was_answered_counts_and_each_minute_once(attempts):
    """Of any attempts, the answered minutes are those that none of them lacks, and all minutes are there once."""
    lines = join_attempts([make_attempt(*gaps) for gaps in attempts])
    lacking = Coverage(gap for gaps in attempts for gap in gaps)
    assert count(lines, "answered") == sum(part.minutes for part in lacking.find_missing(WHOLE))
    assert count(lines, "answered") + count(lines, "failed") == WHOLE.minutes
    assert Coverage(line.window for line in lines).windows == (WHOLE,)


def test_a_file_comes_back_as_it_was_written(tmp_path):
    """A file holds the head, the windows and their reasons."""
    attempt = make_attempt(Window(10_010, 10_020))
    path = tmp_path / "a.jsonl"
    path.write_bytes(encode_attempt(attempt.head, attempt.windows))
    assert read_attempt(path) == attempt


@pytest.mark.parametrize("cut", ["first line", "last line", "half", "a window", "time", "all"])
def test_a_file_that_is_not_whole_is_refused(tmp_path, cut):
    """A file without a line, with half a line or with an unreadable time is refused by its name."""
    attempt = make_attempt(Window(10_010, 10_020))
    data = encode_attempt(attempt.head, attempt.windows)
    lines = data.splitlines(keepends=True)
    path = tmp_path / "cut.jsonl"
    path.write_bytes(
        {
            "first line": b"".join(lines[1:]),
            "last line": b"".join(lines[:-1]),
            "half": data[: len(data) // 2],
            "a window": lines[0] + b"".join(lines[2:]),
            "time": data.replace(format_minute(10_010).encode(), b"yesterday"),
            "all": b"",
        }[cut]
    )
    with pytest.raises(CorruptRun, match=r"cut\.jsonl"):
        read_attempt(path)


def test_a_newer_format_is_refused(tmp_path):
    """A file of a later version is refused, and the message says which version reads it."""
    attempt = make_attempt()
    path = tmp_path / "a.jsonl"
    path.write_bytes(encode_attempt(attempt.head, attempt.windows).replace(b"attempt/1", b"attempt/9"))
    with pytest.raises(CorruptRun, match="attempt/9"):
        read_attempt(path)


def test_verdicts():
    """All answered is complete; a gap or a part without a report is incomplete; requested early is complete so far."""
    assert TaskRun.of([make_attempt()]).judge().kind is VerdictKind.COMPLETE
    assert TaskRun.of([make_attempt(Window(10_000, 10_001))]).judge().kind is VerdictKind.INCOMPLETE
    missing = TaskRun.of([make_attempt(part=0, parts=3), make_attempt(part=2, parts=3)])
    assert (missing.missing, missing.judge().kind, missing.judge().unrequested) == ((1,), VerdictKind.INCOMPLETE, 1)
    early = TaskRun.of([make_attempt(asked_at=10_105)]).judge()
    assert (early.kind, early.final_until) == (VerdictKind.COMPLETE_SO_FAR, format_minute(10_090))


def test_of_a_batch_that_was_planned_again_only_the_newest_plan_counts():
    """A replayed batch replaces what its first plan reported."""
    run = TaskRun.of([make_attempt(WHOLE, plan="a"), make_attempt(plan="bb")])
    assert run.judge().kind is VerdictKind.COMPLETE
