import itertools

from hypothesis import given
from hypothesis import strategies as st

from ociaudit.plan.coverage import Coverage
from ociaudit.plan.window import Window

windows = st.builds(lambda start, length: Window(start, start + length), st.integers(0, 40), st.integers(1, 12))
several = st.lists(windows, max_size=8)


def list_minutes(some: object) -> set[int]:
    """Every minute of some windows, one by one."""
    return {minute for window in some for minute in range(window.start, window.end)}


@given(several)
def test_a_coverage_is_the_union_of_its_windows(added: list[Window]) -> None:
    """Its windows hold exactly the minutes added, sorted, disjoint and not adjacent."""
    merged = Coverage(added).windows
    assert list_minutes(merged) == list_minutes(added)
    assert all(left.end < right.start for left, right in itertools.pairwise(merged))


@given(several, st.randoms())
def test_the_order_of_adding_does_not_matter(added: list[Window], random: object) -> None:
    """Any order, and adding again, gives the same coverage."""
    mixed = [*added, *added]
    random.shuffle(mixed)
    assert Coverage(mixed).windows == Coverage(added).windows


@given(several, windows)
def test_missing_and_covered_make_up_the_window(added: list[Window], asked: Window) -> None:
    """What is missing is exactly the minutes of the window that are not covered, as few windows as possible."""
    missing = Coverage(added).find_missing(asked)
    assert list_minutes(missing) == list_minutes([asked]) - list_minutes(added)
    assert Coverage(missing).windows == missing


@given(several, windows)
def test_a_window_taken_out_is_missing(added: list[Window], gone: Window) -> None:
    """Without a window, exactly its minutes are missing, and nothing changes in the coverage itself."""
    coverage = Coverage(added)
    assert list_minutes(coverage.without(gone).windows) == list_minutes(added) - list_minutes([gone])
    assert coverage.windows == Coverage(added).windows
