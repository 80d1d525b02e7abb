import textwrap
from pathlib import Path

import pytest

from support.bans import find_ban_violations
from support.conventions import find_convention_violations
from support.floors import find_floor_violations
from support.sources import SourceFile, Violation, read_sources


def find_violations(sources: list[SourceFile]) -> list[Violation]:
    """Everything that any check has to say about these files."""
    return [
        *find_floor_violations(sources),
        *find_ban_violations(sources),
        *find_convention_violations(sources),
    ]


def find_rules(path: str, text: str) -> set[str]:
    """The rules that a file of this text at this path would break."""
    return {violation.rule for violation in find_violations([SourceFile(path, textwrap.dedent(text))])}


def make_function(*, lines: int, head: str = "", above: str = "") -> str:
    """A function of so many lines, with a head in it or a line above it."""
    body = [line for line in [head, *["    x = 1"] * lines] if line][: lines - 1]
    return "\n".join([*([above] if above else []), "def measure():", *body, ""])


def test_the_program_keeps_to_its_floors_and_bans(repository: Path) -> None:
    """No file below src/ breaks a rule of the house."""
    sources = read_sources(repository / "src")
    assert sources, "nothing was read"
    broken = find_violations(sources)
    assert not broken, "\n" + "\n".join(map(str, broken))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("ociaudit/errors.py", "import ociaudit.events"),
        ("ociaudit/events/event.py", "from ociaudit.plan.window import Window"),
        ("ociaudit/events/event.py", "from ..plan import window"),
        ("ociaudit/plan/planner.py", "from ociaudit.source import audit"),
        ("ociaudit/source/audit.py", "from ociaudit.store.spool import Spool"),
        ("ociaudit/source/audit.py", "def later():\n    import ociaudit.jobs.sweep"),
        ("ociaudit/source/audit.py", "import importlib\nimportlib.import_module('ociaudit.jobs.sweep')"),
        ("ociaudit/source/audit.py", "from ociaudit import stream"),
        ("ociaudit/jobs/export.py", "from ociaudit.insight import summary"),
        ("ociaudit/jobs/export.py", "from ociaudit import library"),
        ("ociaudit/library/functions.py", "from ociaudit.cli import console"),
        ("ociaudit/__init__.py", "from ociaudit.library import stream"),
        ("ociaudit/__init__.py", "def later():\n    from ociaudit.cli import app"),
        ("ociaudit/attic/old.py", "x = 1"),
    ],
)
def test_an_import_of_the_same_floor_or_a_higher_one_is_found(path: str, text: str) -> None:
    """An import that does not go downwards is a violation, wherever in the file it stands."""
    assert find_rules(path, text) == {"floor"}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("ociaudit/events/event.py", "from ociaudit.errors import AuditError"),
        ("ociaudit/events/event.py", "from ociaudit.events import fields"),
        (
            "ociaudit/source/audit.py",
            "from ociaudit.events.event import RawEvent\nimport ociaudit.plan.shard",
        ),
        ("ociaudit/source/transport.py", "from ociaudit.version import VERSION"),
        ("ociaudit/jobs/sweep.py", "from ociaudit.store import spool\nfrom ociaudit.source import audit"),
        ("ociaudit/library/functions.py", "from ociaudit.jobs import export"),
        ("ociaudit/cli/app.py", "from ociaudit.library import stream\nfrom ociaudit.insight import query"),
        ("ociaudit/cli/app.py", "import ociaudit"),
        ("ociaudit/__init__.py", "def later():\n    from ociaudit import library"),
        ("ociaudit/__init__.py", "from ociaudit.errors import AuditError"),
        ("ociaudit/__main__.py", "from ociaudit.cli.app import main"),
    ],
)
def test_an_import_that_goes_downwards_is_no_violation(path: str, text: str) -> None:
    """Floors below and the own folder are free to import."""
    assert find_rules(path, text) == set()


def test_a_circle_in_a_folder_is_found_and_drawn() -> None:
    """Modules of one folder that import each other in a ring are reported once, with the ring."""
    ring = [
        SourceFile("ociaudit/plan/__init__.py", ""),
        SourceFile("ociaudit/plan/window.py", "from ociaudit.plan import shard"),
        SourceFile("ociaudit/plan/shard.py", "from ociaudit.plan.planner import plan"),
        SourceFile("ociaudit/plan/planner.py", "def later():\n    from ociaudit.plan.window import Window"),
        SourceFile("ociaudit/plan/outside.py", "from ociaudit.plan import window"),
    ]
    (found,) = find_violations(ring)
    assert found.rule == "circle"
    assert found.what == ("ociaudit.plan.planner → ociaudit.plan.window → ociaudit.plan.shard → ociaudit.plan.planner")
    assert (found.path, found.line) == ("ociaudit/plan/planner.py", 2)


