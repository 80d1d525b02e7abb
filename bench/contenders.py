"""The commands that are compared with each other, all over the same window of the same emulator."""

from __future__ import annotations

import shutil
import sys
import sysconfig
import time
from collections.abc import Sequence
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace

from bench.benchmark import find_contract_folder
from bench.check import check_export, check_ids
from bench.emulator import EmulatorProcess
from bench.events_file import ServedEvents
from bench.measure import Contender, run_measured

OURS, OFFICIAL_CLI, SDK, CURL = "oci-audit export", "oci audit event list", "SDK script", "curl"
_SDK_SCRIPT = Path(__file__).with_name("sdk_script.py")


def find_command() -> str:
    """Return the path of the installed oci-audit."""
    return str(Path(sysconfig.get_path("scripts")) / "oci-audit")


def make_export_command(emulator: EmulatorProcess, served: ServedEvents, output: Path, *options: str) -> list[str]:
    """Return the command that exports all events of the root compartment."""
    command = [find_command(), "export", "--start", served.start, "--end", served.end, "-o", str(output)]
    command += ["--config-file", str(emulator.config_path), "--endpoint", emulator.url, "--region", "us-ashburn-1"]
    return [*command, "--compartment", served.tenancy, "--no-subtree", *options]


def list_contenders(emulator: EmulatorProcess, served: ServedEvents, folder: Path) -> list[Contender]:
    """Return the contenders that are installed."""
    contenders = [_make_ours(emulator, served)]
    programs = find_contract_folder()
    if programs is not None:
        contenders += [_make_official_cli(emulator, served, programs), _make_sdk_script(emulator, served, programs)]
    curl = shutil.which("curl")
    if curl is not None:
        contenders.append(_make_curl(emulator, served, curl, _read_page_urls(emulator, served, folder)))
    return contenders


def _make_ours(emulator: EmulatorProcess, served: ServedEvents) -> Contender:
    return Contender(
        OURS,
        lambda folder: make_export_command(emulator, served, folder / "audit.json"),
        lambda folder: check_export(folder / "audit.json", served),
    )


def _make_official_cli(emulator: EmulatorProcess, served: ServedEvents, programs: Path) -> Contender:
    command = [str(programs / "oci"), "--config-file", str(emulator.config_path), "--endpoint", emulator.url]
    command += ["audit", "event", "list", "--compartment-id", served.tenancy, "--all"]
    command += ["--start-time", served.start, "--end-time", served.end, "--stream-output", "--skip-deserialization"]
    return Contender(OFFICIAL_CLI, lambda _: command, lambda folder: check_ids(folder / "stdout", served))


def _make_sdk_script(emulator: EmulatorProcess, served: ServedEvents, programs: Path) -> Contender:
    command = [str(programs / "python"), str(_SDK_SCRIPT), str(emulator.config_path), emulator.url]
    command += [served.tenancy, served.start, served.end]
    return Contender(
        SDK,
        lambda folder: [*command, str(folder / "events.json")],
        lambda folder: check_ids(folder / "events.json", served),
    )


_FOLLOW = """
import sys, ociaudit
config, url, tenancy, start, end = sys.argv[1:]
target = {"regions": ["us-ashburn-1"], "compartments": [tenancy], "is_subtree": False}
for event in ociaudit.stream(start, end, config_file=config, endpoint=url, max_window_days=3660, **target):
    pass
"""


def _make_curl(emulator: EmulatorProcess, served: ServedEvents, curl: str, targets: Sequence[str]) -> Contender:
    def make_command(folder: Path) -> list[str]:
        script = folder / "pages.curl"
        script.write_text(_write_curl_script(emulator, targets), "utf-8")
        return [curl, "--config", str(script)]

    return Contender(CURL, make_command, lambda folder: check_ids(folder / "stdout", served))


def _read_page_urls(emulator: EmulatorProcess, served: ServedEvents, folder: Path) -> list[str]:
    """Read all pages once, without splits, and return the path and query of each request, tokens included."""
    emulator.clear_log()
    arguments = [str(emulator.config_path), emulator.url, served.tenancy, served.start, served.end]
    run_measured([sys.executable, "-c", _FOLLOW, *arguments], folder)
    targets = [f"{entry['path']}?{entry['query']}" for entry in emulator.read_page_requests()]
    emulator.clear_log()
    return list(dict.fromkeys(targets))


def _write_curl_script(emulator: EmulatorProcess, targets: Sequence[str]) -> str:
    """Return a curl configuration that requests all pages, signed now, over one connection."""
    import oci.config
    import oci.signer

    signer = oci.signer.Signer.from_config(oci.config.from_file(str(emulator.config_path)))
    parts: list[str] = []
    for target in targets:
        host = emulator.url.removeprefix("http://")
        headers = {"date": formatdate(time.time(), usegmt=True), "host": host}
        signer(SimpleNamespace(method="GET", url=emulator.url + target, path_url=target, headers=headers, body=None))
        lines = ["silent", "fail", f'url = "{emulator.url}{target}"']
        lines += [f"header = {_quote(f'{name}: {value}')}" for name, value in headers.items()]
        parts.append("\n".join(lines))
    return "\nnext\n".join(parts) + "\n"


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
