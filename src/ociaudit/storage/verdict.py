"""The verdict on an export or an archive: what is proved, as one kind, one exit code and one wording.

`judge` turns the facts of a manifest into a `Verdict`, `judge_file` checks a file against its manifest too, and
`describe_verdict` puts the verdict into words. Every command and the Python API show that verdict in those words.

Invariants
- A verdict depends on the manifest and on whether the file matches it, and on nothing else: no clock, so that the same
  files always give the same verdict.
- A qualifier is never dropped: a filter and what it cost, waived targets, provisional windows, a range that was not
  over, and what the service no longer keeps belong to every kind of verdict.
- The worst kind wins: altered, incomplete, complete so far, complete except waived targets, complete. What is altered
  keeps the words of what it states, as a qualifier.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from ociaudit.errors import CorruptRun, ExitCode, UsageError, format_count
from ociaudit.events.filters import FilterSpec
from ociaudit.planning.shard import SETTLE_MINUTES, Target, format_minute, parse_minute
from ociaudit.planning.time_range import is_relative, parse_duration, resolve_range
from ociaudit.storage.atomic_io import explain_disk
from ociaudit.storage.manifest import Manifest, ManifestFile, load_manifest, name_manifest

_LATEST = datetime(9999, 12, 31, tzinfo=UTC)
_WAIVED_SHOWN = 20
_UNLISTED_SHOWN = 20


class VerdictKind(StrEnum):
    """What a manifest, or the commits of an archive, prove."""

    COMPLETE = "complete"
    COMPLETE_EXCEPT_WAIVED = "complete_except_waived"
    COMPLETE_SO_FAR = "complete_so_far"
    INCOMPLETE = "incomplete"
    ALTERED = "altered"
    UNKNOWN = "unknown"


_EXIT_CODES = {VerdictKind.INCOMPLETE: ExitCode.INCOMPLETE, VerdictKind.ALTERED: ExitCode.ALTERED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A verdict with its qualifiers.

    `filter` is the filter in words, or empty; it let `written` of `scanned` events pass. `waived` are the targets whose
    denial was known. `final_until`: every minute before it is final. `final_from`: from then on a new request can make
    the whole range final. Both are RFC 3339, and None where everything is final. Where `final_from` alone is None, what
    is not final can no longer be requested.
    """

    kind: VerdictKind
    stated_kind: VerdictKind | None = None
    """Of what is altered: the kind that its manifest or its commits state."""
    is_archive: bool = False
    """Whether this is about an archive, not a file."""
    targets: int = 0
    gaps: int = 0
    lost: int = 0
    """How many windows of an archive passed out of retention unanswered."""
    unrequested: int = 0
    """How many windows of an archive were not requested yet."""
    targets_with_gaps: int = 0
    """How many targets have gaps, lost windows or windows not requested yet."""
    waived: tuple[Target, ...] = ()
    filter: str = ""
    written: int = 0
    scanned: int = 0
    outside_event_range: int = 0
    event_range: str = ""
    """The range of event times, where one was requested; `outside_event_range` events were dropped for it."""
    provisional: int = 0
    """How many windows were requested too soon after their end to be final."""
    start: str = ""
    end: str = ""
    named_end: str = ""
    """The end as requested; after `end` where the range was not over."""
    final_until: str | None = None
    final_from: str | None = None
    retention_days: int | None = None
    """The retention period, where the range begins before it."""
    is_from_search: bool = False
    """Whether the events are from Logging Search."""
    unlisted: tuple[str, ...] = ()
    """Compartments that occur in events and are no longer listed."""
    closed: int = 0
    """How many targets of an archive ended because their compartments were deleted."""
    listed_later: int = 0
    """How many targets of an archive are expected only from some time on, because they were first listed later."""
    listed_later_from: str = ""
    """The time from which on the last of them is expected."""
    dropped_regions: tuple[str, ...] = ()
    """Regions of an archive that it does not follow any more."""
    imported_files: int = 0
    """How many files an archive has events from that its own syncs did not request."""
    pruned_before: str = ""
    """The time before which an archive's events were removed, where the range begins before it."""
    is_pruned: bool = False
    """Whether nothing is left of the range, because all of it was removed."""
    is_anchored: bool = True
    """Whether a signature that was checked, or a digest kept elsewhere, vouches for an archive's newest commit."""
    is_signed: bool = False
    """Whether an archive states that its commits are signed."""
    paths: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """Paths of compartments by OCID, such as `root/production/payments`, as far as they are known."""

    @property
    def is_final(self) -> bool:
        """Return whether a new request cannot add anything: no window is provisional, and the range is over."""
        return self.final_until is None

    @property
    def is_over(self) -> bool:
        """Return whether the range was over when it was requested."""
        return self.named_end <= self.end

    @property
    def exit_code(self) -> ExitCode:
        """Return the exit code of a command that does not require a final export."""
        return self.find_exit_code(require_final=False)

    def mark_altered(self) -> Verdict:
        """Return this verdict for something that is not what it states; the qualifiers stay."""
        return (
            self if self.kind is VerdictKind.ALTERED else replace(self, kind=VerdictKind.ALTERED, stated_kind=self.kind)
        )

    def find_exit_code(self, *, require_final: bool) -> ExitCode:
        """Return the exit code; with `require_final`, what is complete so far is `NOT_FINAL`."""
        if require_final and self.kind is VerdictKind.COMPLETE_SO_FAR:
            return ExitCode.NOT_FINAL
        return _EXIT_CODES.get(self.kind, ExitCode.OK)


