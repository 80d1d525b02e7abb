"""Kills and signals at random moments; `tests/integration/test_signals.py` has a short sample of both."""

import random
import signal
from itertools import islice

import pytest

from support.emulator import Emulator
from support.kill_at_call import KillableCommand
from support.kills import measure, stop_at_random
from support.run_directories import list_files
from support.stands import KILLED, PUBLISHED, REGION, Stand
from support.truth import find_compartment, list_events, write_array

KILLS, SIGNALS = 200, 50
SPAN = {"start": "2025-06-02T00:00:00Z", "end": "2025-06-16T00:00:00Z"}
CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}


class LongStand(Stand):
    """A stand whose exports take a second or two: fourteen windows, some hundred pages."""

    def start(self, *options, **given):
        return super().start(*options, **{**SPAN, **given})


@pytest.fixture
def stand(tmp_path):
    """A stand in an empty folder; commits are as often as in earnest, and every tenth of a second."""
    with (
        Emulator("--retention-days", "36500", "--events-per-day", "2000", "--page-size", "40") as emulator,
        KillableCommand(COMMIT_SECONDS=0.1) as command,
    ):
        yield LongStand(emulator, command, tmp_path, find_compartment(emulator, "payments"))


@pytest.fixture
def truth(stand):
    """The file that every complete export holds."""
    events = list_events(stand.emulator, *SPAN.values(), regions=[REGION], compartments=[stand.compartment])
    return write_array(events)


def assert_finished(stand, truth) -> None:
    """Insist that the same command once more comes to the same bytes and leaves nothing else."""
    ended = stand.export()
    assert ended.status == 0, ended.stderr
    assert stand.output.read_bytes() == truth
    assert list_files(stand.folder) == PUBLISHED


def test_kill_at_random_moments(stand, truth):
    """After each of two hundred kills the same command goes on, and every output on the way is the truth."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    stopped = stop_at_random(stand, signal.SIGKILL, seconds=measure(stand), randomness=chance)
    for each in islice(stopped, KILLS):
        assert each.ended.status == KILLED, each.ended.stderr
        assert not stand.output.exists() or stand.output.read_bytes() == truth
    assert_finished(stand, truth)


@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
def test_signal_at_random_moments(stand, truth, number):
    """Each of fifty signals stops the run within two seconds, and the same command goes on."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    stopped = stop_at_random(stand, number, seconds=measure(stand), randomness=random.Random(seed))
    for each in islice(stopped, SIGNALS):
        assert each.ended.status in {CODES[number], -number}, each.ended.stderr
        assert each.seconds < 2
        assert not stand.output.exists() or stand.output.read_bytes() == truth
        if each.ended.status != -number:
            assert "same command again" in each.ended.stderr
    assert_finished(stand, truth)
