"""Exports from an emulator: as the installed command, and in this process.

Owns: where the command finds the emulator and its configuration.
Must not: judge what comes out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ociaudit.client.auth import load_credentials
from ociaudit.client.network import Endpoints
from ociaudit.client.transport import TransportLimits
from ociaudit.clock import Clock
from ociaudit.formats.registry import choose_output_format
from ociaudit.operations.context import Callbacks, ExportOptions, RunContext
from ociaudit.operations.export import ExportResult, export_events
from support.clocks import FastForwardClock
from support.emulator import Emulator
from support.processes import Finished, find_command, run_process


def point_at(emulator: Emulator) -> dict[str, str]:
    """Return the variables that lead a command to an emulator."""
    return {"OCI_AUDIT_ENDPOINT": emulator.url + "/{region}"}


def make_command(emulator: Emulator, *arguments: str) -> list[str]:
    """Return the command line of an export with the emulator's configuration."""
    return [find_command("oci-audit"), "export", "--config-file", str(emulator.config_path), *arguments]


def run_export(
    emulator: Emulator,
    folder: Path,
    *arguments: str,
    variables: Mapping[str, str] | None = None,
    wrap: Callable[[list[str]], list[str]] = list,
) -> Finished:
    """Run `oci-audit export` against an emulator, in a folder; `wrap` may put something before the command."""
    return run_process(
        wrap(make_command(emulator, *arguments)),
        cwd=folder,
        variables={**point_at(emulator), **(variables or {})},
    )


def make_tools(
    emulator: Emulator,
    *,
    clock: Clock | None = None,
    limits: TransportLimits | None = None,
    callbacks: Callbacks | None = None,
) -> RunContext:
    """Return the collaborators of an export in this process; by default it does not wait."""
    return RunContext(
        credentials=load_credentials(str(emulator.config_path)),
        endpoints=Endpoints(emulator.url + "/{region}"),
        clock=clock or FastForwardClock(),
        limits=limits or TransportLimits(),
        callbacks=callbacks or Callbacks(),
    )


def export_here(
    options: ExportOptions, output: Path, context: RunContext, *, max_window_days: int = 14
) -> ExportResult:
    """Export in this process; the output's suffix selects the format."""
    chosen = choose_output_format(output)
    return export_events(
        replace(
            options,
            output=output,
            format=chosen.format,
            compression=chosen.compression,
            max_window_days=max_window_days,
        ),
        context,
    )


def read_manifest(output: Path) -> dict[str, Any]:
    """Return the manifest beside an output."""
    content: dict[str, Any] = json.loads(output.with_name(output.name + ".manifest.json").read_bytes())
    return content
