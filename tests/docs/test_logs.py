import re

import pytest

from ociaudit.cli.json_log import RECORDS, LogRecord, RegionProgress, SlowShard
from support.documents import cut_section, read_table

VALUES = re.compile(r" \([^)]*\)")


@pytest.fixture(scope="module")
def section(repository):
    """What docs/reference/logs.md says about the lines of JSON."""
    return cut_section((repository / "docs/reference/logs.md").read_text("utf-8"), "## Lines of JSON")


def test_the_table_of_lines_is_that_of_the_code(section) -> None:
    """Every kind of line has its row with its fields, in their order, and no other has."""
    stated = {
        event.strip("`"): re.findall(r"`(\w+)`", VALUES.sub("", fields)) for event, _, fields in read_table(section)
    }
    shared = set(LogRecord.__struct_fields__)
    real = {
        one.__struct_config__.tag: [name for name in one.__struct_fields__ if name not in shared] for one in RECORDS
    }
    assert stated == real
    assert {f"`{name}`" for name in shared} <= set(re.findall(r"`\w+`", section))


@pytest.mark.parametrize(("name", "kind"), [("regions", RegionProgress), ("slowest", SlowShard)])
def test_what_is_listed_in_a_line_is_documented(section, name, kind) -> None:
    """The objects inside `regions` and `slowest` have the fields that the document names."""
    text = " ".join(section.split())
    found = re.search(rf"of `{name}`(?: in `progress`)? has ((?:`\w+` ?)+)", text)
    assert found is not None
    assert re.findall(r"`(\w+)`", found[1]) == list(kind.__struct_fields__)
