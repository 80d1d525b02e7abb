"""`oci-audit presets`: the filters that have a name, and what they match.

Owns: its options and its words. Must not: know what a preset matches.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ociaudit.cli import console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ociaudit.events.presets import Preset


def presets(
    name: Annotated[str | None, typer.Argument(help="Preset to show with all that it matches.", metavar="NAME")] = None,
    *,
    is_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """List the filters that have a name, for --preset; with NAME, one of them with the event types it matches.

    Exit codes: 0 listed, 2 there is no preset of that name.
    """
    from ociaudit.events.presets import PRESETS, find_preset

    chosen = (find_preset(name),) if name is not None else PRESETS
    if is_json:
        console.print_output(json.dumps({preset.name: _describe(preset) for preset in chosen}))
    elif name is None:
        _print_list(chosen)
    else:
        _print_all(chosen[0])
    return 0


def _print_list(chosen: Sequence[Preset]) -> None:
    width = max(len(preset.name) for preset in chosen)
    for preset in chosen:
        console.print_output(f"{preset.name:<{width}}  {preset.title}")


def _print_all(preset: Preset) -> None:
    console.print_output(f"{preset.name}: {preset.title}")
    for part in preset.parts:
        console.print_output(f"  {part.title}")
        for pattern in part.name_rule.patterns:
            console.print_output(f"    {pattern}")


def _describe(preset: Preset) -> dict[str, Any]:
    return {
        "title": preset.title,
        "parts": [
            {"title": part.title, "event_types": part.name_rule.patterns, "outcome": part.name_rule.outcome}
            for part in preset.parts
        ],
    }
