import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.events.outcome import is_sign_in, read_outcome

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["data", "response", "status", "additionalDetails", "eventId", "message", "eventType"]),
            inner,
            max_size=3,
        )
    ),
)


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        ({"response": {"status": "200"}}, "success"),
        ({"response": {"status": "404"}}, "failure"),
        ({"response": {"status": 500}}, "failure"),
        ({"response": {"status": "9" * 5_000}}, "failure"),
        ({"response": {"status": None}, "additionalDetails": {"eventId": "sso.session.create.success"}}, "success"),
        ({"additionalDetails": {"eventId": "sso.authentication.failure"}, "message": "succeeded"}, "failure"),
        ({"message": " InteractiveLogin succeeded"}, "success"),
        ({"message": "Login FAILED"}, "failure"),
        ({"response": {"status": "OK"}}, "unknown"),
        ({"response": "200"}, "unknown"),
        ([], "unknown"),
        (None, "unknown"),
    ],
)
def test_the_outcome_is_read_from_the_first_place_that_tells(data: object, outcome: str) -> None:
    """The status counts, else the suffix of the event id in the details, else the message."""
    assert read_outcome({"data": data}) == outcome


@given(st.dictionaries(st.sampled_from(["data", "eventType"]), anything, max_size=2))
def test_no_event_is_too_odd(event: dict[str, object]) -> None:
    """Whatever an event holds, it has an outcome and is a sign-in or not."""
    assert read_outcome(event) in {"success", "failure", "unknown"}
    assert is_sign_in(event) in {True, False}
