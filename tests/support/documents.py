"""The Markdown documents as tests see them: fenced blocks with what stands above them, headings, links, tables.

Owns: that reading, and the comments that say how an example is run.
Must not: run anything.

A comment right above a block says how it is run:

    <!-- not run: reason -->   it is shown only
    <!-- exit: 10, 0 -->       the exit codes of its commands, one after the other; 0 for all without it
    <!-- needs: zstd, jq -->   it is run where these programs are installed
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\s*$")
_COMMENT = re.compile(r"<!-- (?P<word>not run|exit|needs): (?P<value>.+) -->")
_HEADING = re.compile(r"^#+ (?P<text>.+)$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


class DocumentError(Exception):
    """A document cannot be read as the convention says; the text names the line."""


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block. `line` is that of its fence."""

    language: str
    text: str
    line: int
    not_run: str = ""
    exits: tuple[int, ...] = ()
    needs: tuple[str, ...] = ()

    @property
    def commands(self) -> list[str]:
        """Give the commands of a shell block, each whole on one line, without comments."""
        joined = self.text.replace("\\\n", " ")
        lines = [line.strip() for line in joined.splitlines()]
        return [line for line in lines if line and not line.startswith("#")]


def read_blocks(path: Path) -> list[Block]:
    """Return a document's fenced blocks.

    Raises:
        DocumentError: a fence is not closed, or the comment above one is not of the convention.
    """
    blocks: list[Block] = []
    lines = path.read_text(encoding="utf-8").splitlines()
    opened: tuple[int, str] | None = None
    for number, line in enumerate(lines):
        fence = _FENCE.match(line)
        if fence and opened is None:
            opened = number, fence["language"]
        elif fence and opened is not None:
            begin, language = opened
            above = lines[begin - 1].strip() if begin else ""
            text = "\n".join(lines[begin + 1 : number]) + "\n"
            blocks.append(_make_block(path, language, text, begin + 1, above))
            opened = None
    if opened is not None:
        message = f"{path.name}:{opened[0] + 1}: the block is not closed"
        raise DocumentError(message)
    return blocks


def _make_block(path: Path, language: str, text: str, line: int, above: str) -> Block:
    if not above.startswith("<!--"):
        return Block(language, text, line)
    comment = _COMMENT.fullmatch(above)
    if comment is None:
        message = f"{path.name}:{line}: the comment above this block is not of the convention: {above}"
        raise DocumentError(message)
    parts = tuple(part.strip() for part in comment["value"].split(","))
    match comment["word"]:
        case "exit":
            return Block(language, text, line, exits=tuple(map(int, parts)))
        case "needs":
            return Block(language, text, line, needs=parts)
        case _:
            return Block(language, text, line, not_run=comment["value"])


def read_prose(path: Path) -> str:
    """Return a document without its fenced blocks."""
    return _CODE.sub("", path.read_text(encoding="utf-8"))


def list_anchors(path: Path) -> set[str]:
    """Return the anchors that a document's headings make."""
    return {make_anchor(match["text"]) for match in _HEADING.finditer(read_prose(path))}


def make_anchor(heading: str) -> str:
    """Return a heading's anchor as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def list_links(path: Path) -> list[str]:
    """Return the targets of a document's links, in order."""
    return [match["target"] for match in _LINK.finditer(read_prose(path))]


def cut_section(text: str, heading: str) -> str:
    """Return what stands between a heading (with its marks) and the next one of the same or a higher level."""
    level = len(heading) - len(heading.lstrip("#"))
    begin = text.index(f"\n{heading}\n") + len(heading) + 2
    following = re.search(rf"^#{{1,{level}}} ", text[begin:], re.MULTILINE)
    return text[begin : begin + following.start()] if following else text[begin:]


def read_table(text: str) -> list[list[str]]:
    """Return the cells of the first table in a text, without its head."""
    rows: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            break
    return rows[2:]
