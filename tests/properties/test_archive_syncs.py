"""Syncs of a simulated tenancy: whatever happens, an archive holds what the services showed, each record once."""

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.simulated_course import Course


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 1 << 32), disturbances=st.lists(st.sampled_from(Course.DISTURBANCES), max_size=14))
def test_whatever_happens(seed: int, disturbances: list[str]) -> None:
    """After any course of disturbed syncs the archive has what it claims, each record once, and its counts add up."""
    with tempfile.TemporaryDirectory() as folder:
        course = Course(seed, Path(folder), days=3, rescan="20m,3h,2d")
        for disturbance in disturbances:
            course.step(disturbance)
        course.finish()
        course.check()


def test_fourteen_days(tmp_path: Path) -> None:
    """Over two weeks of hourly syncs with twenty kills, the archive has what the services showed within the rings."""
    course = Course(14, tmp_path, days=14)
    course.run(hours=14 * 24, kills=20)
    course.finish()
    course.check()
    assert course.killed >= 20
