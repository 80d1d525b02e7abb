"""The units and the CronJob of docs/how-to/nightly.md are what systemd and Kubernetes accept."""

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from support.documents import Block, read_blocks

PAGE = Path(__file__).resolve().parents[2] / "docs/how-to/nightly.md"


def list_blocks(language: str) -> list[Block]:
    """Return the page's blocks in a language."""
    return [block for block in read_blocks(PAGE) if block.language == language]


def read_unit(block: Block) -> configparser.ConfigParser:
    """Return a unit as its sections."""
    parser = configparser.ConfigParser(interpolation=None, strict=True, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign] # names are case-sensitive
    parser.read_string(block.text)
    return parser


def test_a_stopped_sync_is_no_failure_and_gaps_are_one() -> None:
    """143 is a success of both services, 10 of neither, and the timer also runs what was missed."""
    oneshot, timer, staying = map(read_unit, list_blocks("ini"))
    for service in (oneshot, staying):
        assert service["Service"]["SuccessExitStatus"] == "143"
        assert "oci-audit sync" in service["Service"]["ExecStart"]
    assert oneshot["Service"]["Type"] == "oneshot"
    assert timer["Timer"]["OnCalendar"] == "hourly"
    assert timer["Timer"]["Persistent"] == "yes"
    assert "--every 1h" in staying["Service"]["ExecStart"]
    assert staying["Service"]["RestartPreventExitStatus"].split() == ["2", "6"]


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    """`systemd-analyze verify` finds nothing wrong with the three units, and finds a misspelled one."""
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not installed")
    names = ("oci-audit-sync.service", "oci-audit-sync.timer", "oci-audit-keep.service")
    for name, block in zip(names, list_blocks("ini"), strict=True):
        # The program is elsewhere here, and its existence is checked.
        (tmp_path / name).write_text(block.text.replace("/usr/local/bin/oci-audit", sys.executable))
    broken = tmp_path / "broken.service"
    broken.write_text((tmp_path / names[0]).read_text().replace("Type=oneshot", "Type=once"))
    command = [tool, "verify", "--man=no", "--recursive-errors=no"]
    for path in map(tmp_path.joinpath, names):
        done = subprocess.run([*command, path], capture_output=True, text=True, check=False)
        assert (done.returncode, str(path.name) in done.stderr) == (0, False), done.stderr
    done = subprocess.run([*command, broken], capture_output=True, text=True, check=False)
    assert "broken.service:8: Failed to parse service type" in done.stderr


def test_the_cron_job_never_syncs_twice_at_a_time() -> None:
    """The CronJob forbids concurrency, does not restart a pod, and mounts what its container uses."""
    (block,) = list_blocks("yaml")
    job = yaml.safe_load(block.text)
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "CronJob")
    spec = job["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert len(spec["schedule"].split()) == 5
    assert spec["jobTemplate"]["spec"]["backoffLimit"] == 0
    pod = spec["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    (container,) = pod["containers"]
    assert container["command"][:2] == ["oci-audit", "sync"]
    mounted = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    assert mounted.keys() == {one["name"] for one in pod["volumes"]}
    assert container["command"][2].startswith(mounted["archive"] + "/")
    options = {one for one in container["args"] if one.startswith("--")}
    text = subprocess.run(
        [sys.executable, "-m", "ociaudit", "sync", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert all(f" {option} " in text for option in options)
