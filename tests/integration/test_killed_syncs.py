"""Syncs as processes: killed, signalled, without space, and two at once; the next sync makes up for everything."""

import signal

import pytest

from ociaudit.archive.commit_log import lock_archive
from support.kill_at_call import When
from support.killed_syncs import PREPARE, Prepare, Scenario, check_kills, choose_calls, open_stand, read_outcome

pytestmark = pytest.mark.timeout(900)  # dozens of syncs each; a busy machine may be slow


@pytest.fixture(scope="module", params=PREPARE, ids=lambda prepare: prepare.__name__.removeprefix("prepare_"))
def scenario(request, tmp_path_factory) -> Scenario:
    """A first sync, and one that compacts."""
    prepare: Prepare = request.param
    with open_stand(tmp_path_factory.mktemp("syncs")) as stand:
        yield prepare(stand)


def test_kill_before_a_change(scenario):
    """Killed before calls that change the disk, spread over the whole sync, the next sync ends as an undisturbed one.

    tests/soak kills at every one of them.
    """
    assert check_kills(scenario, "before", 10) >= 10


def test_kill_within_a_write(scenario):
    """A kill that leaves half of what was being written changes nothing either."""
    assert check_kills(scenario, "torn", 5) >= 5


def test_full_disk(scenario):
    """Without space a sync ends with exit 5; with space again, the next one ends as an undisturbed one."""
    stand = scenario.stand
    for number in choose_calls(scenario, "full", 4):
        stand.restore(scenario.kept)
        ended = stand.sync(call=number, when="full")
        assert ended.status == 5, f"{scenario.calls[number - 1]}: {ended.stderr}"
        assert stand.sync().status == 0
        assert read_outcome(stand) == scenario.expected


@pytest.mark.parametrize("when", ["SIGTERM", "SIGINT"])
def test_signal(scenario, when: When):
    """A signal ends a sync with its exit status, or lets it end; the next one ends as an undisturbed one."""
    stand, stopped = scenario.stand, 0
    for number in choose_calls(scenario, "before", 4):
        stand.restore(scenario.kept)
        ended = stand.sync(call=number, when=when)
        assert ended.status in {0, 128 + signal.Signals[when]}, ended.stderr
        stopped += ended.status != 0
        assert stand.sync().status == 0
        assert read_outcome(stand) == scenario.expected
    assert stopped


def test_second_sync_at_once(scenario):
    """A sync of an archive that another process is writing to is exit 2, and disturbs nothing."""
    stand = scenario.stand
    stand.restore(scenario.kept)
    assert stand.sync().status == 0
    with lock_archive(stand.archive):
        second = stand.sync()
    assert second.status == 2
    assert "another oci-audit process is writing" in second.stderr
    assert read_outcome(stand) == scenario.expected
