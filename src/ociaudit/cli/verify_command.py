"""`oci-audit verify`: is this export what it states to be? Owns: its options and its words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ociaudit.cli import console

ALTERED_EXIT_CODE = 7
INCOMPLETE_EXIT_CODE = 10
_EXIT_CODES = {"complete": 0, "incomplete": INCOMPLETE_EXIT_CODE, "altered": ALTERED_EXIT_CODE}


def verify(
    file: Annotated[Path, typer.Argument(help="The file that oci-audit export wrote.", metavar="FILE")],
    *,
    manifest: Annotated[
        Path | None, typer.Option(help="Its manifest.", show_default="beside the file", metavar="FILE")
    ] = None,
    signer: Annotated[
        Path | None,
        typer.Option(
            help="Public SSH key, or allowed-signers file, that must have signed the manifest.", metavar="FILE"
        ),
    ] = None,
    is_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> int:
    """Check an export against its manifest: bytes, order, duplicates, sums, ledger, signature. Offline.

    Exit codes: 0 complete and consistent, 10 consistent with gaps, 7 altered or damaged, 6 unreadable.
    """
    from ociaudit.cli.verify_view import describe_verification, encode_verification
    from ociaudit.jobs.verify import judge, verify_export

    result = verify_export(file, manifest_path=manifest, signer=signer)
    if is_json:
        console.say_answer(encode_verification(result))
    else:
        for line in describe_verification(result, file):
            console.say_answer(line)
    return _EXIT_CODES[judge(result)]
