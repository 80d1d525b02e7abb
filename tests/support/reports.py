"""Exports for tests of the report: events with hostile text in every field, and manifests with gaps.

The files are those that `oci-audit export` would write, without a service.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ociaudit.storage.manifest import (
    CoveredTarget,
    EventTimes,
    FileEntry,
    GapEntry,
    Manifest,
    Principal,
    ProvisionalEntry,
    Range,
    Scope,
    Tool,
    Totals,
    encode_manifest,
)
from ociaudit.storage.run_dir import ExportArguments
from support.processes import find_command, run_process

TENANCY = "ocid1.tenancy.oc1..aaaatenancy"
HOSTILE = (
    "<script>window.pwned = 1</script>",
    "</script><script>window.pwned = 1</script>",
    "<!--<script>",
    "<img src=x onerror='window.pwned = 1'>",
    "\"'><svg onload=window.pwned=1>",
    "javascript:window.pwned=1",
    "{{ 7 * 7 }}{% raw %}${window.pwned = 1}",
    "\x00\x07\x1b[31mred\x1b]0;title\x07\x7f\x9b",
    "\u202egnp.exe\u2066\u2069\u200f\u061c",
    "\u2028\u2029\ufeff\u200b\u00ad\U000e0041",
    "__proto__",
    "]]>&lt;b&gt;&#60;",
    "A" * 1_000,
    '=HYPERLINK("http://example.com")',
    "a\u0301" * 50,
)
_NAMES = ("eventName", "compartmentId", "compartmentName", "resourceName", "resourceId", "message", "eventGroupingId")
_IDENTITY = ("principalName", "principalId", "ipAddress", "userAgent", "authType", "callerName", "credentials")


def make_event(number: int, **changes: Any) -> dict[str, Any]:
    """Return an ordinary event; `data` and `identity` in `changes` are merged into those of the event."""
    minute = number % 1_440
    event: dict[str, Any] = {
        "eventType": "com.oraclecloud.computeApi.GetInstance",
        "eventId": f"id-{number:06}",
        "eventTime": f"2025-12-0{1 + number // 1_440 % 7}T{minute // 60:02}:{minute % 60:02}:00.000Z",
        "source": "",
        "data": {
            "eventName": "GetInstance",
            "compartmentId": "ocid1.compartment.oc1..aaaaone",
            "compartmentName": "one",
            "identity": {"principalName": "ann", "ipAddress": "10.0.0.1", "userAgent": "curl"},
            "response": {"status": "200"},
        },
    }
    event["data"]["identity"].update(changes.pop("identity", {}))
    event["data"].update(changes.pop("data", {}))
    event.update(changes)
    return event


def make_hostile_event(number: int, text: str) -> dict[str, Any]:
    """Return an event with a text in every field, including the keys of free maps."""
    data: dict[str, Any] = dict.fromkeys(_NAMES, text)
    data["identity"] = dict.fromkeys(_IDENTITY, text)
    data["request"] = {"path": text, "action": text, "headers": {text: [text]}, "parameters": {text: [text]}}
    data["response"] = {"status": text, "message": text, "payload": {text: text}}
    data["additionalDetails"] = {"eventId": "sso.authentication.failure", text: text}
    kinds = ("com.oraclecloud.identityControlPlane.CreatePolicy", "com.oraclecloud.IdentitySignOn.InteractiveLogin")
    return {
        "eventType": f"{kinds[number % 2]}{text}",
        "eventId": f"{number}{text}",
        "eventTime": f"2025-12-03T10:{number % 60:02}:00.000Z",
        "source": text,
        "data": data,
    }


def write_export(path: Path, events: Iterable[dict[str, Any]]) -> int:
    """Write events in the layout of an export and return their number."""
    lines = [json.dumps(event, ensure_ascii=False) for event in events]
    path.write_text("[\n" + ",\n".join(lines) + ("\n" if lines else "") + "]\n", encoding="utf-8")
    return len(lines)


def write_manifest(
    path: Path,
    *,
    targets: Sequence[tuple[str, str]],
    gaps: Sequence[GapEntry] = (),
    provisional: Sequence[ProvisionalEntry] = (),
    written: int,
    start: str = "2025-12-01T00:00:00Z",
    end: str = "2025-12-08T00:00:00Z",
) -> None:
    """Write a manifest beside an export: every target without a gap is covered for the whole range."""
    content = path.read_bytes()
    missing = {(gap.region, gap.compartment) for gap in gaps}
    manifest = Manifest(
        complete=not gaps,
        tool=Tool("oci-audit", "0"),
        arguments=ExportArguments(start=start, end=end, profile="DEFAULT"),
        asked_by=Principal(TENANCY, "ocid1.user.oc1..aaaauser", None),
        range=Range(start, end),
        event_times=EventTimes(None, None, 0, 0),
        scope=Scope((), (), (), (), (), 365, reaches_beyond_retention=False),
        totals=Totals(written, written, 0, 0, 0, len(targets), 0, len(targets), len(targets)),
        conflicting_ids=(),
        coverage=tuple(
            CoveredTarget(region, compartment, () if (region, compartment) in missing else ((start, end),))
            for region, compartment in targets
        ),
        gaps=tuple(gaps),
        waived_gaps=(),
        provisional=tuple(provisional),
        output=FileEntry(path.name, len(content), hashlib.sha256(content).hexdigest()),
        ledger=FileEntry("ledger", 0, ""),
        clock_skew_seconds=None,
        started_at=end,
        finished_at=end,
    )
    path.with_name(path.name + ".manifest.json").write_bytes(encode_manifest(manifest)[0])


def make_gap(region: str, compartment: str, *, reason: str = "404", start: str, end: str) -> GapEntry:
    """Return a gap that was denied."""
    return GapEntry(region, compartment, start, end, "denied", reason, "A/B/C")


@dataclass(frozen=True)
class ReportedExport:
    """An export, its report and its events."""

    export: Path
    report: Path
    events: list[dict[str, Any]]


def write_report(export: Path, *arguments: str) -> Path:
    """Write the report of an export with the installed command and return its path."""
    output = export.with_name(export.name + ".html")
    command = [find_command("oci-audit"), "report", str(export), "-o", str(output), "--overwrite", *arguments]
    done = run_process(command, cwd=export.parent)
    if done.code not in {0, 10}:
        raise RuntimeError(done.stderr)
    return output


def read_data(page: Path) -> dict[str, Any]:
    """Return the data in a page."""
    text = page.read_text(encoding="utf-8")
    _, _, rest = text.partition('<script type="application/json" id="data">')
    data: dict[str, Any] = json.loads(rest.partition("</script>")[0])
    return data
