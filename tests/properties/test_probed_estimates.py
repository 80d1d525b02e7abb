"""The estimate of `--dry-run --probe` against synthetic tenancies whose truth is known."""

import pytest

from support.synthetic_tenancy import make_tenancy, probe_tenancy


@pytest.mark.parametrize("first", [0, 20])
def test_the_range_holds_the_truth(first: int) -> None:
    """The range holds the true number of events in at least 18 of 20 tenancies, dense and skewed ones included."""
    held = dense = 0
    for seed in range(first, first + 20):
        tenancy = make_tenancy(seed)
        preview = probe_tenancy(tenancy)
        estimate = preview.estimate
        assert estimate is not None
        assert preview.probes <= 24
        held += estimate.events.low <= tenancy.event_count <= estimate.events.high
        dense += estimate.dense > 0
        if estimate.is_exact:
            assert estimate.events.likely == pytest.approx(tenancy.event_count)
    assert held >= 18
    assert dense >= 5
