import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.cli.json_log import RECORDS, JsonLog, _clean
from ociaudit.client.transport import FinishedRequest
from ociaudit.errors import ConnectionFailed, Interrupted, OciAuditError, UsageError
from ociaudit.planning.shard import Gap, Window
from support.drawn_shards import HERE, THERE, make_shard

NOW = datetime(2025, 12, 10, 12, 34, 56, 789000, tzinfo=UTC)
REQUEST = FinishedRequest("audit.example", "/20190901/auditEvents", 200, 120, 0.25, 1, "r-9", None)
HOSTILE = '\x1b]0;owned\x07\u202e\n{"event":"end"}\x9b2J\ud800'


class Watch:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def make_log(watch: Watch | None = None, *, verbosity: int = 0, is_quiet: bool = False) -> JsonLog:
    """Return a log whose clocks do not move."""
    return JsonLog(is_quiet=is_quiet, verbosity=verbosity, monotonic=watch or Watch(), now=lambda: NOW)


def report_all(log: JsonLog) -> None:
    """Report everything to a log once."""
    log.on_notice("a notice")
    log.on_plan(Window(0, 1440), [HERE, THERE], 4)
    log.on_rate(HERE.region, in_flight=1, ceiling=2, per_second=None)
    log.on_shard_begun(make_shard())
    log.on_request(REQUEST)
    log.on_retry(ConnectionFailed("reset", request_id="r-1"), 0.25)
    log.on_page(make_shard(), scanned=100, kept=1)
    log.on_shard_done(make_shard())
    log.on_split(make_shard(60, 120), 8)
    log.on_gap(Gap(HERE, Window(0, 60), "denied", "404 no", "r-2"))


def read_lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Return the lines since the last call; each must be one object with a name and a time."""
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    known = {one.__struct_config__.tag: set(one.__struct_fields__) | {"event"} for one in RECORDS}
    for line in lines:
        assert line.keys() == known[line["event"]]
        assert line["at"] == "2025-12-10T12:34:56.789Z"
    return lines


@pytest.mark.parametrize(
    ("verbosity", "is_quiet", "events"),
    [
        (0, True, ["notice", "gap"]),
        (0, False, ["notice", "plan", "retry", "gap"]),
        (1, False, ["notice", "plan", "rate", "retry", "shard", "split", "gap"]),
        (2, False, ["notice", "plan", "rate", "request", "retry", "shard", "split", "gap"]),
    ],
)
def test_each_line_comes_at_its_level(
    verbosity: int, is_quiet: bool, events: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The lines logged when quiet, by default, verbose and very verbose are those of docs/reference/logs.md."""
    report_all(make_log(verbosity=verbosity, is_quiet=is_quiet))
    assert [line["event"] for line in read_lines(capsys)] == events


def test_the_lines_have_what_happened(capsys: pytest.CaptureFixture[str]) -> None:
    """Every field has the value that was reported."""
    watch = Watch()
    log = make_log(watch, verbosity=2)
    log.waived = frozenset({HERE.compartment})
    report_all(log)
    seen = {line["event"]: line for line in read_lines(capsys)}
    where = {"region": HERE.region, "compartment": HERE.compartment, "start": "1970-01-01T00:00:00Z"}
    assert seen["plan"].items() >= {"regions": 2, "compartments": 2, "shards": 4, "end": "1970-01-02T00:00:00Z"}.items()
    assert seen["gap"].items() >= {**where, "kind": "denied", "reason": "404 no", "waived": True}.items()
    assert seen["gap"]["request_id"] == "r-2"
    assert seen["shard"].items() >= {**where, "seconds": 0.0, "pages": 1, "events": 100}.items()
    assert seen["split"].items() >= {"start": "1970-01-01T01:00:00Z", "sub_shards": 8}.items()
    assert seen["retry"].items() >= {"reason": "reset", "wait_seconds": 0.25, "request_id": "r-1"}.items()
    assert seen["request"].items() >= {"method": "GET", "host": "audit.example", "bytes": 120, "seconds": 0.25}.items()


def test_progress_comes_every_few_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    """Progress is logged every few seconds, with all numbers and those of each region."""
    watch = Watch()
    log = make_log(watch)
    report_all(log)
    capsys.readouterr()
    watch.seconds += 10
    log.on_page(make_shard(), scanned=900, kept=0)
    log.on_page(make_shard(), scanned=900, kept=0)
    (line,) = read_lines(capsys)
    assert line["event"] == "progress"
    assert (line["phase"], line["events"], line["events_per_second"], line["seconds"]) == (
        "requesting",
        1000,
        100.0,
        10.0,
    )
    assert (line["shards"], line["shards_done"], line["splits"], line["requests"]) == (11, 1, 1, 1)
    assert (line["gaps"], line["in_flight"], line["seconds_left"]) == (1, 1, 100.0)
    assert [region["region"] for region in line["regions"]] == [HERE.region, THERE.region]
    log.on_publish(1000)
    watch.seconds += 10
    log.on_written(400)
    (line,) = read_lines(capsys)
    assert (line["phase"], line["to_write"], line["written"]) == ("writing", 1000, 400)


@pytest.mark.parametrize(
    ("error", "code"), [(UsageError("x"), 2), (Interrupted("x", signal_number=2), 130), (OciAuditError("x"), 1)]
)
def test_an_error_is_a_line(error: OciAuditError, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """What stopped the run is logged with its hint and exit code, and is not seen elsewhere."""
    assert make_log().report_error(error)
    (line,) = read_lines(capsys)
    assert (line["event"], line["message"], line["hint"], line["exit_code"]) == ("error", "x", error.hint, code)


def test_hostile_text_is_stripped(capsys: pytest.CaptureFixture[str]) -> None:
    """No text from the service acts on a terminal, forges a line, or is hostile again once the JSON is parsed."""
    log = make_log(verbosity=2)
    log.on_notice(HOSTILE)
    log.on_gap(Gap(HERE, Window(0, 60), "denied", HOSTILE, HOSTILE))
    log.on_request(FinishedRequest(HOSTILE, HOSTILE, None, 0, 0.1, 1, HOSTILE, HOSTILE))
    log.report_error(ConnectionFailed(HOSTILE, request_id=HOSTILE, hint=HOSTILE))
    lines = read_lines(capsys)
    assert [line["event"] for line in lines] == ["notice", "gap", "request", "error"]
    for line in lines:
        for value in line.values():
            assert str(value).isprintable()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=10,
)


@given(json_values)
def test_cleaning_keeps_the_form(content: object) -> None:
    """Strings at any depth become visible characters, and nothing else changes."""
    cleaned = _clean(content)

    def compare(before: Any, after: Any) -> None:
        if isinstance(before, str):
            assert len(before) == len(after)
            json.dumps(after, ensure_ascii=False).encode()
        elif isinstance(before, dict):
            assert before.keys() == after.keys()
            for name, value in before.items():
                compare(value, after[name])
        elif isinstance(before, list):
            for one, other in zip(before, after, strict=True):
                compare(one, other)
        else:
            assert before == after

    compare(content, cleaned)
