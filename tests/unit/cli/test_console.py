import io
import sys
import unicodedata

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from ociaudit.cli import console
from ociaudit.cli.console import clean_text, fold_line, print_data, print_error, print_message, print_output
from ociaudit.errors import ConnectionFailed, OciAuditError

HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
hostile = st.text(st.characters() | st.characters(categories=["Cc", "Cf", "Cs"]))


@given(hostile)
def test_nothing_invisible_reaches_the_terminal(text: str) -> None:
    """No control, format, surrogate or line-separating character survives; every other one does, in its place."""
    clean = clean_text(text)
    assert not [char for char in clean if unicodedata.category(char) in HIDDEN]
    assert len(clean) == len(text)
    assert all(new == old or unicodedata.category(old) in HIDDEN for new, old in zip(clean, text, strict=True))


@pytest.mark.parametrize(
    "text", ["\x1b[2J", "a\rb", "\x9b31m", "\u202eevil", "\u2066x\u2069", "\u200bx", "\x7f", "\ud800", "\u2028", "\x00"]
)
def test_known_tricks_are_replaced(text: str) -> None:
    """Escape sequences, returns, eight-bit controls, bidirectional overrides and invisible spaces are replaced."""
    assert "\N{REPLACEMENT CHARACTER}" in clean_text(text)


@pytest.mark.parametrize("text", ["", "plain text, 100 %", "äöü ß 日本語 \N{GRINNING FACE}", "e\u0301"])
def test_ordinary_text_stays(text: str) -> None:
    """Text in any visible script is unchanged."""
    assert clean_text(text) == text


@given(hostile)
def test_whatever_is_printed_is_one_line(text: str) -> None:
    """A line break in text from the service cannot forge a line of the program."""
    with pytest.MonkeyPatch.context() as patch:
        screen = io.StringIO()
        patch.setattr(sys, "stderr", screen)
        print_message(text)
        print_error(OciAuditError(text, hint=text))
    lines = screen.getvalue().split("\n")
    assert len(lines) == 4
    assert lines[1].startswith("error: ")
    assert lines[2].startswith("hint: ")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_of_any_encoding_can_show_it(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    """Characters that the encoding of the terminal lacks are replaced."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, encoding))
    print_message("3 × 日本語 …")
    assert raw.getvalue().decode(encoding).startswith("3 ")


def test_output_goes_to_stdout_and_all_else_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """Stdout carries only the output of the command."""
    print_message("progress")
    print_output("answer")
    print_error(ConnectionFailed("failed", request_id="r-1"))
    printed = capsys.readouterr()
    assert printed.out == "answer\n"
    assert printed.err.startswith("progress\nerror: failed (opc-request-id r-1)\nhint: ")


def test_a_closed_screen_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """If stderr is closed when the program starts, nothing is printed and nothing fails."""
    monkeypatch.setattr(sys, "stderr", None)
    print_message("x")
    print_error(OciAuditError("x"))
    assert not console.is_terminal()


def test_a_bar_that_was_not_started_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Showing and stopping a bar that is not started do nothing."""
    bar = console.ProgressBar()
    bar.show(0.5, "x")
    bar.stop()
    bar.stop()
    assert capsys.readouterr().err == ""


words = st.lists(st.text("abc.…日", min_size=1, max_size=120), min_size=1, max_size=30)
gaps = st.sampled_from([" ", "  ", "    "])


@given(words, gaps, st.integers(0, 12), st.integers(console._NARROWEST, 100))
def test_a_folded_line_keeps_its_words_and_fits(parts: list[str], gap: str, indent: int, width: int) -> None:
    """No word is broken, lost or moved, and a line is wider than the terminal only if one word is."""
    lines = fold_line(" " * indent + gap.join(parts), width)
    assert [word for line in lines for word in line.split()] == parts
    for line in lines:
        assert cell_len(line) <= width or len(line.split()) == 1
    assert len(lines) == 1 or lines[0].startswith(" " * indent)


def test_a_folded_line_keeps_its_columns() -> None:
    """The second line of a text begins in the column of the text, so that labels stand alone on the left."""
    line = "failed   permission  " + "word " * 30
    folded = fold_line(line.rstrip(), 80)
    assert len(folded) > 1
    assert all(one.startswith(" " * 21 + "word") for one in folded[1:])


def test_an_ocid_is_never_broken() -> None:
    """An OCID that is longer than the screen is wide stands on a line of its own, whole."""
    ocid = "ocid1.compartment.oc1.." + "a" * 60
    assert ocid in [line.strip() for line in fold_line(f"  denied us-ashburn-1 {ocid} 404", 80)]


class Terminal(io.StringIO):
    """A terminal that keeps what it is sent."""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        raise OSError


def test_only_a_terminal_gets_folded_and_colored_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a long line is folded and its status colored; data, and lines elsewhere, are whole and plain."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    line = "failed   permission  " + "word " * 29 + "end"
    for make, is_terminal in ((Terminal, True), (io.StringIO, False)):
        screen = make()
        monkeypatch.setattr(sys, "stdout", screen)
        print_output(line)
        shown = screen.getvalue()
        assert (shown.count("\n") > 1) == is_terminal
        assert ("\x1b[31m" in shown) == is_terminal
        print_data(line)
        assert screen.getvalue()[len(shown) :] == line + "\n"
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    print_output(line)
    assert "\x1b" not in sys.stdout.getvalue()


@pytest.mark.parametrize(
    ("line", "word", "color"),
    [
        ("ok       key  readable", "ok", 32),
        ("failed   key  missing", "failed", 31),
        ("error: no", "error", 31),
        ("hint: yes", "hint", 36),
        ("verdict   complete and consistent", "complete", 32),
        ("verdict   consistent, but INCOMPLETE: see the gaps", "INCOMPLETE", 31),
        ("THEY DIFFER", "THEY DIFFER", 31),
        ("no difference", "no difference", 32),
    ],
)
def test_words_of_a_verdict_have_a_color(line: str, word: str, color: int) -> None:
    """What went well is green and what went wrong is red, and without the colors the line is unchanged."""
    painted = console.paint(line)
    assert f"\x1b[{color}m\x1b[1m{word}\x1b[0m" in painted
    assert click.unstyle(painted) == line


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])))
def test_colors_change_no_text(line: str) -> None:
    """Any line is the same when its colors are removed."""
    assert click.unstyle(console.paint(line)) == line


@given(st.lists(st.integers(1, 200), min_size=1, max_size=7))
def test_columns_fit_a_screen(widths: list[int]) -> None:
    """Columns that are too wide together shrink until a row fits, and none grows."""
    fitted = console.fit_widths(widths, 80)
    assert sum(fitted) + 2 * (len(fitted) - 1) <= 80
    assert all(new <= old for new, old in zip(fitted, widths, strict=True))


def test_six_hundred_names_are_not_listed() -> None:
    """A list of names shows the first ones and how many more there are."""
    assert console.list_names([f"{number}.json" for number in range(600)], shown=2) == "0.json, 1.json and 598 more"
    assert console.list_names(["a", "b"], shown=2) == "a, b"
