"""The rules of the source tree hold, and each rule finds a violation that is planted."""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

RUFF_RULES = "TID251,T20,BLE001,E722,PLR1722,PTH"
BROAD_ERRORS = {"BaseException", "Exception"}
NAMES_THAT_SAY_NOTHING = re.compile(r"(?:.*_)?(?:utils?|helpers?|managers?|commons?|misc)$")


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """Check the import contracts of a checkout; its sources come before the installed ones."""
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=root,
        env={"PYTHONPATH": str(root / "src"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def lint_text(repository: Path, path: str, text: str) -> set[str]:
    """The rules of ruff that a file of this text at this path breaks, style apart."""
    finished = subprocess.run(
        [
            *(Path(sys.executable).with_name("ruff"), "check", "--select", RUFF_RULES, "--output-format", "concise"),
            *("--no-cache", "--stdin-filename", f"src/{path}", "-"),
        ],
        cwd=repository,
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    return set(re.findall(r": ([A-Z]+\d+) ", finished.stdout))


def test_the_import_contracts_hold(repository: Path) -> None:
    """Layers, cycles, the emulator's independence and the purity of events and planning are kept."""
    finished = lint_imports(repository)
    assert finished.returncode == 0, finished.stdout
    assert re.search(r"Contracts: 5 kept, 0 broken", finished.stdout), finished.stdout


@pytest.mark.parametrize(
    ("path", "text", "contract"),
    [
        ("ociaudit/events/event.py", "from ociaudit.planning.shard import Window", "lower layers"),
        ("ociaudit/client/audit.py", "from ociaudit.storage.spool import Spool", "lower layers"),
        ("ociaudit/client/audit.py", "def later():\n    import ociaudit.operations.fetcher", "lower layers"),
        ("ociaudit/operations/export.py", "from ociaudit.analysis import summary", "lower layers"),
        ("ociaudit/operations/export.py", "from ociaudit import api", "lower layers"),
        ("ociaudit/api.py", "from ociaudit.cli import console", "lower layers"),
        ("ociaudit/attic/__init__.py", "", "lower layers"),
        ("ociaudit/planning/shard.py", "def later():\n    from ociaudit.planning import planner", "by way of others"),
        ("ociaudit/cli/demo_command.py", "import ociaudit_emulator.server", "share no code"),
        ("ociaudit_emulator/server.py", "from ociaudit.errors import UsageError", "share no code"),
        ("ociaudit_emulator/server.py", "import msgspec", "aiohttp and cryptography alone"),
        ("ociaudit/events/event.py", "def later():\n    import time", "know no clock"),
        ("ociaudit/planning/scope.py", "import socket", "know no clock"),
        ("ociaudit/planning/scope.py", "from urllib import request\nimport asyncio", "know no clock"),
    ],
)
def test_a_forbidden_import_is_found(repository: Path, tmp_path: Path, path: str, text: str, contract: str) -> None:
    """An import that breaks a contract breaks the check, wherever in the file it is."""
    shutil.copytree(repository / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(repository / "pyproject.toml", tmp_path)
    target = tmp_path / "src" / path
    target.parent.mkdir(exist_ok=True)
    with target.open("a") as file:
        file.write(f"\n{text}\n")
    finished = lint_imports(tmp_path)
    assert finished.returncode == 1, finished.stdout
    broken = [line for line in finished.stdout.splitlines() if line.endswith("BROKEN")]
    assert any(contract in line for line in broken), finished.stdout


@pytest.mark.parametrize(
    ("home", "text"),
    [
        ("storage/atomic_io.py", "import os\nos.fsync(3)"),
        ("storage/atomic_io.py", "import os\nos.fdatasync(3)"),
        ("storage/atomic_io.py", "import os as system\nsystem.replace('a', 'b')"),
        ("storage/atomic_io.py", "from os import replace as put\nput('a', 'b')"),
        ("storage/atomic_io.py", "import os\ncall_later(os.rename)"),
        ("storage/atomic_io.py", "import os\nos.renames('a', 'b')"),
        ("storage/atomic_io.py", "import os\nos.link('a', 'b')"),
        ("storage/atomic_io.py", "import os\nos.unlink('a')"),
        ("storage/atomic_io.py", "import shutil\nshutil.move('a', 'b')"),
        ("cli/console.py", "print('x')"),
        ("cli/console.py", "import sys\nsys.stderr.write('x')"),
        ("cli/console.py", "from sys import stdout\nstdout.buffer.write(b'x')"),
        ("cli/console.py", "from rich.console import Console\nConsole(stderr=True)"),
        ("cli/console.py", "import rich.console\nrich.console.Console()"),
        ("cli/console.py", "import click\nclick.echo('x')"),
        ("cli/console.py", "import traceback\ntraceback.print_exc()"),
        ("cli/console.py", "import logging\nlogging.basicConfig()"),
        ("cli/app.py", "import sys\nsys.exit(1)"),
        ("cli/app.py", "import os\nos._exit(1)"),
        ("cli/app.py", "import click\nraise click.exceptions.Exit(1)"),
        ("api.py", "import os\nos.environ['HOME']"),
        ("api.py", "import os\nos.environ.get('HOME')"),
        ("api.py", "from os import getenv\ngetenv('HOME')"),
        ("clock.py", "from datetime import UTC, datetime\ndatetime.now(UTC)"),
        ("clock.py", "import datetime as dt\ndt.datetime.utcnow()"),
        ("clock.py", "from datetime import date\ndate.today()"),
        ("clock.py", "from datetime import datetime\nread_clock = datetime.now"),
    ],
)
def test_what_one_module_may_do_is_found_elsewhere_and_allowed_at_home(repository: Path, home: str, text: str) -> None:
    """Each ban finds its violation in another module and lets its own module be."""
    assert lint_text(repository, "ociaudit/client/audit.py", text)
    assert not lint_text(repository, f"ociaudit/{home}", text) - {"PTH104", "PTH105", "PTH108"}
    assert not lint_text(repository, "ociaudit_emulator/signature.py", text) & {"TID251", "T201"}


@pytest.mark.parametrize(
    "text",
    [
        "def show(console): ...",
        "printer.print('x')",
        "self.exit()",
        "'a-b'.replace('-', '_')",
        "moment.replace(hour=0)",
        "from dataclasses import replace\nreplace(shard, end=1)",
        "import msgspec\nmsgspec.structs.replace(shard, end=1)",
    ],
)
def test_namesakes_of_what_is_banned_are_allowed(repository: Path, text: str) -> None:
    """Replacing in a string, a date or a class is not renaming."""
    assert not lint_text(repository, "ociaudit/client/audit.py", text)


@pytest.mark.parametrize(
    "handler",
    [
        "except:\n    pass",
        "except Exception:\n    pass",
        "except (ValueError, BaseException) as error:\n    keep(error)",
    ],
)
def test_a_handler_that_catches_everything_is_found_outside_cli(repository: Path, handler: str) -> None:
    """Bare and broad handlers belong to the outermost edge."""
    text = f"try:\n    run()\n{handler}\n"
    assert lint_text(repository, "ociaudit/operations/fetcher.py", text) & {"BLE001", "E722"}
    assert "BLE001" not in lint_text(repository, "ociaudit/cli/app.py", text)


# What ruff does not know: methods of a path, `suppress(Exception)`, exits by a builtin name, and `open` in pure code.
MAY_REMOVE = {"ociaudit/storage/atomic_io.py", "ociaudit/formats/parquet.py"}  # the latter its scratch file


def find_violations(path: str, tree: ast.Module) -> Iterator[str]:
    """What a module does that only another one may."""
    parts = Path(path).with_suffix("").parts
    yield from (f"{path}: the name {part!r} says nothing" for part in parts if NAMES_THAT_SAY_NOTHING.match(part))
    if parts[0] != "ociaudit":
        return
    exits = parts[1] in {"cli", "__main__"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and "SystemExit" in ast.unparse(node) and not exits:
            yield f"{path}:{node.lineno}: only cli exits"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if path not in MAY_REMOVE and is_renaming_or_removing(node.func.attr, node):
                yield f"{path}:{node.lineno}: only storage/atomic_io renames and removes"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            name = node.func.id
            if name == "suppress" and any(getattr(each, "id", "") in BROAD_ERRORS for each in node.args):
                yield f"{path}:{node.lineno}: suppresses everything"
            if name in {"exit", "quit"} and not exits:
                yield f"{path}:{node.lineno}: only cli exits"
            if name == "open" and parts[1] in {"events", "planning"}:
                yield f"{path}:{node.lineno}: events and planning know no files"


MAX_LINES, MAX_FUNCTION_LINES = 700, 50


def find_unexplained_length(path: str, text: str) -> Iterator[str]:
    """What is longer than its kind and does not say why; docstrings do not count."""
    lines = text.splitlines()
    if len(lines) > MAX_LINES and f"Over {MAX_LINES} lines" not in text:
        yield f"{path}: {len(lines)} lines, and not why"
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first, last = node.body[0], node.end_lineno or 0
        documented = (first.end_lineno or 0) - first.lineno + 1 if ast.get_docstring(node) is not None else 0
        length = last - node.lineno + 1 - documented
        if length > MAX_FUNCTION_LINES and "long because" not in "\n".join(lines[node.lineno - 1 : first.lineno]):
            yield f"{path}:{node.lineno}: {node.name} has {length} lines, and not why"


def is_renaming_or_removing(method: str, call: ast.Call) -> bool:
    """Whether a call is that of a path's method: one positional argument tells its `replace` from that of a text."""
    one_argument = len(call.args) == 1 and not call.keywords
    return method in {"unlink", "rmdir", "rename"} or (method == "replace" and one_argument)


def test_the_program_keeps_to_the_rules_that_ruff_does_not_know(repository: Path) -> None:
    """No module below src/ renames, removes, suppresses, exits or opens where it must not."""
    sources = repository / "src"
    paths = sorted(sources.rglob("*.py"))
    assert paths, "nothing was read"
    found = [
        violation
        for path in paths
        for violation in find_violations(path.relative_to(sources).as_posix(), ast.parse(path.read_text("utf-8")))
    ]
    assert not found, "\n" + "\n".join(found)


def test_what_is_long_says_why(repository: Path) -> None:
    """A long module or function names the reason for which it is one."""
    sources = repository / "src"
    found = [
        violation
        for path in sorted(sources.rglob("*.py"))
        for violation in find_unexplained_length(path.relative_to(sources).as_posix(), path.read_text("utf-8"))
    ]
    assert not found, "\n" + "\n".join(found)
    long = "def run():\n" + "    step()\n" * MAX_FUNCTION_LINES
    assert list(find_unexplained_length("x.py", long))
    assert not list(find_unexplained_length("x.py", long.replace("():", "():  # long because: a reason", 1)))
    assert list(find_unexplained_length("x.py", "x = 1\n" * (MAX_LINES + 1)))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("ociaudit/client/audit.py", "path.rename(target)"),
        ("ociaudit/client/audit.py", "find_path().replace(target)"),
        ("ociaudit/client/audit.py", "path.unlink()"),
        ("ociaudit/client/audit.py", "from contextlib import suppress\nwith suppress(Exception):\n    run()"),
        ("ociaudit/client/audit.py", "exit()"),
        ("ociaudit/client/audit.py", "raise SystemExit"),
        ("ociaudit/client/audit.py", "raise SystemExit(1)"),
        ("ociaudit/events/event.py", "open('x')"),
        ("ociaudit/client/utils.py", "x = 1"),
        ("ociaudit/client/retry_helpers.py", "x = 1"),
    ],
)
def test_each_of_these_rules_finds_its_violation(path: str, text: str) -> None:
    """A violation that is planted is found."""
    assert list(find_violations(path, ast.parse(text)))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("ociaudit/storage/atomic_io.py", "path.rename(target)"),
        ("ociaudit/client/audit.py", "'a-b'.replace('-', '_')"),
        ("ociaudit/client/audit.py", "moment.replace(hour=0)"),
        ("ociaudit/client/audit.py", "from contextlib import suppress\nwith suppress(OSError):\n    run()"),
        ("ociaudit/cli/app.py", "exit()"),
        ("ociaudit/cli/app.py", "raise SystemExit(1)"),
        ("ociaudit/client/audit.py", "try:\n    run()\nexcept SystemExit:\n    raise"),
        ("ociaudit/storage/spool.py", "open('x')"),
        ("ociaudit_emulator/server.py", "path.unlink()"),
    ],
)
def test_these_rules_let_the_rest_be(path: str, text: str) -> None:
    """What is allowed is not found."""
    assert not list(find_violations(path, ast.parse(text)))
