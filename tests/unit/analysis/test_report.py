"""The chart library that the report brings along: which one, unchanged, and under its licence."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.analysis.report import encode_for_page, hash_source, show_hidden

JSON = st.recursive(
    st.text() | st.integers(-(2**53), 2**53) | st.none(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_data_cannot_leave_its_element(value) -> None:
    """Nothing in the block can end it, begin a comment or break a line of script, and it reads back as it was."""
    text = encode_for_page(value)
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text) == value


@given(st.text())
def test_nothing_hidden_stays_hidden(text) -> None:
    """Every character that cannot be seen is named, and every other one stays."""
    shown = show_hidden(text)
    hidden = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert not [one for one in shown if unicodedata.category(one) in hidden]
    assert [one for one in text if unicodedata.category(one) not in hidden] == [
        one for one in text if one in shown and unicodedata.category(one) not in hidden
    ]


def test_hidden_characters_are_named_by_number() -> None:
    """A reader sees which one it was."""
    assert show_hidden("a\u202eb\x1bc\U000e0041") == "a⟨U+202E⟩b⟨U+001B⟩c⟨U+E0041⟩"
    assert show_hidden("jörg 東京") == "jörg 東京"


def test_a_source_is_known_by_its_hash() -> None:
    """The form is that of a content security policy."""
    assert hash_source("alert('Hello, world.');") == "sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng="


ASSETS = files("ociaudit.analysis") / "assets"
# uPlot 1.6.32, as npm has it: `npm pack uplot@1.6.32`, the files of `package/dist` and `package/LICENSE`.
UPLOT = {
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}


@pytest.mark.parametrize("name", UPLOT)
def test_the_library_is_the_released_one(name: str) -> None:
    """Its files are those of the release, to the byte."""
    assert hashlib.sha256((ASSETS / name).read_bytes()).hexdigest() == UPLOT[name]


def test_the_library_says_its_version_and_licence() -> None:
    """The version stands in its own head, and its licence beside it."""
    assert "v1.6.32" in (ASSETS / "uPlot.iife.min.js").read_text("utf-8")[:300]
    licence = (ASSETS / "uPlot.LICENSE").read_text("utf-8")
    assert licence.startswith("The MIT License (MIT)")
    assert "Leon Sorokin" in licence


def test_nothing_in_the_package_makes_markup_of_text() -> None:
    """No script of the page uses what turns text into elements or code, and none knows an address."""
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
    assert [pair for pair in found if pair != ("uPlot.iife.min.js", "https:")] == []  # its head names its home
