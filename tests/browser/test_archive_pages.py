"""The pages of `status --html` and `reconcile --html` in Chromium, on a phone and on a desktop."""

from __future__ import annotations

from pathlib import Path

import pytest

from ociaudit.analysis.report import render_asset
from support.report_pages import read_contrasts

OCID = "ocid1.tenancy.oc1..aaaaaaaa" + "b3d" * 17
KINDS = ("final", "provisional", "gap", "lost", "outside")
LINES = (
    "  waived: root/security/investigations denied in ap-tokyo-1, eu-frankfurt-1, us-ashburn-1",
    f"tenancy     {OCID}",
    "range       2026-11-27T14:52:00Z to 2026-11-30T14:37:00Z (3.0 days)",
    f"commit  2:{'64cf0e06' * 8}",
)


def write_status(path: Path) -> Path:
    """Write the status of an archive that has a day of each kind in each of two months."""
    months = {
        month: [
            {"date": f"{month}-{number + 1:02}", "kind": KINDS[number % 5], "rows": number * 1_111}
            for number in range(30)
        ]
        for month in ("2026-09", "2026-11")
    }
    page = render_asset(
        "status.html",
        "status.css",
        title="/srv/audit/archive",
        verdict="incomplete",
        headline="INCOMPLETE: 3 gaps; final until 2026-11-27T14:52:00Z, the rest from 2026-12-07T14:51:00Z",
        lines=LINES,
        months=months,
        marks={"provisional": "~", "gap": "!", "lost": "x"},
    )
    path.write_bytes(page)
    return path


def write_reconciliation(path: Path) -> Path:
    """Write a reconciliation with a table of targets, and one of examples with long ids."""
    targets = [
        ("2026-11-25", 1_234, 0, 12, 98_765, "us-ashburn-1 root/production/payments"),
        ("2026-11-25", 0, 1, 0, 7, f"eu-frankfurt-1 {OCID}"),
    ]
    examples = [
        ("doubled", f"2026-11-25T10:11:12.123456789Z {'3f9a' * 8} com.oraclecloud.computeApi.GetInstance", "A1B2" * 24)
    ]
    page = render_asset(
        "reconcile.html",
        "status.css",
        title="hub and archive",
        verdict="incomplete",
        headline="THEY DIFFER: A lacks 1,234 events that B holds",
        lines=("A hub: 3 events", "  covers       2026-11-25T00:00:00Z .. 2026-11-26T00:00:00Z"),
        tables=[
            ("Targets and days", ("day", "lost", "doubled", "surplus", "matched", "target"), targets, 0),
            ("Examples", ("", "event", "request id"), examples, 5),
        ],
    )
    path.write_bytes(page)
    return path


WRITERS = {"status": write_status, "reconcile": write_reconciliation}


@pytest.fixture
def show(browser, tmp_path):
    """Open a page that has no script."""
    contexts = []

    def show(name: str, *, width: int, scheme: str = "light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.goto(WRITERS[name](tmp_path / f"{name}.html").as_uri())
        return page

    yield show
    for context in contexts:
        context.close()


def count_lines(page, selector: str) -> dict[str, int]:
    """Return the number of lines of the text of each element."""
    found: dict[str, int] = page.evaluate(
        """(selector) => Object.fromEntries([...document.querySelectorAll(selector)].map((element) => {
          const range = document.createRange();
          range.selectNodeContents(element);
          return [element.textContent, new Set([...range.getClientRects()].map((one) => Math.round(one.bottom))).size];
        }))""",
        selector,
    )
    return found


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", WRITERS)
def test_no_date_head_or_label_breaks(show, name, width):
    """The page is as wide as the screen, wide tables scroll, and dates, regions, heads and labels are one line each."""
    page = show(name, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    lines = count_lines(page, ".whole, th, td.number, .facts b")
    assert len(lines) > 4
    assert {text for text, number in lines.items() if text and number != 1} == set()
    if width == 390:
        assert page.evaluate("[...document.querySelectorAll('.wide')].some((one) => one.scrollWidth > one.clientWidth)")


def test_an_ocid_begins_a_line_on_a_phone(show):
    """Below its label, an OCID begins at the left edge and fills whole lines."""
    page = show("status", width=390)
    box = page.locator(".facts p", has_text="tenancy").locator("bdi").bounding_box()
    assert box["x"] == page.locator(".facts").bounding_box()["x"]
    assert count_lines(page, ".facts bdi")[OCID] == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_gap_and_lost_differ_with_and_without_color(show, scheme):
    """In the calendar and in its legend, a gap and a lost day have different colors, borders and marks."""
    page = show("status", width=1280, scheme=scheme)
    for selector, side in ((".calendar td", "Top"), (".legend span", "Left")):
        styles = {
            kind: page.locator(f"{selector}.{kind}").first.evaluate(
                "(one, side) => ['Color', 'Style'].map((part) => getComputedStyle(one)[`border${side}${part}`])",
                side,
            )
            for kind in ("gap", "lost")
        }
        assert styles["gap"][0] != styles["lost"][0]
        assert (styles["gap"][1], styles["lost"][1]) == ("solid", "double")
        assert page.locator(f"{selector}.gap b").first.inner_text() == "!"
        assert page.locator(f"{selector}.lost b").first.inner_text() == "x"


def test_the_marks_have_contrast(show):
    """Marks, labels and days have enough contrast (WCAG AA)."""
    contrasts = read_contrasts(show("status", width=1280))
    assert len(contrasts) > 60
    assert [one for one in contrasts if one[0] < 4.5 and not one[1].startswith("SMALL")] == []
