"""A simulated year of an archive, two hundred kills, and a kill at every call to the disk of two syncs."""

import random
from pathlib import Path

import pytest

from support.killed_syncs import PREPARE, Prepare, check_kills, open_stand
from support.simulated_course import Course


def test_simulated_year(tmp_path: Path):
    """Over a year of syncs of eight targets, every other hour, with 200 kills, the archive has what was shown."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    course = Course(seed, tmp_path, days=365)
    for _ in range(365 // 5):
        course.run(hours=5 * 24, kills=3, every_hours=2)
        course.check_now()
    course.finish()
    course.check()
    assert course.killed >= 200


@pytest.mark.parametrize("prepare", PREPARE)
def test_kill_at_every_call(prepare: Prepare, tmp_path: Path):
    """Killed before any change of the disk, or within any write, the next sync ends as an undisturbed one."""
    with open_stand(tmp_path) as stand:
        scenario = prepare(stand)
        assert check_kills(scenario, "before", None) > 50
        assert check_kills(scenario, "torn", None) > 5