def judge(manifest: Manifest | None, *, is_altered: bool = False) -> Verdict:
    """Return the verdict on a file with this manifest; None if it has none.

    `is_altered`: the file or the manifest is not what was written.
    """
    if manifest is None:
        return Verdict(kind=VerdictKind.UNKNOWN)
    spec, totals = manifest.arguments.whole_filter, manifest.totals
    try:
        named_end = _find_named_end(manifest)
        provisional = [entry.window for entry in manifest.provisional]
        end = manifest.window.end
    except ValueError:  # a time in it cannot be read
        return Verdict(kind=VerdictKind.ALTERED)
    is_final = not provisional and named_end <= end
    waived = tuple(sorted({gap.target for gap in manifest.waived_gaps}))
    verdict = Verdict(
        kind=_choose_kind(manifest, is_final=is_final),
        targets=len(manifest.coverage),
        gaps=len(manifest.gaps),
        targets_with_gaps=len({gap.target for gap in manifest.gaps}),
        waived=waived,
        filter=str(spec) if spec != FilterSpec() else "",
        written=totals.written,
        scanned=totals.scanned,
        outside_event_range=totals.outside_event_range,
        event_range=f"{manifest.event_range.start} .. {manifest.event_range.end}" if manifest.event_range else "",
        provisional=len(provisional),
        start=manifest.range.start,
        end=manifest.range.end,
        named_end=format_minute(named_end),
        final_until=None if is_final else format_minute(min([end, *(window.start for window in provisional)])),
        final_from=None
        if is_final
        else format_minute(max([named_end, *(window.end for window in provisional)]) + SETTLE_MINUTES),
        retention_days=manifest.scope.retention_days if manifest.scope.reaches_beyond_retention else None,
        is_from_search=manifest.arguments.source == "logging-search",
        unlisted=manifest.scope.unlisted_compartments_seen,
        paths=manifest.scope.compartment_paths,
    )
    return verdict.mark_altered() if is_altered else verdict


def _choose_kind(manifest: Manifest, *, is_final: bool) -> VerdictKind:
    if manifest.gaps or not manifest.complete:
        return VerdictKind.INCOMPLETE
    if not is_final:
        return VerdictKind.COMPLETE_SO_FAR
    return VerdictKind.COMPLETE_EXCEPT_WAIVED if manifest.waived_gaps else VerdictKind.COMPLETE


def _find_named_end(manifest: Manifest) -> int:
    """Return the minute at which the range as typed ends; an end that moves with the present was reached."""
    arguments, reached = manifest.arguments, manifest.window.end
    if manifest.event_range is not None:
        return parse_minute(manifest.event_range.end) + parse_duration(manifest.event_range.late)
    if is_relative(arguments.end):
        return reached
    try:
        return resolve_range(manifest.range.start, arguments.end, now=_LATEST).window.end
    except UsageError:  # written by hand, or by a version that knows more forms of a time
        return reached


def is_described(path: Path, manifest: Manifest) -> bool:
    """Return whether a file has the size and the SHA-256 that a manifest states.

    Raises:
        DiskError: it cannot be read.
    """
    with explain_disk("read", path):
        if path.stat().st_size != manifest.output.size_bytes:
            return False
    return hash_file(path) == (manifest.output.sha256, manifest.output.size_bytes)


