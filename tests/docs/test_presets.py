import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ociaudit.events.event_names import RECORDED_AS, NameRule, list_name_rules
from ociaudit.events.presets import PRESETS

DOCS = Path(__file__).resolve().parents[2] / "docs"


def show(name_rule: NameRule) -> str:
    """Return a rule as the cell of a table."""
    names = ", ".join(f"`{pattern}`" for pattern in name_rule.patterns)
    return f"{names}, with outcome {name_rule.outcome}" if name_rule.outcome else names


def write_presets() -> Iterator[str]:
    """Return the tables of docs/presets.md, line by line."""
    for preset in PRESETS:
        yield from (f"## {preset.name}", "", f"{preset.title[0].upper()}{preset.title[1:]}.", "")
        yield from ("| | event types |", "|---|---|")
        yield from (f"| {part.title} | {show(part.name_rule)} |" for part in preset.parts)
        yield ""


def write_names() -> Iterator[str]:
    """Return the table of asked-for names in docs/filters.md, line by line."""
    yield from ("| asked for | means |", "|---|---|")
    for asked in RECORDED_AS:
        yield f"| `{asked}` | {'; '.join(map(show, list_name_rules(asked)))} |"


TABLES = {"presets.md": ("presets", write_presets), "filters.md": ("names", write_names)}


def refresh(name: str) -> str:
    """Return a document with its tables as the code has them."""
    mark, write = TABLES[name]
    tables = "\n".join(write()).rstrip()
    begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    text = (DOCS / name).read_text("utf-8")
    assert text.count(begin) == text.count(end) == 1
    return re.sub(f"{begin}.*{end}", lambda _: f"{begin}\n\n{tables}\n\n{end}", text, flags=re.DOTALL)


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_are_those_of_the_code(name: str) -> None:
    """docs/presets.md and docs/filters.md say what presets and names match; `make presets` renews them."""
    assert (DOCS / name).read_text("utf-8") == refresh(name)


if __name__ == "__main__":
    for document in TABLES:
        (DOCS / document).write_text(refresh(document), "utf-8")
