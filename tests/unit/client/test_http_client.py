import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.client.http_client import RetryPolicy
from ociaudit.errors import ConnectionFailed, InvalidResponse, RequestError, ServiceError

POLICY = RetryPolicy()
chances = st.floats(0, 1, exclude_max=True)


def refuse(status: int, retry_after_seconds: float | None = None) -> ServiceError:
    """Make a refusal of Oracle's."""
    return ServiceError("no", status=status, code="Code", is_oci=True, retry_after_seconds=retry_after_seconds)


@given(st.integers(1, 7), chances)
def test_a_wait_grows_to_a_bound_with_jitter(try_number: int, chance: float) -> None:
    """Between half of the wait and all of it, doubling with every try, never above the bound."""
    full = min(20.0, 0.2 * 2 ** (try_number - 1))
    wait = POLICY.choose_wait(ConnectionFailed("no"), try_number=try_number, chance=chance)
    assert wait is not None
    assert full / 2 <= wait <= full


@given(st.integers(1, 7), chances, st.floats(0, 1e308) | st.just(float("inf")))
def test_retry_after_is_honoured_up_to_a_bound(try_number: int, chance: float, asked: float) -> None:
    """Never sooner than the service asks, but for a value that would stop the run; never without a wait."""
    wait = POLICY.choose_wait(refuse(429, asked), try_number=try_number, chance=chance)
    plain = POLICY.choose_wait(refuse(429), try_number=try_number, chance=chance)
    assert wait is not None
    assert wait >= min(asked, 300.0)
    assert plain <= wait <= 300.0


@pytest.mark.parametrize("error", [ConnectionFailed("no"), InvalidResponse("no"), refuse(429), refuse(503)])
def test_there_are_eight_tries(error: RequestError) -> None:
    """After the eighth failed try the request is given up."""
    assert POLICY.choose_wait(error, try_number=7, chance=0.5) is not None
    assert POLICY.choose_wait(error, try_number=8, chance=0.5) is None


@pytest.mark.parametrize("status", [*range(400, 430), *range(500, 512)])
def test_only_what_can_pass_is_repeated(status: int) -> None:
    """409, 429 and the gateway errors are repeated, any other status is not, whatever Retry-After says."""
    is_repeated = POLICY.choose_wait(refuse(status, 5.0), try_number=1, chance=0.5) is not None
    assert is_repeated == (status in {409, 429, 500, 502, 503, 504})
