"""A description of the machine and the versions that the figures belong to."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench.benchmark import find_contract_folder

_PACKAGES = ("oci-audit-streamer", "aiohttp", "cryptography", "msgspec", "oci", "zstandard")


def describe_machine() -> dict[str, str]:
    """Return the properties of the machine by name."""
    return {
        "cores": str(_count_cores()),
        "CPU": _read_field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "load before": ", ".join(f"{load:.2f}" for load in os.getloadavg()),
        "Python": platform.python_version(),
        **{package: _find_version(package) for package in _PACKAGES},
        "oci-cli": _read_version(find_contract_folder(), "oci"),
        "curl": _read_version(Path(shutil.which("curl") or "curl").parent, "curl"),
    }


def _count_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _read_field(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def _find_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _read_version(folder: Path | None, program: str) -> str:
    if folder is None or not (folder / program).exists():
        return "not installed"
    done = subprocess.run([folder / program, "--version"], capture_output=True, text=True, check=False)
    return " ".join(done.stdout.splitlines()[0].split()[:2]) if done.stdout else "unknown"
