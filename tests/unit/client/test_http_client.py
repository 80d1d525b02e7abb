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
def test_a_wait_grows_to_a_bound_with_jitter(attempt: int, chance: float) -> None:
    """Between half of the wait and all of it, doubling with every attempt, never above the bound."""
    full = min(20.0, 0.2 * 2 ** (attempt - 1))
    wait = POLICY.choose_wait(ConnectionFailed("no"), attempt=attempt, chance=chance)
    assert wait is not None
    assert full / 2 <= wait <= full


@given(st.integers(1, 7), chances, st.floats(0, 1e308) | st.just(float("inf")))
def test_retry_after_is_honoured_up_to_a_bound(attempt: int, chance: float, asked: float) -> None:
    """Never sooner than the service asks, but for a value that would stop the run; never without a wait."""
    wait = POLICY.choose_wait(refuse(429, asked), attempt=attempt, chance=chance)
    plain = POLICY.choose_wait(refuse(429), attempt=attempt, chance=chance)
    assert wait is not None
    assert wait >= min(asked, 300.0)
    assert plain <= wait <= 300.0


@pytest.mark.parametrize("error", [ConnectionFailed("no"), InvalidResponse("no"), refuse(429), refuse(503)])
def test_there_are_eight_attempts(error: RequestError) -> None:
    """After the eighth failed attempt the request is given up."""
    assert POLICY.choose_wait(error, attempt=7, chance=0.5) is not None
    assert POLICY.choose_wait(error, attempt=8, chance=0.5) is None


@pytest.mark.parametrize("status", [*range(400, 430), *range(500, 512)])
def test_only_what_can_pass_is_repeated(status: int) -> None:
    """409, 429 and the gateway errors are repeated, any other status is not, whatever Retry-After says."""
    is_repeated = POLICY.choose_wait(refuse(status, 5.0), attempt=1, chance=0.5) is not None
    assert is_repeated == (status in {409, 429, 500, 502, 503, 504})
