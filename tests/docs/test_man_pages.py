"""The man pages and completion scripts in share/, made from the commands' own help; `make man` renews them."""

import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.shell_completion import get_completion_class

from ociaudit.cli.app import _COMPLETION_VARIABLE, _PROGRAM, _SHELLS, COMMANDS, app
from ociaudit.cli.options import _NOTES, _collect_sections
from ociaudit.errors import ExitCode
from ociaudit.version import VERSION
from support.documents import read_table

ROOT = Path(__file__).resolve().parents[2]
SHARE = ROOT / "share"
EXIT_CODES = ROOT / "docs/reference/exit-codes.md"
COMPLETIONS = {
    "bash": f"bash-completion/completions/{_PROGRAM}",
    "zsh": f"zsh/site-functions/_{_PROGRAM}",
    "fish": f"fish/vendor_completions.d/{_PROGRAM}.fish",
}
UNWRITTEN = re.compile(r"\[(?P<text>[^\]]+)\]\([^)]+\)|`(?P<code>[^`]+)`")  # Markdown that a terminal does not show


def escape(text: str) -> str:
    """Return text as roff reads it: one line, with hyphens that can be copied as such."""
    escaped = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def write_list(rows: list[tuple[str, str]]) -> Iterator[str]:
    """Yield a list of labels with their descriptions."""
    for label, text in rows:
        yield from (".TP", f"\\fB{escape(label)}\\fR", escape(text))


def write_exit_codes() -> Iterator[str]:
    """Yield the table of exit codes, as docs/reference/exit-codes.md has it."""
    yield ".SH EXIT STATUS"
    for row in read_table(EXIT_CODES.read_text("utf-8").partition("## By command")[0]):
        meaning = UNWRITTEN.sub(lambda match: match["text"] or match["code"], row[1])
        yield from (".TP", f"\\fB{row[0]}\\fR", escape(meaning[0].upper() + meaning[1:] + "."))


def write_page(name: str, short: str, command: click.Command, context: click.Context) -> Iterator[str]:
    """Yield the man page of the program or of one of its commands."""
    yield f'.TH "{name.upper()}" 1 "" "{_PROGRAM} {VERSION}" "oci\\-audit Manual"'
    yield from (".SH NAME", f"{escape(name)} \\- {escape(short)}", ".SH SYNOPSIS")
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"\\fB{escape(context.command_path)}\\fR {escape(usage)}".rstrip()
    yield ".SH DESCRIPTION"
    for number, paragraph in enumerate((command.help or "").split("\n\n")):
        yield from ([".PP"] * (number > 0))
        yield escape(paragraph)
    listed = {one: entry.short_help for one, entry in COMMANDS.items()} if command is app else {}
    for title, rows in _collect_sections(command, context, listed).items():
        yield f".SH {title.upper()}"
        if title in _NOTES:
            yield escape(_NOTES[title])
        yield from write_list(rows)
    examples = getattr(command, "examples", ())
    if examples:
        yield ".SH EXAMPLES"
    for description, line in examples:
        yield from (".PP", escape(description) + ":", ".PP", ".RS 4", ".nf", escape(line), ".fi", ".RE")
    if command is app:
        yield from write_exit_codes()
    others = sorted({_PROGRAM, *(f"{_PROGRAM}-{one}" for one in COMMANDS)} - {name})
    yield from (".SH SEE ALSO", ", ".join(f"\\fB{escape(one)}\\fR(1)" for one in others))


def make_man_pages() -> dict[str, str]:
    """Return each man page by its path below share/."""
    with click.Context(app, info_name=_PROGRAM) as parent:
        pages = {_PROGRAM: write_page(_PROGRAM, "export every audit event of an OCI tenancy", app, parent)}
        for name, entry in COMMANDS.items():
            command = app.get_command(parent, name)
            context = click.Context(command, info_name=name, parent=parent)
            short = entry.short_help[0].lower() + entry.short_help[1:].rstrip(".")
            pages[f"{_PROGRAM}-{name}"] = write_page(f"{_PROGRAM}-{name}", short, command, context)
        return {f"man/man1/{name}.1": "\n".join(lines) + "\n" for name, lines in pages.items()}


