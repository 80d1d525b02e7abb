"""The commands that are measured beside each other, all over the same window of the same server.

Owns: their arguments.
"""

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
from bench.events_file import Made
from bench.measure import Contender, run_measured
from bench.server import Server

OURS, OFFICIAL_CLI, SDK, CURL = "oci-audit export", "oci audit event list", "SDK script", "curl"
_SDK_SCRIPT = Path(__file__).with_name("sdk_script.py")


def find_command() -> str:
    """Return the path of the installed oci-audit."""
    return str(Path(sysconfig.get_path("scripts")) / "oci-audit")


def make_export_command(server: Server, made: Made, output: Path, *options: str) -> list[str]:
    """Return the command that exports all that was made in the root compartment."""
    command = [find_command(), "export", "--start", made.start, "--end", made.end, "-o", str(output)]
    command += ["--config-file", str(server.config_path), "--endpoint", server.url, "--region", "us-ashburn-1"]
    return [*command, "--compartment", made.tenancy, "--no-subtree", *options]


def list_contenders(server: Server, made: Made, folder: Path) -> list[Contender]:
    """Return those that can run here."""
    contenders = [_make_ours(server, made)]
    programs = find_contract_folder()
    if programs is not None:
        contenders += [_make_official_cli(server, made, programs), _make_sdk_script(server, made, programs)]
    curl = shutil.which("curl")
    if curl is not None:
        contenders.append(_make_curl(server, made, curl, _read_page_urls(server, made, folder)))
    return contenders


def _make_ours(server: Server, made: Made) -> Contender:
    return Contender(
        OURS,
        lambda folder: make_export_command(server, made, folder / "audit.json"),
        lambda folder: check_export(folder / "audit.json", made),
    )


def _make_official_cli(server: Server, made: Made, programs: Path) -> Contender:
    command = [str(programs / "oci"), "--config-file", str(server.config_path), "--endpoint", server.url]
    command += ["audit", "event", "list", "--compartment-id", made.tenancy, "--all"]
    command += ["--start-time", made.start, "--end-time", made.end, "--stream-output", "--skip-deserialization"]
    return Contender(OFFICIAL_CLI, lambda _: command, lambda folder: check_ids(folder / "stdout", made))


def _make_sdk_script(server: Server, made: Made, programs: Path) -> Contender:
    command = [str(programs / "python"), str(_SDK_SCRIPT), str(server.config_path), server.url]
    command += [made.tenancy, made.start, made.end]
    return Contender(
        SDK,
        lambda folder: [*command, str(folder / "events.json")],
        lambda folder: check_ids(folder / "events.json", made),
    )


_FOLLOW = """
import sys, ociaudit
config, url, tenancy, start, end = sys.argv[1:]
place = {"regions": ["us-ashburn-1"], "compartments": [tenancy], "is_subtree": False}
for event in ociaudit.stream(start, end, config_file=config, endpoint=url, max_window_days=3660, **place):
    pass
"""


def _make_curl(server: Server, made: Made, curl: str, targets: Sequence[str]) -> Contender:
    def make_command(folder: Path) -> list[str]:
        script = folder / "pages.curl"
        script.write_text(_write_curl_script(server, targets), "utf-8")
        return [curl, "--config", str(script)]

    return Contender(CURL, make_command, lambda folder: check_ids(folder / "stdout", made))


def _read_page_urls(server: Server, made: Made, folder: Path) -> list[str]:
    """Follow the pages once, one chain without cuts, and return the path and query of each, tokens included."""
    server.clear_log()
    arguments = [str(server.config_path), server.url, made.tenancy, made.start, made.end]
    run_measured([sys.executable, "-c", _FOLLOW, *arguments], folder)
    targets = [f"{entry['path']}?{entry['query']}" for entry in server.read_page_requests()]
    server.clear_log()
    return list(dict.fromkeys(targets))


def _write_curl_script(server: Server, targets: Sequence[str]) -> str:
    """Write the requests for all pages, signed now, for one process of curl that keeps its connection."""
    import oci.config
    import oci.signer

    signer = oci.signer.Signer.from_config(oci.config.from_file(str(server.config_path)))
    parts: list[str] = []
    for target in targets:
        host = server.url.removeprefix("http://")
        headers = {"date": formatdate(time.time(), usegmt=True), "host": host}
        signer(SimpleNamespace(method="GET", url=server.url + target, path_url=target, headers=headers, body=None))
        lines = ["silent", "fail", f'url = "{server.url}{target}"']
        lines += [f"header = {_quote(f'{name}: {value}')}" for name, value in headers.items()]
        parts.append("\n".join(lines))
    return "\nnext\n".join(parts) + "\n"


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
