"""The tables of the reference pages that come from the code; `make tables` writes them again."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from ociaudit.analysis.query import NAMED_QUERIES
from ociaudit.events.columns import COLUMNS, MAP_COLUMNS, Column
from ociaudit.events.conditions import RECORDED_AS, NameRule, list_name_rules
from ociaudit.events.filters import PRESETS
from ociaudit.spark import OPTIONS

REFERENCE = Path(__file__).resolve().parents[2] / "docs/reference"


def format_rule(name_rule: NameRule) -> str:
    """Return a rule as the cell of a table."""
    names = ", ".join(f"`{pattern}`" for pattern in name_rule.patterns)
    return f"{names}, with outcome {name_rule.outcome}" if name_rule.outcome else names


def write_presets() -> Iterator[str]:
    """Yield the tables of the presets, line by line."""
    for preset in PRESETS:
        yield from (f"## {preset.name}", "", f"{preset.title[0].upper()}{preset.title[1:]}.", "")
        yield from ("| | event types |", "|---|---|")
        yield from (f"| {part.title} | {format_rule(part.name_rule)} |" for part in preset.parts)
        yield ""


def write_names() -> Iterator[str]:
    """Yield the table of names that Audit does not record, line by line."""
    yield from ("| name | what Audit records |", "|---|---|")
    for asked in RECORDED_AS:
        yield f"| `{asked}` | {'; '.join(map(format_rule, list_name_rules(asked)))} |"


def write_columns(columns: Iterable[Column]) -> Iterator[str]:
    """Yield a table of columns, line by line."""
    yield from ("| column | type | what it is |", "|---|---|---|")
    yield from (f"| `{one.name}` | {one.kind} | {one.description} |" for one in columns)


def write_queries() -> Iterator[str]:
    """Yield the named queries, each with its question and its text, line by line."""
    for name, query in NAMED_QUERIES.items():
        yield from (f"### {name}", "", query.question, "", "```sql", query.sql.strip(), "```", "")


def write_spark_options() -> Iterator[str]:
    """Yield the table of the options of the Spark data source, line by line."""
    yield from ("| option | what it is |", "|---|---|")
    yield from (f"| `{name}` | {text} |" for name, text in OPTIONS.items())


TABLES = {
    ("presets.md", "presets"): write_presets,
    ("filters.md", "names"): write_names,
    ("formats.md", "columns"): lambda: write_columns(COLUMNS),
    ("formats.md", "map-columns"): lambda: write_columns(MAP_COLUMNS),
    ("query.md", "queries"): write_queries,
    ("spark.md", "spark-options"): write_spark_options,
}


def refresh(text: str, mark: str) -> str:
    """Return a document with the table between its marks as the code has it."""
    table = "\n".join(TABLES[next(key for key in TABLES if key[1] == mark)]()).rstrip()
    start, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    assert text.count(start) == text.count(end) == 1
    return re.sub(f"{start}.*{end}", lambda _: f"{start}\n\n{table}\n\n{end}", text, flags=re.DOTALL)


@pytest.mark.parametrize(("name", "mark"), TABLES)
def test_the_tables_are_those_of_the_code(name: str, mark: str) -> None:
    """Presets, names, columns and named queries are documented as the code has them; `make tables` renews them."""
    text = (REFERENCE / name).read_text("utf-8")
    assert text == refresh(text, mark)


if __name__ == "__main__":
    for document, mark in TABLES:
        path = REFERENCE / document
        path.write_text(refresh(path.read_text("utf-8"), mark), "utf-8")
