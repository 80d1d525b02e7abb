"""A plan divided into shares: every minute of a target in one of them, and about the same expected work in each."""

from hypothesis import given
from hypothesis import strategies as st

from ociaudit.planning.planner import share_work
from ociaudit.planning.shard import MINUTES_PER_DAY, Coverage, Target, Window

TENANCY = "ocid1.tenancy.oc1..root"


def make_targets(regions, compartments):
    """Return targets, the root compartment among them."""
    names = [TENANCY, *(f"c{number}" for number in range(1, compartments))]
    return [Target(f"r{region}", name) for region in range(regions) for name in names[:compartments]]


def measure(share):
    """Return how many minutes a share has."""
    return sum(window.minutes * len(targets) for window, targets in share)


@given(
    st.integers(1, 6),
    st.integers(1, 12),
    st.integers(1, 60 * MINUTES_PER_DAY),
    st.integers(1, 20),
    st.integers(1, 20 * MINUTES_PER_DAY),
)
def test_shares_are_disjoint_and_make_up_the_plan(regions, compartments, minutes, share_count, max_minutes):
    """Whatever the plan, every minute of every target is in exactly one share, and there are no more than asked for."""
    targets, window = make_targets(regions, compartments), Window(1_000, 1_000 + minutes)
    longest, shares = share_work(targets, window, tenancy=TENANCY, max_minutes=max_minutes, share_count=share_count)
    assert 1 <= len(shares) <= share_count
    assert 1 <= longest <= max_minutes
    assert sum(map(measure, shares)) == minutes * len(targets)
    whole = {target: Coverage() for target in targets}
    for share in shares:
        for piece, some in share:
            for target in some:
                whole[target].add(piece)
    assert all(coverage.windows == (window,) for coverage in whole.values())


def test_the_windows_of_a_dense_target_are_in_several_shares():
    """The windows of one target are spread, whether or not the number of targets is a multiple of the shares."""
    for compartments in (7, 8):
        targets = make_targets(1, compartments)
        _, shares = share_work(
            targets, Window(0, 90 * MINUTES_PER_DAY), tenancy=TENANCY, max_minutes=14 * MINUTES_PER_DAY, share_count=4
        )
        for target in targets:
            assert sum(any(target in some for _, some in share) for share in shares) >= 3


def test_sixty_thousand_targets_are_shared_evenly():
    """A year of 60,000 targets has shares whose minutes differ by little, and few enough windows to send to workers."""
    targets, window = make_targets(30, 2_000), Window(0, 365 * MINUTES_PER_DAY)
    longest, shares = share_work(targets, window, tenancy=TENANCY, max_minutes=14 * MINUTES_PER_DAY, share_count=64)
    sizes = sorted(map(measure, shares))
    assert longest == 14 * MINUTES_PER_DAY
    assert len(shares) == 64
    assert sizes[-1] < 1.01 * sizes[0]
    assert sum(len(some) for share in shares for _, some in share) <= 200_000
