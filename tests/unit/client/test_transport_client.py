import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.client.transport import RetryPolicy
from ociaudit.errors import ConnectionFailed, InvalidResponse, RequestError, ServiceError

POLICY = RetryPolicy()
jitters = st.floats(0, 1, exclude_max=True)


def reject(status: int, retry_after_seconds: float | None = None) -> ServiceError:
    """Make an error of Oracle's."""
    return ServiceError("no", status=status, code="Code", is_oci=True, retry_after_seconds=retry_after_seconds)


@given(st.integers(1, 7), jitters)
def test_a_wait_grows_to_a_bound_with_jitter(try_number: int, jitter: float) -> None:
    """A wait is between half of the backoff and all of it, and the backoff doubles with every try up to a bound."""
    full = min(20.0, 0.2 * 2 ** (try_number - 1))
    wait = POLICY.choose_wait(ConnectionFailed("no"), try_number=try_number, jitter=jitter)
    assert wait is not None
    assert full / 2 <= wait <= full


@given(st.integers(1, 7), jitters, st.floats(0, 1e308) | st.just(float("inf")))
def test_retry_after_is_honoured_up_to_a_bound(try_number: int, jitter: float, requested: float) -> None:
    """A retry is never earlier than the service asks for, except for a value that would stop the run."""
    wait = POLICY.choose_wait(reject(429, requested), try_number=try_number, jitter=jitter)
    plain = POLICY.choose_wait(reject(429), try_number=try_number, jitter=jitter)
    assert wait is not None
    assert wait >= min(requested, 300.0)
    assert plain <= wait <= 300.0


@pytest.mark.parametrize("error", [ConnectionFailed("no"), InvalidResponse("no"), reject(429), reject(503)])
def test_there_are_eight_tries(error: RequestError) -> None:
    """After the eighth failed try there is no other."""
    assert POLICY.choose_wait(error, try_number=7, jitter=0.5) is not None
    assert POLICY.choose_wait(error, try_number=8, jitter=0.5) is None


@pytest.mark.parametrize("status", [*range(400, 430), *range(500, 512)])
def test_only_transient_errors_are_retried(status: int) -> None:
    """409, 429 and gateway errors are retried; any other status is not, whatever Retry-After says."""
    is_retried = POLICY.choose_wait(reject(status, 5.0), try_number=1, jitter=0.5) is not None
    assert is_retried == (status in {409, 429, 500, 502, 503, 504})