def hash_file(path: Path) -> tuple[str, int]:
    """Return the SHA-256 and the size of a file; while it does not change, it is read once in a process.

    Raises:
        DiskError: it cannot be read.
    """
    with explain_disk("read", path):
        status = path.stat()
        return _hash_version(
            path, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        )


@functools.lru_cache(maxsize=16)
def _hash_version(path: Path, _: tuple[int, ...]) -> tuple[str, int]:
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), file.tell()


def judge_file(path: Path, found: ManifestFile | None, *, content: tuple[str, int] | None = None) -> Verdict:
    """Return the verdict on a file; its manifest, if there is one, must be unchanged and describe the file.

    `content` is the SHA-256 and the size of the file, where the caller has read it already.

    Raises:
        DiskError: the file cannot be read.
    """
    if found is None:
        return judge(None)
    output = found.manifest.output
    is_same = is_described(path, found.manifest) if content is None else content == (output.sha256, output.size_bytes)
    return judge(found.manifest, is_altered=not (found.has_own_digest and is_same))


def find_notice(path: Path) -> str | None:
    """Return the verdict on a file in one line; None if it is complete without qualifiers, or has no manifest.

    Raises:
        DiskError: the file or its manifest cannot be read.
    """
    try:
        found = load_manifest(name_manifest(path))
    except CorruptRun as error:
        return f"{error}; whether {path} is complete is unknown"
    if found is None:
        return None
    verdict = judge_file(path, found)
    if verdict.kind is VerdictKind.COMPLETE and not has_qualifiers(verdict):
        return None
    return name_verdict(path, verdict)


def has_qualifiers(verdict: Verdict) -> bool:
    """Return whether anything limits a verdict."""
    return bool(verdict.filter) or any(_describe_qualifiers(verdict))


def name_verdict(path: Path, verdict: Verdict) -> str:
    """Return the verdict on a file in one line: its name, the headline and every qualifier."""
    return f"{path}: {'; '.join(describe_verdict(verdict))}"


def describe_verdict(verdict: Verdict) -> list[str]:
    """Return the verdict in words: the headline, then one line for each qualifier that the headline does not state."""
    return [describe_headline(verdict), *_describe_qualifiers(verdict)]


def describe_headline(verdict: Verdict) -> str:
    """Return the verdict in one line, with its filter and its cost."""
    if verdict.kind is VerdictKind.UNKNOWN:
        return "unknown: there is no manifest beside the file"
    if verdict.kind is VerdictKind.ALTERED:
        what = (
            "the archive is not the one of its commits"
            if verdict.is_archive
            else "the file is not the one of its manifest"
        )
        again = "restore it from a backup" if verdict.is_archive else "restore it or export again"
        return f"ALTERED: {what}; do not rely on it: see where with oci-audit verify, then {again}"
    filtered = f" for filter {verdict.filter}" if verdict.filter else ""
    cost = f"{verdict.written:,} of {format_count(verdict.scanned, 'scanned event')} written" if verdict.filter else ""
    answered = f"{verdict.targets - len(verdict.waived):,} of {format_count(verdict.targets, 'target')} answered"
    match verdict.kind:
        case VerdictKind.INCOMPLETE if verdict.is_archive and not verdict.targets:
            return "INCOMPLETE: nothing was requested yet"
        case VerdictKind.INCOMPLETE if verdict.is_pruned:
            return "INCOMPLETE: the whole range was removed by oci-audit prune"
        case VerdictKind.INCOMPLETE:
            words = f"INCOMPLETE{filtered}: {_count_missing(verdict)} in {verdict.targets_with_gaps:,} of "
            return words + format_count(verdict.targets, "target") + (f"; {cost}" if cost else "")
        case VerdictKind.COMPLETE_SO_FAR:
            return f"complete so far{filtered}, until {_describe_finality(verdict)}" + (f": {cost}" if cost else "")
        case VerdictKind.COMPLETE_EXCEPT_WAIVED:
            waived = format_count(len(verdict.waived), "waived target")
            return f"complete except {waived}{filtered}: {cost or answered}"
        case _:
            return f"complete{filtered}: {cost or answered}"


def _count_missing(verdict: Verdict) -> str:
    """Return what is missing, counted: `2 gaps, 1 lost window`."""
    counted = [(verdict.gaps, "gap"), (verdict.lost, "lost window"), (verdict.unrequested, "unrequested window")]
    return ", ".join(format_count(number, noun) for number, noun in counted if number) or format_count(0, "gap")


