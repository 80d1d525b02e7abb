import io
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.cli import console
from ociaudit.cli.console import clean_text, print_error, print_message, print_output
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
