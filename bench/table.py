"""Rows as a text table, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from bench.benchmark import Benchmark, Figure, Row

_REACHED = {True: "yes", False: "NO", None: ""}


def write_table(rows: Sequence[Row]) -> str:
    """Return rows as lines with aligned columns."""
    lines = list_cells(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:])]).rstrip() for cells in lines
    )


def list_cells(rows: Sequence[Row]) -> list[list[str]]:
    """Return the header and the cells of each row; each figure that any row has is a column."""
    names = list(dict.fromkeys(name for row in rows for name in row.figures))
    has_target = any(row.target for row in rows)
    lines = [["", *names, *(["target", "reached"] if has_target else [])]]
    for row in rows:
        cells = [row.name, *(_format_figure(row.figures.get(name, "")) for name in names)]
        lines.append([*cells, row.target, _REACHED[row.is_reached]] if has_target else cells)
    return lines


def write_json(path: Path, machine: Mapping[str, str], results: Sequence[tuple[Benchmark, Sequence[Row]]]) -> None:
    """Write the machine and all rows to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "machine": dict(machine),
        "benchmarks": [
            {"name": benchmark.name, "title": benchmark.title, "rows": [asdict(row) for row in rows]}
            for benchmark, rows in results
        ],
    }
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _format_figure(figure: Figure) -> str:
    if isinstance(figure, str):
        return figure
    if isinstance(figure, int) or figure >= 1_000:
        return f"{figure:,.0f}"
    return f"{figure:.1f}" if figure >= 100 else f"{figure:.2f}"
