from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import escape

from ociaudit.analysis.report import encode_for_page, hash_source, keep_whole, show_hidden, split_facts

JSON = st.recursive(
    st.text() | st.integers(-(2**53), 2**53) | st.none(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_data_cannot_leave_its_element(value) -> None:
    """Nothing in the JSON block can end it, start a comment or break a line of script, and its value is unchanged."""
    text = encode_for_page(value)
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text) == value


@given(st.text())
def test_no_invisible_character_remains(text) -> None:
    """Every invisible character is replaced by its number, and every other character stays."""
    shown = show_hidden(text)
    hidden = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert not [one for one in shown if unicodedata.category(one) in hidden]
    assert [one for one in text if unicodedata.category(one) not in hidden] == [
        one for one in text if one in shown and unicodedata.category(one) not in hidden
    ]


def test_invisible_characters_are_shown_by_number() -> None:
    """The replacement shows the number of the character."""
    assert show_hidden("a\u202eb\x1bc\U000e0041") == "a⟨U+202E⟩b⟨U+001B⟩c⟨U+E0041⟩"
    assert show_hidden("jörg 東京") == "jörg 東京"


@given(st.text())
def test_text_that_is_kept_whole_is_escaped(text) -> None:
    """Apart from the marks around dates and regions, the HTML is the escaped text."""
    found = str(keep_whole(f"{text} 2026-11-30 {text}"))
    plain = re.sub(r'<span class="whole">([a-z0-9T:.Z -]+)</span>', r"\1", found)
    assert plain == str(escape(show_hidden(f"{text} 2026-11-30 {text}")))


@pytest.mark.parametrize(
    "text",
    ["2026-11-30", "2026-11-30T14:33:00Z", "2026-11-30 14:33", "2026-11-30T14:33:00.123456789Z", "us-gov-ashburn-1"],
)
def test_dates_and_regions_are_kept_whole(text) -> None:
    """A date with its time, and the name of a region, are in one element."""
    assert str(keep_whole(f"from {text}, <b>")) == f'from <span class="whole">{text}</span>, &lt;b&gt;'


def test_a_line_of_a_screen_has_a_label() -> None:
    """What two spaces separate from the rest is its label; a line without them is text."""
    lines = ["commit  2:ab", "not comparable  3 events", "  covers       all", "  waived: root", "A hub: 3 events"]
    assert split_facts(lines) == [
        ("commit", "2:ab"),
        ("not comparable", "3 events"),
        ("covers", "all"),
        ("", "waived: root"),
        ("", "A hub: 3 events"),
    ]


def test_the_hash_of_a_source() -> None:
    """The hash has the format of a content security policy."""
    assert hash_source("alert('Hello, world.');") == "sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng="


ASSETS = files("ociaudit.analysis") / "assets"
# uPlot 1.6.32 as published on npm: `npm pack uplot@1.6.32`, the files of `package/dist` and `package/LICENSE`.
UPLOT = {
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}


@pytest.mark.parametrize("name", UPLOT)
def test_the_library_is_the_released_one(name: str) -> None:
    """The files of the chart library are those of its release, byte for byte."""
    assert hashlib.sha256((ASSETS / name).read_bytes()).hexdigest() == UPLOT[name]


def test_the_library_has_its_version_and_license() -> None:
    """The header of the chart library names its version, and its license is in the package."""
    assert "v1.6.32" in (ASSETS / "uPlot.iife.min.js").read_text("utf-8")[:300]
    text = (ASSETS / "uPlot.LICENSE").read_text("utf-8")
    assert text.startswith("The MIT License (MIT)")
    assert "Leon Sorokin" in text


def test_no_script_turns_text_into_markup() -> None:
    """No script of the page uses a function that turns text into elements or code, and none contains a URL."""
    scripts = [one for one in ASSETS.iterdir() if one.name.endswith(".js")]
    assert len(scripts) == 5
    banned = (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "http:",
        "https:",
    )
    found = [(one.name, word) for one in scripts for word in banned if word in one.read_text("utf-8")]
    assert [pair for pair in found if pair != ("uPlot.iife.min.js", "https:")] == []  # its header names its home page
