"""The chart library that the report brings along: which one, unchanged, and under its licence."""

import hashlib
from importlib.resources import files

import pytest

ASSETS = files("ociaudit.insight") / "assets"
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