def make_completions() -> dict[str, str]:
    """Return each completion script by its path below share/."""
    return {
        path: get_completion_class(shell)(app, {}, _PROGRAM, _COMPLETION_VARIABLE).source().rstrip("\n") + "\n"
        for shell, path in COMPLETIONS.items()
    }


def make_shared_files() -> dict[str, str]:
    """Return everything that share/ consists of."""
    return make_man_pages() | make_completions()


def write_shared_files() -> None:
    """Write share/ from the commands as they are."""
    shutil.rmtree(SHARE, ignore_errors=True)
    for name, text in make_shared_files().items():
        (SHARE / name).parent.mkdir(parents=True, exist_ok=True)
        (SHARE / name).write_text(text, "utf-8")


def test_the_shared_files_are_those_of_the_commands() -> None:
    """share/ has the man pages and scripts of the commands as they are, and nothing else; `make man` renews them."""
    files = [path for path in SHARE.rglob("*") if path.is_file()]
    stored = {path.relative_to(SHARE).as_posix(): path.read_text("utf-8") for path in files}
    assert sorted(stored) == sorted(make_shared_files())
    assert [name for name, text in make_shared_files().items() if stored[name] != text] == []


def test_the_wheel_installs_the_shared_files() -> None:
    """The man pages and scripts are in the environment's share/, where man and the shells look for them."""
    installed = Path(sysconfig.get_path("data")) / "share"
    for name, text in make_shared_files().items():
        assert (installed / name).read_text("utf-8") == text


def test_a_man_page_has_every_option_of_its_command() -> None:
    """The page of `export` has each option with its help, and that of the program every command and exit code."""
    pages = make_man_pages()
    page = pages["man/man1/oci-audit-export.1"].replace("\\-", "-")
    options = [name for one in app.get_command(None, "export").params for name in one.opts if name.startswith("--")]
    hidden = {name for one in app.get_command(None, "export").params for name in getattr(one, "aliases", ())}
    assert len(options) > 30
    assert [name for name in options if name not in hidden and name not in page] == []
    program = pages["man/man1/oci-audit.1"]
    assert all(f"\\fB{code}\\fR" in program for code in {int(one) for one in ExitCode})
    assert all(f"\\fB{name}\\fR" in program for name in COMMANDS)


@pytest.mark.parametrize(
    ("text", "written"),
    [(".x", "\\&.x"), ("'y", "\\&'y"), ("a\\b --c", "a\\eb \\-\\-c"), ("two\n  lines", "two lines")],
)
def test_roff_reads_text_as_text(text: str, written: str) -> None:
    """What roff would take for a request or an escape is written so that it is shown."""
    assert escape(text) == written


@pytest.mark.skipif(shutil.which("man") is None, reason="needs man")
def test_man_shows_a_page() -> None:
    """`man` renders each page without a warning, with the examples as they are typed."""
    for path in sorted((SHARE / "man/man1").iterdir()):
        command = ["man", "--warnings", "-l", str(path)]
        environment = {"MANWIDTH": "100", "LC_ALL": "C.UTF-8", "PATH": "/usr/local/bin:/usr/bin:/bin"}
        shown = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        assert shown.stderr == ""
        assert "SYNOPSIS" in shown.stdout
        if path.name == "oci-audit-export.1":
            assert "oci-audit export --start 7d -o audit.json" in shown.stdout


@pytest.mark.parametrize("shell", _SHELLS)
def test_a_shell_reads_its_completion_script(shell: str) -> None:
    """Each completion script is one that its shell parses without an error."""
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    checked = subprocess.run([shell, "-n", SHARE / COMPLETIONS[shell]], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


if __name__ == "__main__":
    write_shared_files()