def test_a_folder_whose_face_reexports_is_no_circle() -> None:
    """A package's `__init__` may import its modules, which may import each other."""
    folder = [
        SourceFile("ociaudit/plan/__init__.py", "from ociaudit.plan.planner import plan"),
        SourceFile("ociaudit/plan/planner.py", "from ociaudit.plan import window"),
        SourceFile("ociaudit/plan/window.py", ""),
    ]
    assert find_violations(folder) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("ociaudit/cli/demo.py", "import ociaudit_emulator.server"),
        ("ociaudit/cli/demo.py", "from importlib import import_module\nimport_module('ociaudit_emulator')"),
        ("ociaudit_emulator/server.py", "from ociaudit.errors import AuditError"),
        ("ociaudit_emulator/server.py", "import msgspec"),
    ],
)
def test_the_program_and_its_emulator_share_nothing(path: str, text: str) -> None:
    """Neither package imports the other, and the emulator needs nothing but aiohttp and cryptography."""
    assert find_rules(path, text) == {"apart"}


@pytest.mark.parametrize(
    ("rule", "home", "text"),
    [
        ("durable", "store/durable.py", "import os\nos.fsync(3)"),
        ("durable", "store/durable.py", "import os\nos.fdatasync(3)"),
        ("durable", "store/durable.py", "import os as system\nsystem.replace('a', 'b')"),
        ("durable", "store/durable.py", "from os import replace as put\nput('a', 'b')"),
        ("durable", "store/durable.py", "import os\ncall_later(os.rename)"),
        ("durable", "store/durable.py", "import os\nos.renames('a', 'b')"),
        ("durable", "store/durable.py", "import shutil\nshutil.move('a', 'b')"),
        ("durable", "store/durable.py", "path.rename(target)"),
        ("durable", "store/durable.py", "find_path().replace(target)"),
        ("print", "cli/console.py", "print('x')"),
        ("print", "cli/console.py", "import sys\nsys.stderr.write('x')"),
        ("print", "cli/console.py", "from sys import stdout\nstdout.buffer.write(b'x')"),
        ("print", "cli/console.py", "from rich.console import Console\nConsole(stderr=True)"),
        ("print", "cli/console.py", "import rich.console\nrich.console.Console()"),
        ("print", "cli/console.py", "import typer\ntyper.echo('x')"),
        ("print", "cli/console.py", "import traceback\ntraceback.print_exc()"),
        ("print", "cli/console.py", "import logging\nlogging.basicConfig()"),
        ("exit", "cli/app.py", "import sys\nsys.exit(1)"),
        ("exit", "cli/app.py", "import os\nos._exit(1)"),
        ("exit", "cli/app.py", "raise SystemExit(1)"),
        ("exit", "cli/app.py", "raise SystemExit"),
        ("exit", "cli/app.py", "exit()"),
        ("exit", "cli/app.py", "import typer\nraise typer.Exit(1)"),
        ("environment", "library/functions.py", "import os\nos.environ['HOME']"),
        ("environment", "library/functions.py", "import os\nos.environ.get('HOME')"),
        ("environment", "library/functions.py", "from os import getenv\ngetenv('HOME')"),
        ("environment", "cli/app.py", "import os\nos.path.expandvars('$HOME')"),
    ],
)
def test_what_one_part_may_do_is_found_elsewhere_and_allowed_at_home(rule: str, home: str, text: str) -> None:
    """Each ban finds its violation in another part, lets its own part be, and leaves the emulator alone."""
    assert find_rules("ociaudit/source/audit.py", text) == {rule}
    assert find_rules(f"ociaudit/{home}", text) == set()
    assert find_ban_violations([SourceFile("ociaudit_emulator/signature.py", text)]) == []


@pytest.mark.parametrize(
    "text",
    [
        "'a-b'.replace('-', '_')",
        "moment.replace(hour=0)",
        "from dataclasses import replace\nreplace(shard, end=1)",
        "import dataclasses\ndataclasses.replace(shard, end=1)",
        "import msgspec\nmsgspec.structs.replace(shard, end=1)",
        "from rich.console import Console\ndef show(console: Console) -> None: ...",
        "printer.print('x')",
        "self.exit()",
        "try:\n    run()\nexcept SystemExit:\n    raise",
    ],
)
def test_namesakes_of_what_is_banned_are_no_violation(text: str) -> None:
    """Replacing in a string, a date or a class is not renaming, and naming a type is not printing."""
    assert find_rules("ociaudit/source/audit.py", text) == set()


