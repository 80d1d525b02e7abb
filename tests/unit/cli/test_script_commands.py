import pytest

from ociaudit.cli.script_commands import LOGSTREAMER, STREAMER, Script, _check_date, split_filter
from ociaudit.errors import UsageError

A, B = "ocid1.compartment.oc1..aaaa", "ocid1.tenancy.oc1..bbbb"


@pytest.mark.parametrize(
    ("eventfilter", "compartment", "expected"),
    [
        (None, None, (None, ())),
        ("", None, (None, ())),
        (" ; ;", None, (None, ())),
        (A, None, (A, ())),
        (f"{A};UploadApiKey", None, (A, ("UploadApiKey",))),
        (f" UploadApiKey ; {A} ", None, (A, ("UploadApiKey",))),
        ("Instance|Compute;Identity", None, (None, ("Instance|Compute", "Identity"))),
        ("Identity", A, (A, ("Identity",))),
        (A, A, (A, ())),
        (f"{A};{A}", None, (A, ())),
        ("ocid1", None, (None, ("ocid1",))),
    ],
)
def test_a_filter_names_compartment_and_expressions(
    eventfilter: str | None, compartment: str | None, expected: tuple[str | None, tuple[str, ...]]
) -> None:
    """A part that is an OCID is the compartment; any other part is searched in the event type."""
    assert split_filter(eventfilter, compartment) == expected


@pytest.mark.parametrize(("eventfilter", "compartment"), [(f"{A};{B}", None), (A, B)])
def test_two_compartments_are_rejected(eventfilter: str, compartment: str | None) -> None:
    """The scripts cover one compartment; the hint names the command that covers several."""
    with pytest.raises(UsageError) as caught:
        split_filter(eventfilter, compartment)
    assert "oci-audit export" in caught.value.hint


@pytest.mark.parametrize(("script", "text"), [(STREAMER, "2024-02-29"), (LOGSTREAMER, "29.02.24")])
def test_each_script_has_its_form_of_a_date(script: Script, text: str) -> None:
    """A script accepts the form of a date that its documentation shows."""
    _check_date(script, text)


@pytest.mark.parametrize("script", [STREAMER, LOGSTREAMER])
@pytest.mark.parametrize(
    "text",
    [
        "",
        "7d",
        "now",
        "2023-02-29",
        "29.02.23",
        "2024-1-1",
        "1.1.24",
        "01.01.2024",
        "2024-01-01T00:00:00Z",
        "٢٠٢٤-٠١-٠١",
        "2024-01-01 ",
        "2024/01/01",
    ],
)
def test_another_form_has_a_hint_with_the_right_one(script: Script, text: str) -> None:
    """A wrong or impossible date is a usage error with a hint."""
    with pytest.raises(UsageError) as caught:
        _check_date(script, text)
    assert caught.value.hint.startswith("write ")


def test_the_other_scripts_form_is_rejected() -> None:
    """Neither script accepts the dates of the other, so that 01.02.24 has one meaning."""
    with pytest.raises(UsageError, match="does not have the required form"):
        _check_date(STREAMER, "29.02.24")
    with pytest.raises(UsageError, match="does not have the required form"):
        _check_date(LOGSTREAMER, "2024-02-29")
