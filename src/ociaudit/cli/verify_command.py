"""`oci-audit verify`: its options, its run and its screen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ociaudit.cli import console
from ociaudit.cli.options import FILE, Command, argument, json_option, option
from ociaudit.errors import format_count

if TYPE_CHECKING:
    from ociaudit.operations.verify import Verification

_AUTHORSHIP = {
    "unsigned": "unsigned: who made it is not proven",
    "unknown_signer": "signed by an unknown key: who made it is not proven",
    "expected_signer": "signed by the expected signer",
}


@click.command(
    cls=Command,
    examples=(
        ("Check an export", "oci-audit verify audit.json"),
        ("Also check who signed it", "oci-audit verify audit.json --signer allowed_signers"),
    ),
)
@argument("file", type=FILE, metavar="FILE", help="Events file written by `oci-audit export`.")
@option("--manifest", type=FILE, metavar="FILE", show_default="next to the file", help="Manifest of the export.")
@option(
    "--signer",
    type=FILE,
    metavar="FILE",
    help="Public SSH key or allowed-signers file to verify the manifest's signature against.",
)
@option("--require-final", is_flag=True, help="Exit with 11 if the export is complete only so far.")
@json_option
def verify(file: Path, *, manifest: Path | None, signer: Path | None, require_final: bool, as_json: bool) -> int:
    """Check an export against its manifest: hashes, order, duplicates, totals, ledger, and signature. Works offline.

    Exit codes: 0 complete and consistent, 10 consistent, but with gaps, 11 not final with --require-final, 7 altered or
    damaged, 6 unreadable, 2 usage error.
    """
    from ociaudit.operations.verify import verify_export

    result = verify_export(file, manifest_path=manifest, signer=signer)
    if as_json:
        console.print_data(encode_verification(result))
    else:
        for line in describe_verification(result, file):
            console.print_output(line)
    return result.verdict.find_exit_code(require_final=require_final)


def describe_verification(result: Verification, file: Path) -> Iterator[str]:
    """Yield what was requested, what is complete, what is missing and what does not match."""
    manifest = result.manifest
    events = format_count(manifest.totals.written, "event")
    yield f"{file}: {events}, {format_count(manifest.output.size_bytes, 'byte')}"
    yield f"requested {manifest.range.start} to {manifest.range.end}, {manifest.range.time}, end exclusive"
    yield f"          by {manifest.asked_by.principal} of {manifest.asked_by.tenancy}"
    complete = sum(bool(target.windows) for target in manifest.coverage)
    targets = format_count(len(manifest.coverage), "target")
    yield f"covered   {complete} of {targets} (region × compartment), fully or in part"
    yield f"gaps      {len(manifest.gaps)}, and {len(manifest.waived_gaps)} waived"
    for title, entries in (("", manifest.gaps), ("waived:", manifest.waived_gaps)):
        if title and entries:
            yield f"  {title}"
        yield from console.list_gap_entries(entries, manifest.scope.compartment_paths, manifest.range)
    yield f"manifest  sha256:{manifest.digest}"
    yield f"signature {_describe_signature(result)}"
    for note in result.notes:
        yield f"note      {note}"
    for problem in result.problems:
        where = f" (from byte {problem.offset:,})" if problem.offset is not None else ""
        mark = "SIGNATURE" if problem.file.endswith(".sig") else "ALTERED  "
        yield f"{mark} {problem.file}: {problem.text}{where}"
    if result.is_consistent:
        yield f"files     consistent; {_AUTHORSHIP[result.authorship]}"
    headline, *qualifiers = _describe_verdict(result)
    yield f"verdict   {headline}"
    yield from (f"          {line}" for line in qualifiers)


def encode_verification(result: Verification) -> str:
    """Return the result as one JSON object."""
    import msgspec

    from ociaudit.storage.verdict import describe_verdict

    manifest, verdict = result.manifest, result.verdict
    signature = result.signature
    fields = {
        "verdict": verdict.kind,
        "verdict_text": describe_verdict(verdict),
        "is_final": verdict.is_final,
        "final_until": verdict.final_until,
        "final_from": verdict.final_from,
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
    return msgspec.json.encode(fields).decode()


def _describe_signature(result: Verification) -> str:
    message = result.signature.message if result.signature else ""
    match result.authorship:
        case "unsigned":
            return "none: the files are consistent; who made them is not proven"
        case "missing":
            return "none, and one was expected"
        case "unfit":
            return f"invalid: {message}"
        case "unknown_signer":
            return f"valid, but the signer is unknown: {message}; name the key you trust with --signer"
        case "other_signer":
            return f"valid, but by another signer: {message}"
        case _:
            return f"valid, by the expected signer: {message}"


def _describe_verdict(result: Verification) -> list[str]:
    from ociaudit.storage.verdict import VerdictKind, describe_verdict

    if not result.is_consistent and all(problem.file.endswith(".sig") for problem in result.problems):
        return ["NOT SIGNED AS EXPECTED: the files match their manifest, but who made the manifest is not proven"]
    if result.verdict.kind is VerdictKind.ALTERED:
        return ["ALTERED OR DAMAGED: do not rely on it; export again, or restore it from a copy"]
    return describe_verdict(result.verdict)
