"""The reference pages say what the program does: commands, options, arguments, exit codes, modules."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ociaudit
from ociaudit.cli.script_commands import LOGSTREAMER, STREAMER, _make_parser
from ociaudit.errors import Interrupted, OciAuditError, RequestError, find_exit_status
from support.documents import cut_section, read_prose, read_table

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs/reference"
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
ANY_OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")
HELP_LINE = re.compile(r"^ {2}(?P<names>-.*?)(?: {2,}|$)", re.MULTILINE)
COMMAND_LINE = re.compile(r"^ {2}(?P<name>[a-z]+) {2,}", re.MULTILINE)
CODE = re.compile(r"\b\d{1,3}\b")
EXIT_CODES = {0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 130, 143}
# Former and other names, which are accepted and not shown by `--help`.
FORMER = {"--by", "--since", "--from", "--until", "--to"}
# Options of other programs that the documents show: oci, pip, curl, podman, make bench, and others.
FOREIGN = {
    "--all",
    "--bucket-name",
    "--build-arg",
    "--cap-drop",
    "--compartment-id",
    "--config",
    "--data-binary",
    "--document",
    "--end-time",
    "--env",
    "--fail",
    "--file",
    "--full",
    "--no-compile",
    "--no-deps",
    "--no-healthcheck",
    "--only",
    "--profile-name",
    "--quick",
    "--read-only",
    "--repo",
    "--rm",
    "--security-opt",
    "--show-error",
    "--silent",
    "--skip-deserialization",
    "--start-time",
    "--stream-output",
    "--user",
    "--userns",
    "--volume",
}


def read_help(*words: str) -> str:
    """Return what `oci-audit … --help` prints."""
    command = [sys.executable, "-m", "ociaudit", *words, "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


COMMANDS = sorted(set(COMMAND_LINE.findall(read_help().partition("Commands:")[2])))


def list_options(name: str) -> set[str]:
    """Return the options that `oci-audit NAME --help` lists."""
    names = [one for line in HELP_LINE.finditer(read_help(name)) for one in ANY_OPTION.findall(line["names"])]
    return {one for one in names if not one.endswith("-")}  # `--exclude-...` in a sentence


def list_script_options() -> set[str]:
    """Return the options of both documented scripts."""
    parsers = (_make_parser(STREAMER), _make_parser(LOGSTREAMER))
    return {name for parser in parsers for action in parser._actions for name in action.option_strings}


def list_documented_options(page: Path) -> set[str]:
    """Return the options in the first columns of the tables below a page's heading `Options`."""
    section = cut_section(page.read_text("utf-8"), "## Options")
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("|")]
    return {option for cell in cells for option in ANY_OPTION.findall(cell) if f"`{option}" in cell}


def test_there_are_commands() -> None:
    """The list of commands is read from `oci-audit --help`."""
    assert {"export", "doctor", "verify", "diff", "convert", "summary", "query", "report"} < set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_of_a_command_has_its_options_and_no_others(name: str) -> None:
    """docs/reference/NAME.md lists exactly the options that `oci-audit NAME --help` lists."""
    assert list_documented_options(REFERENCE / f"{name}.md") == list_options(name)


def test_every_command_has_a_page_and_no_other_has_one() -> None:
    """The pages of docs/reference whose titles are commands are those of the commands that exist."""
    titles = [path.read_text("utf-8").splitlines()[0] for path in REFERENCE.glob("*.md")]
    assert {title for title in titles if title.startswith("# oci-audit ")} == {f"# oci-audit {one}" for one in COMMANDS}


def test_a_missing_and_an_extra_option_are_found(tmp_path: Path) -> None:
    """Only options in the first column, below the right heading, count as documented."""
    page = tmp_path / "x.md"
    table = "| option | |\n|---|---|\n| `-o FILE`, `--out FILE` | not `--in` |\n"
    page.write_text(f"# X\n\n`--far`\n\n## Options\n\n{table}")
    assert list_documented_options(page) == {"-o", "--out"}


def test_the_page_of_filters_has_every_filter() -> None:
    """docs/reference/filters.md names every filter, and every exclusion, that `export` and `convert` have."""
    section = cut_section((REFERENCE / "filters.md").read_text("utf-8"), "## Options")
    shared = {"--output", "--format", "--compress", "--shape", "--with-origin", "--redact", "--overwrite", "--quiet"}
    shared |= {"--work-folder"}
    shared |= {"--start", "--end", "--region", "--compartment"}  # of `convert`, these select from an archive
    both = list_options("export") & list_options("convert") - list_options("doctor")
    filters = {one for one in both if one.startswith("--")} - shared
    assert {"--ip", "--exclude-ip", "--event-after"} < filters
    assert filters - set(OPTION.findall(section)) == set()


