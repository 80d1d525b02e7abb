"""`oci-audit presets`: its options and its screen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from ociaudit.cli import console
from ociaudit.cli.options import Command, argument, complete_presets, json_option
from ociaudit.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ociaudit.events.presets import Preset


@click.command(
    cls=Command,
    examples=(
        ("List all presets", "oci-audit presets"),
        ("Show the event types that one preset matches", "oci-audit presets api-keys"),
    ),
)
@argument("name", required=False, metavar="[NAME]", shell_complete=complete_presets, help="Preset to show in full.")
@json_option
def presets(name: str | None, *, as_json: bool) -> int:
    """List the named filters for --preset; with NAME, show the event types that the preset matches.

    Exit codes: 0 listed, 2 no preset with that name.
    """
    from ociaudit.events.presets import PRESETS, find_preset

    chosen = (find_preset(name),) if name is not None else PRESETS
    if as_json:
        import json

        console.print_data(json.dumps({preset.name: _encode_preset(preset) for preset in chosen}))
        return ExitCode.OK
    for line in _describe_list(chosen) if name is None else _describe_preset(chosen[0]):
        console.print_output(line)
    return ExitCode.OK


def _describe_list(chosen: Sequence[Preset]) -> Iterator[str]:
    width = max(len(preset.name) for preset in chosen)
    for preset in chosen:
        yield f"{preset.name:<{width}}  {preset.title}"


def _describe_preset(preset: Preset) -> Iterator[str]:
    yield f"{preset.name}: {preset.title}"
    for part in preset.parts:
        yield f"  {part.title}"
        for pattern in part.name_rule.patterns:
            yield f"    {pattern}"


def _encode_preset(preset: Preset) -> dict[str, Any]:
    return {
        "title": preset.title,
        "parts": [
            {"title": part.title, "event_types": part.name_rule.patterns, "outcome": part.name_rule.outcome}
            for part in preset.parts
        ],
    }
