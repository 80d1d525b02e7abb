"""`oci-audit emulator`: Oracle's side on this machine. Owns: starting its process; it is never imported."""

from __future__ import annotations

import os
import sys

import typer


def emulator(context: typer.Context) -> None:
    """Serve a made tenancy on this machine; `oci-audit emulator --help` shows its own options."""
    os.execv(sys.executable, [sys.executable, "-m", "ociaudit_emulator", *context.args])  # noqa: S606
