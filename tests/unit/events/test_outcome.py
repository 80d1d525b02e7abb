import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.events.outcome import is_sign_in, judge_outcome


@pytest.mark.parametrize(
    ("status", "detail", "message", "outcome"),
    [
        ("200", None, None, "success"),
        ("399", None, None, "success"),
        ("404", "sso.session.create.success", None, "failure"),
        ("9" * 5_000, None, None, "failure"),
        (None, "sso.session.create.success", None, "success"),
        (None, "sso.authentication.failure", "succeeded", "failure"),
        (None, None, " InteractiveLogin succeeded", "success"),
        (None, "admin.me.locked", "Login FAILED", "failure"),
        ("OK", None, None, "unknown"),
        ("٤٠٤", None, None, "unknown"),
        ("", "", "", "unknown"),
        (None, None, None, "unknown"),
    ],
)
def test_the_outcome_is_read_from_the_first_place_that_tells(
    status: str | None, detail: str | None, message: str | None, outcome: str
) -> None:
    """The status counts, else the suffix of the event id in the details, else the message."""
    assert judge_outcome(status, detail, message) == outcome


@given(st.none() | st.text(), st.none() | st.text(), st.none() | st.text())
def test_no_text_is_too_odd(status: str | None, detail: str | None, message: str | None) -> None:
    """Whatever an event holds, it has an outcome and is a sign-in or not."""
    assert judge_outcome(status, detail, message) in {"success", "failure", "unknown"}
    assert is_sign_in(status, detail) in {True, False}
