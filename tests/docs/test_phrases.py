"""Phrases that are not idiomatic technical English, or not the project's vocabulary, and may not come back.

The docs, the README, the program's source with the report's assets, and the help of every command are searched; line
breaks and comment marks inside a phrase are ignored. Only the table in this file is exempt.
"""

import re
import subprocess
import sys
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VENDORED = re.compile(r"uPlot")
SUFFIXES = {".py", ".html", ".css", ".js", ".md"}

_BE = r"(?:is|are|was|were|be|been)"
# What may follow "is no": comparisons, and set phrases.
_NO = (
    r"(?:longer|more|less|fewer|later|earlier|sooner|older|newer|larger|longer|smaller|shorter|slower|faster|better|worse"
    r"|other|different|further|matter|wonder|exception|one|sooner|newline)"
)

# Where something is, that does not stand.
_WHERE = r"(?:in(?! for\b| place\b)|on|at|above|below|beside|behind|under|there|before|after|twice|for (?:it|them))"

# A pattern, and what to write instead.
PHRASES = {
    r"\banew\b": "again",
    r"\b(?:leave|leaves|left|leaving) away\b": "omit",
    r"\bwork(?:s|ed|ing)? off\b": "process",
    r"\bmade (?:tenancy|tenancies|events?)\b": "synthetic",
    r"\btells? whether\b": "return whether, check whether",
    r"\b(?:whoever|whomever)\b": "anyone who, a person who, users who",
    r"\bthat which\b": "what, the one that",
    r"\bin silence\b": "silently",
    r"\bunder way\b": "in flight, running",
    r"\bto the byte\b": "byte for byte",
    r"\b(?:begin|begins|began|begun) so\b": "begin like this",
    r"\bwhat is there\b": "what exists, what is installed",
    r"\bof (?:itself|themselves) alone\b": "alone",
    r"\b(?:give|gives|gave|given|giving) back\b": "return, release",
    r"\bat once\b": "immediately, at the same time",
    r"\bof one kind\b": "of the same kind",
    r"\bmany at a time\b": "concurrently",
    r"\bby (?:itself|themselves)\b": "automatically, alone, separately",
    r"\bas (?:it|they) stands?\b": "as it is, unchanged",
    rf"\b{_BE} asked\b(?! to\b| whether\b)": "is requested, is fetched",
    r"\b(?:come|comes|came) of\b": "results from, becomes",
    r"\bwhat (?:came|comes)\b(?! (?:next|first|after|before))": "what was received",
    r"\bit is (?:the |a |an )?(?!clear|likely|possible|important|true|known|not)\w+ that\b": "say it directly",
    r"\b(?:go|goes|going|went|gone) on\b(?! (?:to|sale|the|a|an)\b)": "continue",
    rf"\b(?:stands?|stood|standing) {_WHERE}\b": "is",
    rf"\b{_BE} told\b": "is reported, is detected",
    r"\btold (?:apart|by|here|above|below|about|from|as|which|what|whether|with|to)\b": "reported, distinguished",
    r"\b(?:unless|until|without being|being|as|so) told\b": "unless requested, by default",
    rf"(?<!there )(?<!nor )(?<!which )\b{_BE} no (?!{_NO}\b)\w+": "is not a",
    r"(?<!there )\b(?-i:is none)\b(?! of\b)": "is not one, is not valid",  # `is None` is Python
    r"\bone behind the other\b": "concatenated, one after the other",
    r"\bnot any ?more\b|\bno \w+ any ?more\b": "no longer",
    r"\bby whose fault\b": "name the cause",
    r"\bworth a look\b": "detection",
    r"\bof the house\b": "of the project",
    r"\bspelled otherwise\b": "in another shape",
}
COMPILED = {re.compile(pattern, re.IGNORECASE): advice for pattern, advice in PHRASES.items()}
_MARK = re.compile(r"^\s*(?:(?:#+|//+|\*+|>|-|\|)\s+)?")


def join_lines(text: str) -> tuple[str, list[int]]:
    """Return a text as one line, without comment marks, and where each of its lines begins in it."""
    joined, starts = [], [0]
    for line in text.splitlines():
        stripped = _MARK.sub("", line).rstrip()
        joined.append(stripped)
        starts.append(starts[-1] + len(stripped) + 1)
    return " ".join(joined), starts


def find_phrases(text: str) -> Iterator[str]:
    """Yield every phrase of the list that is in a text, with its line and what to write instead."""
    joined, starts = join_lines(text)
    for pattern, advice in COMPILED.items():
        for match in pattern.finditer(joined):
            yield f"line {bisect_right(starts, match.start())}: {match[0]!r}; write: {advice}"


def list_files() -> list[Path]:
    """Return every file that is searched."""
    below = [path for folder in ("src", "docs") for path in sorted((ROOT / folder).rglob("*"))]
    return [ROOT / "README.md", *(one for one in below if one.suffix in SUFFIXES and not VENDORED.match(one.name))]


@pytest.mark.parametrize("path", list_files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_has_none_of_the_phrases(path: Path) -> None:
    """Docs, README, source and assets are written without the phrases of the list."""
    assert list(find_phrases(path.read_text("utf-8"))) == []


def read_help(*words: str) -> str:
    """Return what `oci-audit … --help` prints."""
    command = [sys.executable, "-m", "ociaudit", *words, "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


COMMANDS = re.findall(r"^ {2}([a-z]+) {2,}", read_help().partition("Commands:")[2], re.MULTILINE)


@pytest.mark.parametrize("words", [(), *((name,) for name in COMMANDS)], ids=" ".join)
def test_a_help_text_has_none_of_the_phrases(words: tuple[str, ...]) -> None:
    """What `--help` prints is written without the phrases of the list."""
    assert list(find_phrases(read_help(*words))) == []


@pytest.mark.parametrize(
    "text",
    [
        "Begin the window anew.",
        "    # the run is under\n    # way",
        "It is no page.",
        "A bundle that\nis told by its name",
        "The key stands in a file.",
        "Tell whether it is so.",
        "It goes on with the run.",
        "the made\ntenancy",
    ],
)
def test_a_phrase_is_found(text: str) -> None:
    """A phrase is found in any case, over a line break, and behind a comment mark."""
    assert list(find_phrases(text))


@pytest.mark.parametrize(
    "text",
    [
        "There is no manifest.",
        "It is no longer listed.",
        "The pattern stands for any text.",
        "The user is asked to confirm.",
        "identical byte for byte",
        "If there are no gaps, the exit code is 0.",
    ],
)
def test_idiomatic_text_passes(text: str) -> None:
    """Sentences that a technical editor would keep are not reported."""
    assert list(find_phrases(text)) == []
