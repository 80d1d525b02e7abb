import io
import re

import pytest

from ociaudit.cli.console import Bar

ESCAPED = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal(io.StringIO):
    """Takes what a terminal would get."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        """Say that it is one."""
        return True


def draw(
    monkeypatch: pytest.MonkeyPatch, fraction: float, text: str, lines: tuple[str, ...], *, start: bool = True
) -> str:
    """Show a bar on a terminal of sixty columns, and return what that got."""
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", terminal)
        bar = Bar()
        if start:
            bar.start()
        bar.show(fraction, text, lines)
        bar.stop()
        bar.stop()
    return terminal.getvalue()


def test_the_block_has_a_bar_and_the_lines_below(monkeypatch: pytest.MonkeyPatch) -> None:
    """Percentage, text and a line per region, cut at the terminal's width; the cursor is there again afterwards."""
    drawn = draw(monkeypatch, 0.42, "12 events", ("  eu-frankfurt-1  " + "x" * 100, "  us-ashburn-1  done"))
    lines = ESCAPED.sub("", drawn).splitlines()
    assert lines[0].startswith("━")
    assert " 42% " in lines[0]
    assert lines[1] == "12 events"
    assert lines[2].startswith("  eu-frankfurt-1  x")
    assert len(lines[2]) == 60
    assert lines[3] == "  us-ashburn-1  done"
    assert "\x1b[?25h" in drawn


def test_hostile_text_in_the_block_is_stripped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the text nor a line can move the cursor or set a title."""
    drawn = draw(monkeypatch, 0.1, "a\x1b]0;owned\x07", ("b\x1b[2J\u202ec",))
    assert "owned" in drawn
    assert "\x1b]0" not in drawn
    assert "\x1b[2J" not in drawn
    assert not set(drawn) & set("\x07\u202e")


def test_a_block_that_was_never_started_stays_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Showing and stopping without a start draw nothing."""
    assert draw(monkeypatch, 0.5, "text", ("line",), start=False) == ""
