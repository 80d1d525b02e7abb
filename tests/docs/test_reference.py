import inspect
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

import ociaudit
from ociaudit.cli.app import app
from ociaudit.cli.options import has_filters
from ociaudit.cli.script_commands import LOGSTREAMER, STREAMER, _make_parser
from ociaudit.errors import ExitCode, Interrupted, OciAuditError, RequestError, find_exit_status
from support.documents import cut_section, read_prose, read_table

CONTEXT = click.Context(app, info_name="oci-audit")
COMMANDS = {name: app.get_command(CONTEXT, name) for name in app.list_commands(CONTEXT)}
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
# What Python gets from `export` and `stream` beyond the command line, for the commands themselves.
FOR_THE_COMMANDS = {"callbacks", "stop", "tally"}


def list_options(command) -> set[str]:
    """The names of a command's options, except former ones that are still accepted."""
    options = [parameter for parameter in command.get_params(CONTEXT) if isinstance(parameter, click.Option)]
    return {name for option in options for name in option.opts if name not in getattr(option, "aliases", ())}


def list_script_options() -> set[str]:
    """The options of both documented scripts."""
    parsers = (_make_parser(STREAMER), _make_parser(LOGSTREAMER))
    return {name for parser in parsers for action in parser._actions for name in action.option_strings}


def list_emulator_options() -> set[str]:
    """The flags of the emulator, as its help lists them."""
    command = [sys.executable, "-m", "ociaudit_emulator", "--help"]
    return set(OPTION.findall(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


@pytest.fixture(scope="module")
def readme(repository: Path) -> str:
    """The text of the README."""
    return (repository / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_and_option_is_in_the_readme(name: str, readme: str) -> None:
    """A command has a section of its own in the README, which names each of its options."""
    section = cut_section(readme, f"### oci-audit {name}")
    if has_filters(COMMANDS[name]):  # its filters are documented once, for all commands
        section += cut_section(readme, "### Filters")
    missing = {option for option in list_options(COMMANDS[name]) if f"`{option}" not in section}
    assert missing - {"-h", "--help", "--color"} == set()


def test_the_options_of_the_scripts_are_documented(repository: Path) -> None:
    """docs/scripts.md names every option of both scripts."""
    text = read_prose(repository / "docs/scripts.md")
    assert {option for option in list_script_options() if f"`{option}`" not in text} == {"-h", "--help"}


def test_the_options_of_the_emulator_are_documented(repository: Path) -> None:
    """docs/emulator.md names every flag of the emulator."""
    text = (repository / "docs/emulator.md").read_text(encoding="utf-8")
    assert list_emulator_options() - {"--help"} - set(OPTION.findall(text)) == set()


def test_no_document_names_an_option_that_does_not_exist(repository: Path) -> None:
    """What README and docs/ call an option of ours is one."""
    ours = {name for command in COMMANDS.values() for name in list_options(command)}
    known = ours | list_script_options() | list_emulator_options() | {"--help", "--version", "--color"}
    documents = ["README.md", "docs/exit-codes.md", "docs/times-and-scope.md", "docs/scripts.md", "docs/library.md"]
    documents += ["docs/filters.md", "docs/presets.md"]
    named = {name for document in documents for name in OPTION.findall((repository / document).read_text("utf-8"))}
    assert named - known == set()


@pytest.mark.parametrize("function", [ociaudit.stream, ociaudit.export])
def test_every_argument_of_the_library_is_documented(function, repository: Path) -> None:
    """docs/library.md names each argument of `stream` and `export`."""
    text = (repository / "docs/library.md").read_text(encoding="utf-8")
    names = set(inspect.signature(function).parameters) - FOR_THE_COMMANDS
    assert {name for name in names if not re.search(rf"\b{name}\b", text)} == set()


def test_the_public_names_are_documented(repository: Path) -> None:
    """docs/library.md names everything that `ociaudit` offers."""
    text = (repository / "docs/library.md").read_text(encoding="utf-8")
    assert {name for name in ociaudit.__all__ if name not in text} == set()


def list_error_classes(root: type[OciAuditError]) -> list[type[OciAuditError]]:
    """The families that may reach the exit status; a failed request becomes one of them before."""
    below = [one for child in root.__subclasses__() if child is not RequestError for one in list_error_classes(child)]
    return [root, *below]


def test_the_table_of_exit_codes_is_that_of_the_errors(repository: Path) -> None:
    """Each error class stands in the row of its exit code, and nowhere else."""
    stated: dict[str, set[int]] = {}
    for code, _, names, _ in read_table((repository / "docs/exit-codes.md").read_text("utf-8")):
        for name in re.findall(r"`(\w+)`", names):
            stated.setdefault(name, set()).add(int(code))
    real = {one.__name__: {one.exit_code} for one in list_error_classes(OciAuditError)}
    real[Interrupted.__name__] = {find_exit_status(Interrupted("x", signal_number=number)) for number in (2, 15)}
    assert stated == real


def test_the_codes_without_an_error_are_in_the_table(repository: Path) -> None:
    """Success, a bug and the findings of `verify` and `diff` have their rows too."""
    rows = read_table((repository / "docs/exit-codes.md").read_text("utf-8"))
    assert {int(row[0]) for row in rows} == set(ExitCode) == {0, 1, 2, 3, 4, 5, 6, 7, 10, 130, 143}
    assert ExitCode.ALTERED == ExitCode.DIFFERENT == 7


def test_the_readme_and_the_table_of_exit_codes_agree(repository: Path, readme: str) -> None:
    """The README's short table has the same codes with the same meanings."""
    long = read_table((repository / "docs/exit-codes.md").read_text("utf-8"))
    short = read_table(cut_section(readme, "### Exit codes"))
    assert short == [row[:2] for row in long]


def list_modules(repository: Path) -> set[str]:
    """The modules of the program; the folders' own `__init__` only name their floor."""
    package = repository / "src/ociaudit"
    paths = [path.relative_to(package).as_posix() for path in package.rglob("*.py")]
    return {path for path in paths if path == "__init__.py" or not path.endswith("/__init__.py")}


def test_architecture_names_every_module_and_no_other(repository: Path) -> None:
    """ARCHITECTURE.md has each module of the program in its tables, and none that is gone."""
    house = cut_section(read_prose(repository / "ARCHITECTURE.md"), "## The house")
    program = house.split("### Apart")[0]
    named = {
        name for line in program.splitlines() if line.startswith("|") for name in re.findall(r"`([\w/]+\.py)`", line)
    }
    assert named == list_modules(repository)
