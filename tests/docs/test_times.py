import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ociaudit.errors import UsageError
from ociaudit.planning.time_range import parse_time
from support.documents import cut_section, read_table

NOW = datetime(2026, 11, 29, 0, 20, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def times(repository: Path) -> str:
    """The section of docs/reference/times-and-scope.md on times."""
    return cut_section((repository / "docs/reference/times-and-scope.md").read_text("utf-8"), "## Times")


def list_examples(section: str, title: str) -> list[str]:
    """Return what is set as code in the first column of the table with this title."""
    table = section[section.index(f"| {title} |") :].split("\n\n", maxsplit=1)[0]
    return [example for row in read_table(table) for example in re.findall(r"`([^`]+)`", row[0])]


def test_every_form_of_the_table_is_accepted(times: str) -> None:
    """Each example of a form is a time."""
    examples = list_examples(times, "form")
    assert len(examples) > 20
    for example in examples:
        assert parse_time(example, now=NOW)


def test_everything_that_is_said_to_be_rejected_is(times: str) -> None:
    """Each example of what is rejected is a usage error with a hint."""
    examples = list_examples(times, "rejected")
    assert len(examples) > 5
    for example in examples:
        with pytest.raises(UsageError) as caught:
            parse_time(example, now=NOW)
        assert caught.value.hint
