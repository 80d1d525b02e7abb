"""`oci-audit verify`: is this export what it states to be? Owns: its options and its words.

What `oci-audit verify` says. Owns: its words. Must not: print, or check anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from ociaudit.cli import console
from ociaudit.operations.verify import Verification, judge

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
    from ociaudit.operations.verify import judge, verify_export

    result = verify_export(file, manifest_path=manifest, signer=signer)
    if is_json:
        console.print_output(encode_verification(result))
    else:
        for line in describe_verification(result, file):
            console.print_output(line)
    return _EXIT_CODES[judge(result)]


_GAPS_SHOWN = 40


def describe_verification(result: Verification, file: Path) -> Iterator[str]:
    """Yield what was asked, what is complete, what is missing and what disagrees."""
    manifest = result.manifest
    yield f"{file}: {manifest.totals.written:,} events, {manifest.output.size_bytes:,} bytes"
    yield f"asked     {manifest.range.start} to {manifest.range.end}, {manifest.range.time}, end exclusive"
    yield f"          by {manifest.asked_by.principal} of {manifest.asked_by.tenancy}"
    complete = sum(bool(target.windows) for target in manifest.coverage)
    yield f"answered  {complete} of {len(manifest.coverage)} places (region × compartment) in part or whole"
    yield f"gaps      {len(manifest.gaps)}, and {len(manifest.waived_gaps)} waived"
    shown = [("", gap) for gap in manifest.gaps] + [("waived, ", gap) for gap in manifest.waived_gaps]
    for mark, gap in shown[:_GAPS_SHOWN]:
        request_id = f" (opc-request-id {gap.request_id})" if gap.request_id else ""
        yield f"  {mark}{gap.kind} {gap.region} {gap.compartment} {gap.start} .. {gap.end}: {gap.reason}{request_id}"
    if len(shown) > _GAPS_SHOWN:
        yield f"  … and {len(shown) - _GAPS_SHOWN:,} more; all are in the manifest"
    if manifest.provisional:
        yield f"          {len(manifest.provisional)} windows provisional: asked too soon after their end"
    yield f"manifest  sha256:{manifest.digest}"
    yield f"signature {_describe_signature(result)}"
    for note in result.notes:
        yield f"note      {note}"
    for problem in result.problems:
        where = f" (from byte {problem.offset:,})" if problem.offset is not None else ""
        mark = "SIGNATURE" if problem.file.endswith(".sig") else "ALTERED  "
        yield f"{mark} {problem.file}: {problem.text}{where}"
    yield f"verdict   {_describe_verdict(result)}"


def encode_verification(result: Verification) -> str:
    """Return the result as one JSON object."""
    manifest = result.manifest
    signature = result.signature
    answer = {
        "verdict": judge(result),
        "output": manifest.output,
        "manifest_digest": manifest.digest,
        "is_signed": signature is not None,
        "authorship": result.authorship,
        "signature": signature,
        "problems": result.problems,
        "notes": result.notes,
        "range": manifest.range,
        "totals": manifest.totals,
        "gaps": manifest.gaps,
        "waived_gaps": manifest.waived_gaps,
        "provisional": manifest.provisional,
    }
    return msgspec.json.encode(answer).decode()


def _describe_signature(result: Verification) -> str:
    message = result.signature.message if result.signature else ""
    match result.authorship:
        case "unsigned":
            return "none: consistency is proven, authorship is not"
        case "missing":
            return "none, and one was expected"
        case "unfit":
            return f"does not fit: {message}"
        case "unknown_signer":
            return f"good, but unvouched: {message}; name the key you trust with --signer"
        case "other_signer":
            return f"good, but of another signer: {message}"
        case _:
            return f"good, of the expected signer: {message}"


_AUTHORSHIP = {
    "unsigned": "unsigned: who made it is not proven",
    "unknown_signer": "signed by a key that nobody vouched for: who made it is not proven",
    "expected_signer": "signed by the expected signer",
}


def _describe_verdict(result: Verification) -> str:
    if not result.is_consistent and all(problem.file.endswith(".sig") for problem in result.problems):
        return "NOT SIGNED AS EXPECTED: the files agree with their manifest, but whose manifest it is, is not proven"
    match judge(result):
        case "altered":
            return "ALTERED OR DAMAGED: do not rely on it; export again, or restore it from a copy"
        case "incomplete":
            return f"consistent, and INCOMPLETE: see the gaps; {_AUTHORSHIP[result.authorship]}"
        case _:
            return f"complete and consistent; {_AUTHORSHIP[result.authorship]}"
