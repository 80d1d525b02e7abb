import os
import subprocess
import sys
from pathlib import Path

import pytest

import ociaudit

SCRIPTS = Path(sys.executable).parent
COMMAND = str(SCRIPTS / "oci-audit")


def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the installed wheel without the caller's environment, and return what it printed."""
    environment = {"PATH": f"{SCRIPTS}:{os.environ['PATH']}", "HOME": "/nonexistent", **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_suite_runs_on_the_installed_wheel() -> None:
    """The suite tests what users install, not the checkout."""
    assert Path(ociaudit.__file__).resolve().parents[1].name == "site-packages"


def test_the_wheel_carries_its_types_and_the_emulator() -> None:
    """The wheel has the marker for type checkers, and the server of the demo."""
    package = Path(ociaudit.__file__).parent
    assert (package / "py.typed").is_file()
    assert (package.parent / "ociaudit_emulator" / "__main__.py").is_file()


def test_the_command_runs_as_a_module() -> None:
    """`python -m ociaudit` is the same program as `oci-audit`."""
    as_module = run(sys.executable, "-m", "ociaudit", "export", "--help")
    as_script = run(COMMAND, "export", "--help")
    assert (as_module.returncode, as_module.stderr) == (0, "")
    assert as_module.stdout == as_script.stdout
    assert as_module.stdout.startswith("Usage: oci-audit export ")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], [], ["export", "--help"], ["query", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    """Help and version import click and a few modules of the command line, and nothing that takes long."""
    ran = run(sys.executable, "-X", "importtime", "-m", "ociaudit", *arguments)
    imported = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines() if line.startswith("import time:")}
    assert "click" in imported
    heavy = {"rich", "msgspec", "asyncio", "aiohttp", "duckdb", "oci", "cryptography", "zstandard", "dataclasses"}
    assert imported & heavy == set()
    ours = {name for name in imported if name.startswith("ociaudit.")}
    command = {f"ociaudit.cli.{name}_command" for name in arguments[:1]}
    shared = {"ociaudit.cli", *(f"ociaudit.cli.{name}" for name in ("app", "console", "options"))}
    assert ours <= {"ociaudit.errors", "ociaudit.version"} | shared | command


def complete(line: str, shell: str = "bash") -> list[str]:
    """Return what bash, after loading the completion script, offers at the end of a line."""
    words = line.split(" ")
    quoted = " ".join(f"'{word}'" for word in words)
    script = (
        f"source <(oci-audit completion {shell}); COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; "
        "_oci_audit_completion oci-audit; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    ran = run("bash", "--norc", "-c", script)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("oci-audit exp", ["export"]),
        ("oci-audit --ver", ["--version"]),
        ("oci-audit export --regi", ["--region"]),
        ("oci-audit export --shape ", ["api", "sdk", "cli"]),
        ("oci-audit export --preset sign-in-f", ["sign-in-failures"]),
        ("oci-audit query --named sign-in-f", ["sign-in-failures"]),
        ("oci-audit completion z", ["zsh"]),
    ],
)
def test_bash_completes(line: str, offered: list[str]) -> None:
    """Bash completes commands, options and values with the script that `oci-audit completion bash` prints."""
    assert complete(line) == offered


def test_completion_offers_every_command() -> None:
    """An empty word is completed to all commands."""
    listed = run(COMMAND, "--help").stdout.split("Commands:\n")[1].split("\n\n")[0]
    assert complete("oci-audit ") == [line.split()[0] for line in listed.splitlines()]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_printed(shell: str) -> None:
    """Each shell has a script, which calls the program for the completions."""
    ran = run(COMMAND, "completion", shell)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "_OCI_AUDIT_COMPLETE=" in ran.stdout
    assert f"{shell}_complete" in ran.stdout


def test_another_shell_is_a_usage_error() -> None:
    """A shell without a script is exit code 2, and the message lists those that have one."""
    ran = run(COMMAND, "completion", "csh")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "'bash', 'zsh', 'fish'" in ran.stderr
