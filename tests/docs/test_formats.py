from pathlib import Path

from ociaudit.events.columns import COLUMNS, MAP_COLUMNS
from ociaudit.formats.compression import COMPRESSION_NAMES
from ociaudit.formats.registry import FORMAT_NAMES
from support.documents import cut_section, read_table

PAGE = "docs/reference/formats.md"


def test_the_documented_columns_are_those_that_are_written(repository: Path) -> None:
    """The page of formats has both tables of columns, in their order, with type and meaning."""
    section = cut_section((repository / PAGE).read_text("utf-8"), "## Columns")
    scalars, _, maps = section.partition("Parquet has these columns before")
    for text, columns in ((scalars, COLUMNS), (maps, MAP_COLUMNS)):
        assert read_table(text) == [[f"`{one.name}`", one.kind, one.description] for one in columns]


def test_every_format_and_compression_is_documented(repository: Path) -> None:
    """The first table has the formats; the compressions are named below it."""
    text = (repository / PAGE).read_text("utf-8")
    assert [row[0] for row in read_table(text)] == [f"`{name}`" for name in FORMAT_NAMES]
    assert all(f"`{name}`" in text for name in COMPRESSION_NAMES)