def _describe_finality(verdict: Verdict) -> str:
    if verdict.final_from is None:
        return f"{verdict.final_until}; the rest can no longer be requested"
    return f"{verdict.final_until}; can be final from {verdict.final_from}"


def _describe_qualifiers(verdict: Verdict) -> Iterator[str]:
    if verdict.kind is VerdictKind.UNKNOWN:
        return
    if verdict.stated_kind is not None:
        stated = replace(verdict, kind=verdict.stated_kind, stated_kind=None)
        yield f"{'its commits state' if verdict.is_archive else 'its manifest states'}: {describe_headline(stated)}"
        yield from _describe_qualifiers(stated)
        return
    if not verdict.is_over and verdict.is_archive:
        yield f"the archive reaches {verdict.end}, the range {verdict.named_end}"
    elif not verdict.is_over:
        yield f"the range is not over: {verdict.named_end} was requested, {verdict.end} was reached"
    if verdict.provisional:
        windows = format_count(verdict.provisional, "window")
        yield f"{windows} provisional: requested within {SETTLE_MINUTES} minutes of the end"
    if not verdict.is_final and verdict.kind is not VerdictKind.COMPLETE_SO_FAR:
        rest = f"can be final from {verdict.final_from}" if verdict.final_from else "can no longer be requested"
        yield f"final until {verdict.final_until}; the rest {rest}"
    if verdict.event_range:
        events = format_count(verdict.outside_event_range, "event")
        yield f"{events} outside the event times {verdict.event_range} dropped"
    if verdict.is_from_search:
        yield "read from Logging Search, by event time: events that it had not indexed yet are missing"
    yield from _name_waived(verdict)
    if verdict.retention_days is not None:
        days = format_count(verdict.retention_days, "day")
        gone = "what was older was never requested" if verdict.is_archive else "older events are gone"
        yield f"the range begins before the retention period of {days}: {gone}"
    yield from _describe_archive(verdict)
    yield from _name_unlisted(verdict)


def _name_unlisted(verdict: Verdict) -> Iterator[str]:
    """Yield the compartments that occur in events but are no longer listed."""
    for compartment in verdict.unlisted[:_UNLISTED_SHOWN]:
        path = verdict.paths.get(compartment)
        name = f"{path} ({compartment})" if path else compartment
        yield f"compartment {name} occurs in events but is no longer listed; its own events may be missing"
    if len(verdict.unlisted) > _UNLISTED_SHOWN:
        yield f"… and {format_count(len(verdict.unlisted) - _UNLISTED_SHOWN, 'more compartment')} no longer listed"


def _describe_archive(verdict: Verdict) -> Iterator[str]:
    """Yield what limits the verdict on an archive."""
    if verdict.lost:
        yield f"{format_count(verdict.lost, 'window')} lost: retention passed before the service answered"
    if verdict.closed:
        yield f"{format_count(verdict.closed, 'target')} closed: the compartments were deleted"
    if verdict.listed_later:
        yield (
            f"{format_count(verdict.listed_later, 'target')} first listed after the range began: nothing from before "
            f"{verdict.listed_later_from} is expected of {'it' if verdict.listed_later == 1 else 'them, at the latest'}"
        )
    if verdict.dropped_regions:
        yield f"no longer followed: {', '.join(verdict.dropped_regions)}; nothing newer comes from there"
    if verdict.pruned_before and not verdict.is_pruned:
        yield f"events before {verdict.pruned_before} were removed by oci-audit prune"
    if verdict.imported_files:
        yield f"{format_count(verdict.imported_files, 'imported file')}: events that no sync requested"
    if not verdict.is_anchored:
        unchecked = "its signatures are checked by oci-audit verify --signer; " if verdict.is_signed else ""
        yield f"not anchored: {unchecked}without --expect, a rollback of the whole archive would not be noticed"


def _name_waived(verdict: Verdict) -> Iterator[str]:
    """Yield a line for each compartment with waived targets, with its regions."""
    regions: dict[str, list[str]] = {}
    for target in verdict.waived:
        regions.setdefault(target.compartment, []).append(target.region)
    for compartment, some in list(regions.items())[:_WAIVED_SHOWN]:
        yield f"waived: {verdict.paths.get(compartment, compartment)} denied in {', '.join(some)}"
    if len(regions) > _WAIVED_SHOWN:
        yield f"… and {format_count(len(regions) - _WAIVED_SHOWN, 'more waived compartment')}"