def test_the_options_of_the_scripts_are_documented() -> None:
    """docs/how-to/scripts.md names every option of both scripts."""
    text = read_prose(ROOT / "docs/how-to/scripts.md")
    assert {option for option in list_script_options() if f"`{option}`" not in text} == {"-h", "--help"}


def test_no_document_names_an_option_that_does_not_exist() -> None:
    """An option in the README or in docs/ is one of ours, or known to be another program's."""
    known = {name for command in COMMANDS for name in list_options(command)} | list_script_options() | FOREIGN
    known |= FORMER | {"--version"}
    documents = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    named = {name for path in documents for name in OPTION.findall(path.read_text("utf-8"))}
    assert named - known == set()


@pytest.mark.parametrize("function", [ociaudit.stream, ociaudit.export, ociaudit.sync])
def test_every_argument_of_the_python_api_is_documented(function) -> None:
    """docs/reference/python-api.md names each argument of `stream`, `export` and `sync`."""
    text = (REFERENCE / "python-api.md").read_text(encoding="utf-8")
    names = set(inspect.signature(function).parameters)
    assert {name for name in names if not re.search(rf"\b{name}\b", text)} == set()


def test_the_public_names_are_documented() -> None:
    """docs/reference/python-api.md names everything that `ociaudit` offers."""
    text = (REFERENCE / "python-api.md").read_text(encoding="utf-8")
    assert {name for name in ociaudit.__all__ if name not in text} == set()


def list_error_classes(root: type[OciAuditError]) -> list[type[OciAuditError]]:
    """Return the errors that may become the exit status; a failed request becomes one of them before."""
    below = [
        one
        for child in root.__subclasses__()
        if child is not RequestError and child.__name__[0] != "_"
        for one in list_error_classes(child)
    ]
    return [root, *below]


@pytest.fixture(scope="module")
def exit_codes() -> str:
    """The page of exit codes."""
    return (REFERENCE / "exit-codes.md").read_text("utf-8")


def test_the_table_of_exit_codes_is_that_of_the_errors(exit_codes: str) -> None:
    """Each error class is in the row of its exit code, and in no other."""
    stated: dict[str, set[int]] = {}
    for code, _, names, _ in read_table(exit_codes):
        for name in re.findall(r"`(\w+)`", names):
            stated.setdefault(name, set()).add(int(code))
    real = {one.__name__: {one.exit_code} for one in list_error_classes(OciAuditError)}
    real[Interrupted.__name__] = {find_exit_status(Interrupted("x", signal_number=number)) for number in (2, 15)}
    assert stated == real


def test_the_codes_without_an_error_are_in_the_table(exit_codes: str) -> None:
    """Success, a bug and the differences that `verify` and `diff` find have their rows too."""
    assert {int(row[0]) for row in read_table(exit_codes)} == EXIT_CODES


def test_the_page_of_a_command_has_the_exit_codes_of_the_table(exit_codes: str) -> None:
    """The section `Exit codes` of each command's page names the codes that the table by command has."""
    table = read_table(cut_section(exit_codes, "## By command"))
    stated = {name: codes for names, codes in table for name in re.findall(r"`(\w+)`", names)}
    assert {"export", "verify", "report"} < stated.keys() < set(COMMANDS)
    for name, codes in stated.items():
        section = cut_section((REFERENCE / f"{name}.md").read_text("utf-8"), "## Exit codes")
        found = {int(code) for code in CODE.findall(section)}
        assert found == {int(code) for code in CODE.findall(codes)} <= EXIT_CODES, name


def test_architecture_names_only_what_exists() -> None:
    """ARCHITECTURE.md names every package of the program, and no package or module that does not exist."""
    package = ROOT / "src/ociaudit"
    folders = {path.parent.name for path in package.glob("*/__init__.py")}
    named = re.findall(r"`(\w+)/(\w*)`", (ROOT / "ARCHITECTURE.md").read_text("utf-8"))
    ours = [(folder, module) for folder, module in named if folder in folders or not (ROOT / folder).is_dir()]
    assert {folder for folder, _ in ours} >= folders
    missing = [package / one for one, module in ours if not module and not (package / one).is_dir()]
    modules = [package / folder / module for folder, module in ours if module]
    missing += [path for path in modules if not path.is_dir() and not path.with_suffix(".py").is_file()]
    assert missing == []
