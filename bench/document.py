"""The figures of a run as Markdown, written to docs/explanation/performance.md between two markers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.benchmark import ROOT, Benchmark, Row
from bench.table import list_cells

_PATH = ROOT / "docs/explanation/performance.md"
_BEGIN, _END = "<!-- figures -->\n", "<!-- /figures -->"


def update_document(machine: Mapping[str, str], results: Sequence[tuple[Benchmark, Sequence[Row]]]) -> None:
    """Replace the figures in the document with those of this run."""
    text = _PATH.read_text("utf-8")
    before, _, rest = text.partition(_BEGIN)
    after = rest.partition(_END)[2]
    parts = ["; ".join(f"{name} {value}" for name, value in machine.items()) + "."]
    for benchmark, rows in results:
        parts.append(f"**{benchmark.name}**: {benchmark.title}")
        parts.append(_write_markdown(rows))
    _PATH.write_text(before + _BEGIN + "\n" + "\n\n".join(parts) + "\n\n" + _END + after, "utf-8")


def _write_markdown(rows: Sequence[Row]) -> str:
    heads, *lines = list_cells(rows)
    name_rule = ["---", *("---:" for _ in heads[1:])]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heads, name_rule, *lines))
