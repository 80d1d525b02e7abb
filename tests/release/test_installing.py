"""The wheel as users install it, in environments of its own.

Not part of `make test`, because every test installs all dependencies; `make test-install` runs it.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.distributions import build_distributions


@pytest.fixture(scope="module")
def tools(repository: Path) -> Path:
    """The folder of uv and pipx."""
    folder = Path(os.environ.get("OCI_AUDIT_TOOLS_VENV", repository / ".venv-tools")) / "bin"
    if not (folder / "uv").exists():
        pytest.fail(f"{folder}/uv does not exist: run `make test-install`", pytrace=False)
    return folder


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    return build_distributions(repository, tmp_path_factory.mktemp("dist"), "wheel")["wheel"]


def run_freshly(*command: str | Path, folder: Path, **variables: str) -> str:
    """Run a command in a folder, without the environment that the tests run in, and return its stdout."""
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    environment.pop("OCI_AUDIT_ENDPOINT", None)
    done = subprocess.run(command, cwd=folder, env=environment | variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def check_demo(stdout: str, folder: Path) -> None:
    """Check that a demo ran to its end in a folder."""
    report = folder / "oci-audit-demo" / "report.html"
    assert stdout.rstrip().endswith(f"report: open {report.resolve()} in a browser")
    assert report.stat().st_size > 100_000


@pytest.mark.timeout(900)
def test_uvx_runs_the_demo_from_the_wheel(tools: Path, wheel: Path, tmp_path: Path) -> None:
    """`uvx --from dist/*.whl oci-audit demo` needs nothing but the wheel and a package index."""
    command = [tools / "uvx", "--python", sys.executable, "--from", wheel, "oci-audit", "demo", "--days", "1"]
    check_demo(run_freshly(*command, folder=tmp_path, UV_TOOL_DIR=str(tmp_path / "tools")), tmp_path)


@pytest.mark.timeout(900)
def test_pipx_installs_the_wheel(tools: Path, wheel: Path, tmp_path: Path) -> None:
    """`pipx install dist/*.whl` installs commands that run the demo, and the man pages where man finds them."""
    folders = {"PIPX_HOME": "home", "PIPX_BIN_DIR": "bin", "PIPX_MAN_DIR": "man"}
    variables = {name: str(tmp_path / folder) for name, folder in folders.items()}
    # Compiling all of Oracle's SDK takes a minute, and shows nothing.
    command = [tools / "pipx", "install", "--python", sys.executable, "--pip-args=--no-compile", wheel]
    run_freshly(*command, folder=tmp_path, **variables)
    for name in ("oci-audit", "oci-audit-streamer", "logstreamer"):
        assert run_freshly(tmp_path / "bin" / name, "--help", folder=tmp_path).lower().startswith("usage: ")
    check_demo(run_freshly(tmp_path / "bin/oci-audit", "demo", "--days", "1", folder=tmp_path), tmp_path)
    assert (tmp_path / "man/man1/oci-audit.1").read_text("utf-8").startswith('.TH "OCI-AUDIT" 1')
