import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.documents import Block, DocumentError, read_blocks

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SECONDS = 60


def run_command(command: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a line as a reader would paste it."""
    return subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=SECONDS,
        check=False,
    )


def run_block(block: Block, folder: Path, reader) -> list[str]:
    """Run one example; return what was not as the document says."""
    if block.language == "python":
        script = folder / f"example-{block.line}.py"
        script.write_text(reader.fill_in(block.text), encoding="utf-8")
        commands, exits = [f"'{sys.executable}' -W error '{script.name}'"], (0,)
    else:
        commands = block.commands
        exits = block.exits or (0,) * len(commands)
    if len(exits) != len(commands):
        return [f"line {block.line}: {len(commands)} commands, and {len(exits)} exit codes above them"]
    problems = []
    for command, expected in zip(commands, exits, strict=True):
        done = run_command(reader.fill_in(command), folder, reader.environment)
        if done.returncode != expected:
            problems.append(
                f"line {block.line}: exit {done.returncode} instead of {expected}\n  {command}\n{done.stderr[-2000:]}"
            )
    return problems


def is_run(block: Block) -> bool:
    """Whether an example is one, and what it needs is installed here."""
    return block.language in {"sh", "python"} and not block.not_run and all(map(shutil.which, block.needs))


@pytest.fixture(scope="module")
def trials(make_folder, reader):
    """What went wrong in each document; two of them are tried at a time, because most of it is starting processes."""

    def try_document(path: Path, folder: Path) -> list[str]:
        return [problem for block in read_blocks(path) if is_run(block) for problem in run_block(block, folder, reader)]

    with ThreadPoolExecutor(2) as threads:
        yield {path: threads.submit(try_document, path, make_folder()) for path in DOCUMENTS}


@pytest.mark.timeout(600)  # the first of them waits for those before it
@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_a_document_shows_can_be_done(path: Path, trials) -> None:
    """Every shell and Python example ends as the document says, one after the other in one folder."""
    problems = trials[path].result()
    assert not problems, "\n" + "\n".join(problems)


def test_the_scripts_of_an_example_are_the_installed_package(make_folder) -> None:
    """The copies of the scripts have no `src/` beside them, so the wheel is what they run."""
    assert not (make_folder() / "src").exists()


@pytest.mark.parametrize(
    ("text", "commands", "exits"),
    [
        ("<!-- exit: 10, 0 -->\n```sh\n# first\na \\\n  b\n\nc\n```\n", ["a    b", "c"], (10, 0)),
        ("```sh\na\n```\n", ["a"], ()),
    ],
)
def test_a_block_is_read_with_its_commands_and_exit_codes(tmp_path, text, commands, exits) -> None:
    """Comments and continued lines are understood, and the comment above a block belongs to it."""
    (tmp_path / "x.md").write_text(text)
    (block,) = read_blocks(tmp_path / "x.md")
    assert ([" ".join(one.split()) for one in block.commands], block.exits) == (
        [" ".join(one.split()) for one in commands],
        exits,
    )


@pytest.mark.parametrize("text", ["<!-- dont run -->\n```sh\na\n```\n", "```sh\na\n"])
def test_a_slip_in_a_document_is_found(tmp_path, text) -> None:
    """A comment that the convention does not know, or a block without an end, is an error and not an omission."""
    (tmp_path / "x.md").write_text(text)
    with pytest.raises(DocumentError):
        read_blocks(tmp_path / "x.md")


def test_an_example_that_ends_otherwise_is_found(tmp_path, reader) -> None:
    """A command with another exit code than the one above it, or a snippet that raises, is reported."""
    assert run_block(Block("sh", "exit 3\n", 1), tmp_path, reader)
    assert run_block(Block("python", "raise SystemExit(1)\n", 1), tmp_path, reader)
    assert run_block(Block("sh", "true\ntrue\n", 1, exits=(0,)), tmp_path, reader)
    assert not run_block(Block("sh", "exit 3\n", 1, exits=(3,)), tmp_path, reader)
