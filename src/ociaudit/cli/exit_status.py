"""From an error to the exit status. Owns: the one rule that is not in the class: signals. Must not: exit."""

from __future__ import annotations

from ociaudit.errors import Interrupted, OciAuditError

SIGNAL_EXIT_BASE = 128


def find_exit_status(error: OciAuditError) -> int:
    """Return the exit status that an error ends the program with."""
    return SIGNAL_EXIT_BASE + error.signal_number if isinstance(error, Interrupted) else error.exit_code
