"""The page of a report: one HTML file that needs nothing else.

Owns: putting data, style and script together so that nothing in the data can become markup or code.
Must not: count, or read events.

Invariants
- The page loads nothing: its policy allows its own script and style, by their hashes, and nothing else.
- Data stands in a JSON block in which `<`, `>`, `&` and the line separators are escaped; what stands in the HTML
  itself is escaped by jinja2, and control characters and marks of direction in it are made visible.
"""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from functools import cache
from importlib.resources import files

import msgspec

from ociaudit.insight.report_data import ReportData
from ociaudit.insight.report_head import ReportHead, show_minute

_ASSETS = files("ociaudit.insight") / "assets"
_STYLES = ("uPlot.min.css", "report.css")
_SCRIPTS = ("uPlot.iife.min.js", "report_text.js", "report_charts.js", "report_tables.js", "report.js")
_ESCAPES: dict[str, str | int | None] = {
    "<": "\\u003c",
    ">": "\\u003e",
    "&": "\\u0026",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def write_page(head: ReportHead, data: ReportData) -> bytes:
    """Return the page."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["visible"] = show_hidden
    environment.filters["minute"] = show_minute
    style, script = (join_assets(names) for names in (_STYLES, _SCRIPTS))
    page = environment.from_string(_read_asset("report.html")).render(
        head=head,
        data_json=encode_for_page(data),
        style=style,
        script=script,
        style_hash=hash_source(style),
        script_hash=hash_source(script),
    )
    return page.encode("utf-8")


def encode_for_page(data: object) -> str:
    """Return JSON that can stand in a script element: nothing in it can end the element or begin a comment."""
    text = msgspec.json.encode(data).decode("utf-8")
    return text.translate(str.maketrans(_ESCAPES))


def show_hidden(text: str) -> str:
    """Return text in which every character that cannot be seen, or turns others around, is named."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        f"⟨U+{ord(char):04X}⟩" if unicodedata.category(char) in _HIDDEN_CATEGORIES else char for char in text
    )


def hash_source(text: str) -> str:
    """Return the hash by which a content security policy knows an inline script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


@cache
def join_assets(names: tuple[str, ...]) -> str:
    """Return files of the package, one after the other."""
    return "\n".join(_read_asset(name) for name in names)


def _read_asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")
