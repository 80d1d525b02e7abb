import inspect
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from typer.main import get_command

import ociaudit
from ociaudit.cli import diff_command, verify_command
from ociaudit.cli.app import BUG_EXIT_CODE, SIGNAL_EXIT_BASE, register_commands
from ociaudit.cli.options import FilterCommand
from ociaudit.cli.script_commands import LOGSTREAMER, STREAMER, _make_parser
from ociaudit.errors import Interrupted, OciAuditError, RequestError
from support.documents import cut_section, read_prose, read_table

COMMANDS = get_command(register_commands()).commands
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
ANY_OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")
HELP_LINE = re.compile(r"^ {2}(?P<names>-.*?)(?: {2,}|$)", re.MULTILINE)
# An option under its former name is the same option.
RENAMED = {"--by": "--time-basis"}
# What Python gets from `export` and `stream` beyond the command line, for the commands themselves.
FOR_THE_COMMANDS = {"callbacks", "stop", "tally"}
# Options of other programs that the documents show: oci, pip, curl, make bench, and others.
FOREIGN = {
    "--all",
    "--compartment-id",
    "--config",
    "--data-binary",
    "--document",
    "--end-time",
    "--fail",
    "--full",
    "--no-deps",
    "--only",
    "--profile-name",
    "--quick",
    "--show-error",
    "--silent",
    "--skip-deserialization",
    "--start-time",
    "--stream-output",
}


def rename(options: Iterable[str]) -> set[str]:
    """Return options under their present names."""
    return {RENAMED.get(name, name) for name in options}


def list_options(command) -> set[str]:
    """Return the names of a command's options."""
    return {name for parameter in command.params for name in parameter.opts if name.startswith("-")}


def list_script_options() -> set[str]:
    """Return the options of both documented scripts."""
    parsers = (_make_parser(STREAMER), _make_parser(LOGSTREAMER))
    return {name for parser in parsers for action in parser._actions for name in action.option_strings}


def read_help(name: str) -> set[str]:
    """Return the options that `oci-audit NAME --help` lists."""
    command = [sys.executable, "-m", "ociaudit", name, "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    names = [option for line in HELP_LINE.finditer(text) for option in ANY_OPTION.findall(line["names"])]
    return rename(name for name in names if not name.endswith("-"))  # `--exclude-...` in a heading


def read_documented(page: Path) -> set[str]:
    """Return the options in the first columns of the tables below a page's heading `Options`."""
    section = cut_section(page.read_text("utf-8"), "## Options")
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("|")]
    return {option for cell in cells for option in ANY_OPTION.findall(cell) if f"`{option}" in cell}