@pytest.mark.parametrize("folder", ["events", "plan"])
@pytest.mark.parametrize(
    "text",
    [
        "import time",
        "import random",
        "from secrets import token_bytes",
        "import socket",
        "import asyncio",
        "from uuid import uuid4",
        "from urllib import request",
        "def later():\n    import time",
        "from datetime import UTC, datetime\ndatetime.now(UTC)",
        "import datetime as dt\ndt.datetime.utcnow()",
        "from datetime import date\ndate.today()",
        "from datetime import datetime\nread_clock = datetime.now",
        "open('x')",
    ],
)
def test_events_and_plan_know_no_clock_chance_or_socket(folder: str, text: str) -> None:
    """The two pure floors take the time of day as an argument and nothing from outside."""
    assert find_rules(f"ociaudit/{folder}/shard.py", text) == {"pure"}
    assert find_rules("ociaudit/source/retry.py", text) == set()


def test_a_pure_module_may_calculate_with_dates() -> None:
    """Dates, quoting of URLs and a clock handed in are no violation in the pure floors."""
    text = """
        import urllib.parse
        from datetime import datetime, timedelta
        def find_end(clock, text):
            return clock.now() + datetime.fromisoformat(text) + timedelta(days=1)
    """
    assert find_rules("ociaudit/plan/window.py", text) == set()


def test_a_module_over_300_lines_needs_a_reason() -> None:
    """A long module is found, and a reason below its docstring excuses it."""
    long = "x = 1\n" * 300
    assert find_rules("ociaudit/plan/window.py", long) == set()
    assert find_rules("ociaudit/plan/window.py", long + "x = 1\n") == {"length"}
    assert find_rules("ociaudit/plan/window.py", f'"""Windows."""\n# long because: a table\n{long}') == set()
    assert find_rules("ociaudit/plan/window.py", f'"""Windows."""\n# long because:\n{long}') == {"length"}
    assert find_rules("ociaudit/plan/window.py", f"{long}\n# long because: too late\n") == {"length"}


def test_a_function_over_50_lines_needs_a_reason() -> None:
    """A long function is found, and a reason above it or in its first lines excuses it."""
    reason = "# long because: one table of cases"
    path = "ociaudit_emulator/server.py"
    assert find_rules(path, make_function(lines=50)) == set()
    assert find_rules(path, make_function(lines=51)) == {"length"}
    assert find_rules(path, make_function(lines=51, above=reason)) == set()
    assert find_rules(path, make_function(lines=51, above=f"{reason}\n@decorate")) == set()
    assert find_rules(path, make_function(lines=52, head=f'    """Measure."""\n    {reason}')) == set()
    assert find_rules(path, make_function(lines=60) + f"    {reason}\n") == {"length"}


@pytest.mark.parametrize(
    "handler",
    [
        "except:\n    pass",
        "except Exception:\n    pass",
        "except (ValueError, BaseException) as error:\n    keep(error)",
        "except Exception as error:\n    raise ValueError from error",
    ],
)
def test_a_handler_that_catches_everything_is_found_outside_cli(handler: str) -> None:
    """Bare and broad handlers belong to the outermost edge alone."""
    text = f"try:\n    run()\n{handler}\n"
    assert find_rules("ociaudit/jobs/sweep.py", text) == {"except"}
    assert find_rules("ociaudit/cli/app.py", text) == set()


def test_suppressing_everything_is_found() -> None:
    """`suppress(Exception)` is a broad handler under another name."""
    text = "from contextlib import suppress\nwith suppress(Exception):\n    run()\n"
    assert find_rules("ociaudit/jobs/sweep.py", text) == {"except"}


@pytest.mark.parametrize("handler", ["except BaseException:\n    clean_up()\n    raise", "except OSError:\n    pass"])
def test_a_handler_that_raises_again_or_names_its_error_is_no_violation(handler: str) -> None:
    """Cleaning up and raising again catches nothing for good."""
    assert find_rules("ociaudit/store/durable.py", f"try:\n    run()\n{handler}\n") == set()


@pytest.mark.parametrize("path", ["source/utils.py", "source/retry_helpers.py", "plan/common.py"])
def test_a_name_that_says_nothing_is_found(path: str) -> None:
    """A module is named for what it holds."""
    assert find_rules(f"ociaudit/{path}", "x = 1") == {"name"}
