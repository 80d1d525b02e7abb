"""Promises of the spool for every input: no event is missing or written twice, and the order is canonical."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ociaudit.errors import CorruptRun
from ociaudit.planning.shard import Coverage
from ociaudit.storage.spool import Recovered
from support.drawn_shards import HERE, THERE, make_event, make_shard
from support.served_runs import Service, ask_missing, kill, open_run, read_output, sort_events

numbers = st.lists(st.integers(0, 15), max_size=8)
services = st.fixed_dictionaries(
    {},
    optional={
        make_shard(start, start + 10, target): numbers.map(lambda some: [make_event(number) for number in some])
        for start in (0, 10)
        for target in (HERE, THERE)
    },
)
# What happens to a run: it receives a number of pages of a given size and is killed, with or without a commit. Then one
# of its files is truncated or changed, at a given part of its length.
damages = st.tuples(
    st.sampled_from(["none", "truncate", "flip"]), st.sampled_from(["events.log", "journal.ndjson"]), st.floats(0, 1)
)
incidents_of_a_run = st.lists(st.tuples(st.integers(0, 6), st.integers(1, 4), st.booleans(), damages), max_size=5)


@pytest.fixture(scope="module", autouse=True)
def quick_disk() -> Iterator[None]:
    """Make syncing return immediately."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr(os, "fdatasync", lambda _: None, raising=False)
        yield


def damage(path: Path, how: str, part: float) -> None:
    """Truncate a file, or change one of its bits."""
    data = bytearray(path.read_bytes())
    position = int(part * (len(data) - 1)) if data else 0
    if how == "truncate":
        del data[position:]
    elif how == "flip" and data:
        data[position] ^= 1 << position % 8
    path.write_bytes(data)


def check_progress_is_true(recovered: Recovered, service: Service) -> None:
    """Check that every covered event is held, and no event that the service does not have."""
    held = read_output(recovered.spool)[0]
    assert set(held) <= set(sort_events(service))
    for shard, events in service.items():
        if not recovered.progress.covered.get(shard.target, Coverage()).find_missing(shard.window):
            assert {event.raw for event in events} <= set(held)


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(services, incidents_of_a_run, st.integers(1, 9))
def test_kills_and_damage_do_not_change_the_output(
    service: Service, incidents: list[tuple[int, int, bool, tuple[str, str, float]]], page_size: int
) -> None:
    """A run that is killed and damaged any number of times ends with the same bytes, or immediately with exit 6."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        for page_count, size, is_committed, (how, file, part) in incidents:
            recovered = open_run(path)
            check_progress_is_true(recovered, service)
            for _, _ in zip(range(page_count), ask_missing(recovered, service, page_size=size), strict=False):
                pass
            if is_committed:
                recovered.spool.commit()
            kill(recovered.spool)
            damage(path / file, how, part)
            try:
                open_run(path).spool.__exit__(None, None, None)
            except CorruptRun:
                assert (how, file) == ("flip", "journal.ndjson")
                return
        with (recovered := open_run(path)).spool:
            check_progress_is_true(recovered, service)
            list(ask_missing(recovered, service, page_size=page_size))
            events, counts = read_output(recovered.spool)
        assert events == sort_events(service)
        assert counts.written == len(events)
        with (again := open_run(path)).spool:
            assert not list(ask_missing(again, service, page_size=page_size))


@settings(max_examples=60)
@given(services, st.lists(st.integers(1, 5), min_size=2, max_size=2))
def test_page_sizes_do_not_change_the_output(service: Service, sizes: list[int]) -> None:
    """Two undisturbed runs over the same service have the same events and counts, whatever its page sizes."""
    found = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as name, (recovered := open_run(Path(name))).spool:
            list(ask_missing(recovered, service, page_size=size))
            events, counts = read_output(recovered.spool)
            found.append((events, counts.written, counts.identical, counts.conflicting_ids))
    assert found[0] == found[1]
    assert found[0][1] + found[0][2] == sum(map(len, service.values()))
