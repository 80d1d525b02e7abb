"""Syncs of a simulated tenancy: whatever happens, an archive holds what the services showed, each record once."""

import random
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ociaudit.archive.reader import open_archive
from ociaudit.archive.state import find_final_dates
from support.simulated_course import COMPARTMENTS, Course, make_tenancy
from support.simulated_tenancy import DAY

_SLOW = (9, 1, 6, 4, 14, 8, 7, 4, 2, 15, 15, 11, 2, 5)
"""Disturbances in which a service is so slow that a sync comes no nearer to the present."""


@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@example(seed=605, disturbances=[Course.DISTURBANCES[n] for n in _SLOW])
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


@settings(max_examples=2, suppress_health_check=[HealthCheck.too_slow])
@example(seed=11164)  # a sync that found a new compartment was killed, and resumed half a day later
@given(seed=st.integers(0, 1 << 32))
def test_two_archives_of_one_tenancy(seed: int) -> None:
    """However two archives were synced, what is final in both is the same to the byte once it is compacted."""
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = (make_pair_course(seed, number, Path(folder)) for number in (0, 1))
        for course, longest in ((ours, 180), (theirs, 700)):
            end = course.tenancy.now + 2 * DAY
            while course.tenancy.now < end:
                course.step(course.dice.choice(["none", "none", "kill", "torn", "interrupt", "throttle"]), longest)
            course.tenancy.now = end
            course.finish()
            course.check()
        check_same_segments(ours, theirs)


def make_pair_course(seed: int, number: int, folder: Path) -> Course:
    """Return one of two courses of the same tenancy, with its own schedule, kills and longest window."""
    course = Course(seed, folder / str(number), days=2, rescan="2h,2d", max_window_days=(14, 1)[number])
    course.tenancy = make_tenancy(random.Random(seed), 2, late=((0.8, 0), (1.0, 100)), forms=(1,))
    course.tenancy.compartments[COMPARTMENTS[1]].states = ((0, "ACTIVE"),)  # what one cannot ask any more, both cannot
    course.tenancy.refuse = course.refuse
    course.dice = random.Random(f"{seed}-{number}")
    return course


def check_same_segments(ours: Course, theirs: Course) -> None:
    """Check that the final dates of two archives have one segment each, of equal rows and equal bytes."""
    states = [open_archive(course.options.archive).state for course in (ours, theirs)]
    by_date = [state.group_segments() for state in states]
    final = find_final_dates(states[0], by_date[0]) & find_final_dates(states[1], by_date[1])
    assert len(final) > 8
    assert by_date[0].keys() == by_date[1].keys()
    for date in final:
        assert by_date[0][date] == by_date[1][date]
        assert len(by_date[0][date]) == 1
