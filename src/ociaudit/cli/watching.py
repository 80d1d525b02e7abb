"""Who watches a run: a person at a terminal, a person who reads a pipe, a program, or nobody.

Owns: the choice. Must not: print.
"""

from __future__ import annotations

from typing import Literal

from ociaudit.cli import console
from ociaudit.cli.json_log import JsonLog
from ociaudit.cli.progress import BarProgress, LineProgress, QuietProgress
from ociaudit.errors import UsageError

LogFormat = Literal["text", "json"]


def choose_progress(*, is_quiet: bool, log_format: LogFormat = "text", verbosity: int = 0) -> QuietProgress:
    """Return what fits who is watching.

    Raises:
        UsageError: it is to be quiet and verbose at once.
    """
    if is_quiet and verbosity:
        raise UsageError("--quiet and --verbose exclude each other", hint="leave one of them away")
    if log_format == "json":
        return JsonLog(is_quiet=is_quiet, verbosity=verbosity)
    if is_quiet:
        return QuietProgress()
    return BarProgress(verbosity=verbosity) if console.is_terminal() else LineProgress(verbosity=verbosity)