@pytest.fixture(scope="module")
def readme(repository: Path) -> str:
    """The text of the README."""
    return (repository / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_and_option_is_in_the_readme(name: str, readme: str) -> None:
    """A command has a section of its own in the README, which names each of its options."""
    section = cut_section(readme, f"### oci-audit {name}")
    if isinstance(COMMANDS[name], FilterCommand):  # its filters are documented once, for all commands
        section += cut_section(readme, "### Filters")
    former = {new: old for old, new in RENAMED.items()}
    options = rename(list_options(COMMANDS[name]))
    missing = {one for one in options if f"`{one}" not in section and f"`{former.get(one, one)}" not in section}
    assert missing - {"-h", "--help"} == set()


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_page_of_a_command_has_its_options_and_no_others(name: str, repository: Path) -> None:
    """docs/reference/NAME.md lists exactly the options that `oci-audit NAME --help` lists."""
    assert read_documented(repository / f"docs/reference/{name}.md") == read_help(name)


def test_every_command_has_a_page_and_no_other_has_one(repository: Path) -> None:
    """The pages of docs/reference whose titles are commands are those of the commands that exist."""
    titles = [path.read_text("utf-8").splitlines()[0] for path in (repository / "docs/reference").glob("*.md")]
    assert {title for title in titles if title.startswith("# oci-audit ")} == {f"# oci-audit {one}" for one in COMMANDS}


def test_the_page_of_filters_has_every_filter(repository: Path) -> None:
    """docs/reference/filters.md names every filter, and every exclusion, that `export` and `convert` have."""
    section = cut_section((repository / "docs/reference/filters.md").read_text("utf-8"), "## Options")
    filters = read_help("export") & read_help("convert") - read_help("doctor")
    shared = {"--output", "--format", "--compress", "--shape", "--with-origin", "--redact", "--overwrite", "--quiet"}
    filters = {one for one in filters if one.startswith("--")} - shared
    assert {"--ip", "--exclude-ip", "--event-after"} < filters
    assert filters - set(OPTION.findall(section)) == set()


def test_a_missing_and_an_extra_option_are_found(tmp_path: Path) -> None:
    """Only options in the first column, below the right heading, count as documented."""
    page = tmp_path / "x.md"
    page.write_text(
        "# X\n\n`--far`\n\n## Options\n\n| option | |\n|---|---|\n| `-o FILE`, `--out FILE` | not `--in` |\n"
    )
    assert read_documented(page) == {"-o", "--out"}


def test_the_options_of_the_scripts_are_documented(repository: Path) -> None:
    """docs/reference/scripts.md names every option of both scripts."""
    text = read_prose(repository / "docs/reference/scripts.md")
    assert {option for option in list_script_options() if f"`{option}`" not in text} == {"-h", "--help"}


def test_the_options_of_the_emulator_are_documented(repository: Path) -> None:
    """docs/reference/emulator.md names every option of the emulator."""
    text = (repository / "docs/reference/emulator.md").read_text(encoding="utf-8")
    assert {one for one in read_help("emulator") if one.startswith("--")} - {"--help"} - set(
        OPTION.findall(text)
    ) == set()


def test_no_document_names_an_option_that_does_not_exist(repository: Path) -> None:
    """An option in the README or in docs/ is one of ours, or known to be another program's."""
    ours = {name for command in COMMANDS.values() for name in list_options(command)}
    known = ours | list_script_options() | read_help("emulator") | {"--help", "--version"} | FOREIGN
    known |= RENAMED.keys() | set(RENAMED.values())
    documents = [repository / "README.md", *(repository / "docs").rglob("*.md")]
    named = {name for path in documents for name in OPTION.findall(path.read_text("utf-8"))}
    assert named - known == set()


@pytest.mark.parametrize("function", [ociaudit.stream, ociaudit.export])
def test_every_argument_of_the_library_is_documented(function, repository: Path) -> None:
    """docs/reference/python-api.md names each argument of `stream` and `export`."""
    text = (repository / "docs/reference/python-api.md").read_text(encoding="utf-8")
    names = set(inspect.signature(function).parameters) - FOR_THE_COMMANDS
    assert {name for name in names if not re.search(rf"\b{name}\b", text)} == set()


def test_the_public_names_are_documented(repository: Path) -> None:
    """docs/reference/python-api.md names everything that `ociaudit` offers."""
    text = (repository / "docs/reference/python-api.md").read_text(encoding="utf-8")
    assert {name for name in ociaudit.__all__ if name not in text} == set()


def list_error_classes(root: type[OciAuditError]) -> list[type[OciAuditError]]:
    """The families that may reach the exit status; a failed request becomes one of them before."""
    below = [one for child in root.__subclasses__() if child is not RequestError for one in list_error_classes(child)]
    return [root, *below]


def test_the_table_of_exit_codes_is_that_of_the_errors(repository: Path) -> None:
    """Each error class is in the row of its exit code, and in no other."""
    stated: dict[str, set[int]] = {}
    for code, _, names, _ in read_table((repository / "docs/reference/exit-codes.md").read_text("utf-8")):
        for name in re.findall(r"`(\w+)`", names):
            stated.setdefault(name, set()).add(int(code))
    real = {one.__name__: {one.exit_code} for one in list_error_classes(OciAuditError)}
    real[Interrupted.__name__] = {SIGNAL_EXIT_BASE + 2, SIGNAL_EXIT_BASE + 15}
    assert stated == real


def test_the_codes_without_an_error_are_in_the_table(repository: Path) -> None:
    """Success, a bug and the differences that `verify` and `diff` find have their rows too."""
    rows = read_table((repository / "docs/reference/exit-codes.md").read_text("utf-8"))
    assert verify_command.ALTERED_EXIT_CODE == diff_command.DIFFERENT_EXIT_CODE == 7
    assert {int(row[0]) for row in rows} == {0, BUG_EXIT_CODE, 2, 3, 4, 5, 6, 7, 10, 130, 143}


def test_the_readme_and_the_table_of_exit_codes_agree(repository: Path, readme: str) -> None:
    """The README's short table has the same codes with the same meanings."""
    long = read_table((repository / "docs/reference/exit-codes.md").read_text("utf-8"))
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
