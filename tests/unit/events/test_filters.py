import pytest

from ociaudit.errors import UsageError
from ociaudit.events.filters import EventFilter
from ociaudit.events.names import RECORDED_AS, find_recorded_names
from support.drawn_shards import make_event

EVENTS = [make_event(number) for number in range(3)]


def test_without_patterns_everything_passes() -> None:
    """A filter without patterns lets every event pass and counts as none."""
    assert EventFilter().select(EVENTS) == EVENTS
    assert not EventFilter()


@pytest.mark.parametrize(
    ("patterns", "is_wanted"),
    [
        (["Made"], True),
        (["^com\\.oraclecloud"], True),
        (["made"], False),
        (["nothing", "test"], True),
        (["^Made"], False),
        ([""], True),
    ],
)
def test_a_pattern_is_searched_and_any_is_enough(patterns: list[str], is_wanted: bool) -> None:
    """A pattern may match anywhere in the type, with its case, and one of several suffices."""
    assert EventFilter(patterns).select(EVENTS) == (EVENTS if is_wanted else [])


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("a**", "multiple repeat at position 2"),
        ("(", "position 0"),
        ("[z-a]", "position 1"),
        ("a{99999999999999}", "repetition number is too large"),
        ("(" * 5_000 + ")" * 5_000, "recursion"),
        ("\\", "bad escape"),
    ],
)
def test_a_wrong_pattern_is_named_with_its_place(pattern: str, words: str) -> None:
    """What cannot be compiled, for whatever reason, is a usage error that says what and where."""
    with pytest.raises(UsageError, match=words) as caught:
        EventFilter(["good", pattern])
    assert repr(pattern) in str(caught.value)


@pytest.mark.parametrize("asked", RECORDED_AS)
def test_a_name_that_people_ask_for_leads_to_the_recorded_one(asked: str) -> None:
    """A pattern that mentions a name from the documentation, in any case, finds what Audit records."""
    assert find_recorded_names(f".*{asked.lower()}$") == (asked, RECORDED_AS[asked])
    assert find_recorded_names("LaunchInstance") is None
