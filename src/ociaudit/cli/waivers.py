"""`--waive`: compartments whose denial is known. Owns: reading them from arguments and files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ociaudit.errors import UsageError
from ociaudit.plan.scope import check_ocid


def read_waivers(arguments: Sequence[str]) -> tuple[str, ...]:
    """Return the OCIDs named directly, or line by line in files; `#` begins a comment.

    Raises:
        UsageError: an argument is neither an OCID nor a readable file of them.
    """
    return tuple(check_ocid(ocid) for argument in arguments for ocid in _expand(argument))


def _expand(argument: str) -> Iterator[str]:
    if argument.startswith("ocid1."):
        yield argument
        return
    try:
        text = Path(argument).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"--waive {argument}: neither an OCID nor a readable file",
            hint="name an OCID, or a file with one in each line",
        ) from error
    for line in text.splitlines():
        ocid = line.split("#", 1)[0].strip()
        if ocid:
            yield ocid
