"""The files of a profile that only their owner should read.

Owns: which fields name such files, and who may read these. Must not: open one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FIELDS = ("key_file", "security_token_file", "delegation_token_file")
_OF_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class PrivateFile:
    """A file, what names it, and its mode; `problem` is why the mode is not known."""

    path: Path
    named_by: str
    mode: int | None
    problem: str | None = None

    @property
    def is_exposed(self) -> bool:
        """Tell whether somebody else than the owner may read or change it."""
        return self.mode is not None and bool(self.mode & _OF_OTHERS)


def list_private_files(config_file: Path, fields: Mapping[str, Any]) -> Iterator[PrivateFile]:
    """Yield the configuration file and the files that the fields of its profile name."""
    yield _look_at(config_file, "the configuration file")
    for name in _FIELDS:
        if fields.get(name):
            yield _look_at(Path(os.path.expanduser(fields[name])), name)  # noqa: PTH111 - keeps an unknown `~user`


def _look_at(path: Path, named_by: str) -> PrivateFile:
    try:
        return PrivateFile(path, named_by, stat.S_IMODE(path.stat().st_mode))
    except (OSError, ValueError) as error:
        return PrivateFile(path, named_by, None, getattr(error, "strerror", None) or "no path of a file")
