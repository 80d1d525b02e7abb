"""`oci-audit verify`: its options, its run and its screen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ociaudit.cli import console
from ociaudit.cli.options import ARCHIVES, FILE, PLACE, Command, Places, argument, json_option, option, place_options
from ociaudit.errors import UsageError, format_count

if TYPE_CHECKING:
    from ociaudit.archive.commit import Head
    from ociaudit.archive.state import ArchiveState
    from ociaudit.client.object_storage import ObjectUrl
    from ociaudit.operations.verify import ArchiveVerification, Problem, Verification

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
        ("Check what an archive has gained since its commit 42", "oci-audit verify audit-archive --since 42"),
    ),
)
@argument(
    "file", type=PLACE, metavar="FILE", help="Events file written by `oci-audit export`, its oci:// URL, or an archive."
)
@option("--manifest", type=FILE, metavar="FILE", show_default="next to the file", help="Manifest of the export.")
@option(
    "--signer",
    type=FILE,
    metavar="FILE",
    help="Public SSH key or allowed-signers file to verify the signature against.",
)
@option(
    "--expect",
    section=ARCHIVES,
    metavar="SEQ:DIGEST",
    help="Commit that the archive must hold, as an earlier sync printed it.",
)
@option(
    "--since",
    section=ARCHIVES,
    type=click.IntRange(min=1),
    metavar="COMMIT",
    help="Quick check: only the commits from this one on, and the segments that they added.",
)
@option("--require-final", is_flag=True, help="Exit with 11 if it is complete only so far.")
@json_option
@place_options
def verify(
    file: Path | ObjectUrl,
    *,
    places: Places,
    manifest: Path | None,
    signer: Path | None,
    require_final: bool,
    as_json: bool,
    expect: str | None,
    since: int | None,
) -> int:
    """Check an export against its manifest: hashes, order, duplicates, totals, ledger, and signature. Works offline.

    Of an archive: the chain of its commits, every segment, counts, coverage, and signatures.

    Exit codes: 0 complete and consistent, 10 consistent, but with gaps, 11 not final with --require-final, 7 altered or
    damaged, 6 unreadable, 2 usage error, 3 or 4 a URL cannot be used.
    """
    from ociaudit.archive.inputs import is_archive_folder
    from ociaudit.operations.verify import verify_archive, verify_export

    path = places.fetch(file, is_whole=True)
    if is_archive_folder(path):
        if manifest is not None:
            raise UsageError(f"{file} is an archive, which has no manifest", hint="omit --manifest")
        found = verify_archive(path, expect=_parse_anchor(expect), signer=signer, since=since)
        if as_json:
            console.print_data(encode_archive_verification(found))
        else:
            for line in describe_archive_verification(found, file):
                console.print_output(line)
        return found.verdict.find_exit_code(require_final=require_final)
    if expect is not None or since is not None:
        raise UsageError(f"{file} is not an archive, so --expect and --since do not apply", hint="omit them")
    result = verify_export(path, manifest_path=manifest, signer=signer)
    if as_json:
        console.print_data(encode_verification(result))
    else:
        for line in describe_verification(result, file):
            console.print_output(line)
    return result.verdict.find_exit_code(require_final=require_final)


def _parse_anchor(text: str | None) -> Head | None:
    from ociaudit.archive.commit import DIGEST, Head

    if text is None:
        return None
    sequence, _, digest = text.partition(":")
    digest = digest.removeprefix("sha256:").lower()
    if not (sequence.isascii() and sequence.isdigit() and int(sequence) and DIGEST.fullmatch(digest)):
        raise UsageError(
            f"--expect {text!r} is not the number of a commit and its digest",
            hint="give it as sync printed it, such as 42:9f86d081…, with all 64 digits",
        )
    return Head(int(sequence), digest)


def describe_archive_verification(result: ArchiveVerification, path: Path | ObjectUrl) -> Iterator[str]:
    """Yield what the archive holds, what was checked, what is missing and what does not match."""
    from ociaudit.archive.state import list_open_gaps
    from ociaudit.storage.verdict import describe_verdict

    chain, state = result.chain, result.state
    if state is not None:
        size = sum(entry.size_bytes for entry in state.segments.values())
        events, segments = format_count(state.totals.rows, "event"), format_count(len(state.segments), "segment")
        yield f"{path}: {events} in {segments}, {format_count(size, 'byte')}"
    else:
        yield f"{path}: not readable as a whole"
    yield f"archive   {chain.header.id} of {chain.header.tenancy}"
    head = f"newest {chain.head.sequence}:{chain.head.digest}" if chain.head else "none readable"
    yield f"commits   {chain.checked:,} checked; {head}"
    yield f"segments  {result.segments:,} checked, each with all its rows"
    yield f"signature {_describe_chain_signature(result)}"
    if state is not None:
        gaps = list_open_gaps(state)
        yield f"gaps      {len(gaps):,} open, and {len(state.gaps) - len(gaps):,} waived or pruned"
        yield from console.list_gap_lines(gaps, _list_paths(state), requested=None, kept_in="--json")
    for note in result.notes:
        yield f"note      {note}"
    for problem in result.problems:
        yield f"ALTERED   {problem.file}: {problem.text}"
    headline, *qualifiers = describe_verdict(result.verdict)
    if result.problems and all(map(_is_about_signer, result.problems)):
        headline = "NOT SIGNED AS EXPECTED: the commits match each other, but who made them is not proven"
    yield f"verdict   {headline}"
    yield from (f"          {line}" for line in qualifiers)


def _is_about_signer(problem: Problem) -> bool:
    """Return whether all that is wrong is who signed, or that nobody did."""
    return problem.text == "the archive is not signed" or problem.text.startswith("is by another key")


def _list_paths(state: ArchiveState) -> dict[str, str]:
    return {ocid: one.path for ocid, one in state.compartments.items()}


def _describe_chain_signature(result: ArchiveVerification) -> str:
    key = result.chain.key_fingerprint
    if key is None:
        return "none: who made the files is not proven"
    if any(problem.file.endswith(".sig") or "signature" in problem.text for problem in result.problems):
        return f"NOT as expected, of the key {key}"
    if not result.is_signer_named:
        return f"by the key {key}, which nobody vouches for; name the key you trust with --signer"
    return f"by the expected signer, {key}"


def encode_archive_verification(result: ArchiveVerification) -> str:
    """Return the result as one JSON object."""
    import msgspec

    from ociaudit.storage.manifest import make_gap_entry
    from ociaudit.storage.verdict import describe_verdict

    verdict, state, chain = result.verdict, result.state, result.chain
    fields = {
        "verdict": verdict.kind,
        "verdict_text": describe_verdict(verdict),
        "is_final": verdict.is_final,
        "final_until": verdict.final_until,
        "final_from": verdict.final_from,
        "is_anchored": chain.is_anchored,
        "archive": chain.header,
        "head": chain.head,
        "commits_checked": chain.checked,
        "segments_checked": result.segments,
        "key_fingerprint": chain.key_fingerprint,
        "problems": result.problems,
        "notes": result.notes,
        "events": state.totals.rows if state else None,
        "range": {"start": verdict.start, "end": verdict.end},
        "gaps": [make_gap_entry(gap) for gap in state.gaps] if state else [],
    }
    return msgspec.json.encode(fields).decode()


def describe_verification(result: Verification, file: Path | ObjectUrl) -> Iterator[str]:
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
            return "none: who made the files is not proven"
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
    from ociaudit.storage.verdict import describe_verdict

    if not result.is_consistent and all(problem.file.endswith(".sig") for problem in result.problems):
        return ["NOT SIGNED AS EXPECTED: the files match their manifest, but who made the manifest is not proven"]
    return describe_verdict(result.verdict)
