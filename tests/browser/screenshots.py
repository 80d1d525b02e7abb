"""The screenshots of the documentation: `make screenshots` takes them from the page as it is now.

The export is a week of the synthetic tenancy with a stolen API key and one compartment that is denied.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, FloatRect, sync_playwright

from support.browsers import find_chromium
from support.emulator import Emulator
from support.exports import run_export
from support.reports import write_report

FOLDER = Path(__file__).parents[2] / "docs" / "images"
WIDTH, MARGIN = 1280, 12  # pixels
ENDS = {"light": "Failures only, on a separate scale", "dark": "Events over time"}
"""The text above which a picture ends."""
RANGE = ("--start", "2025-12-01", "--end", "2025-12-07")


def take_screenshots(report: Path, browser: Browser) -> None:
    """Write one picture of the top of the page for each color scheme."""
    for scheme, end in ENDS.items():
        page = browser.new_page(
            viewport={"width": WIDTH, "height": 900},
            color_scheme="dark" if scheme == "dark" else "light",
            reduced_motion="reduce",
        )
        page.goto(report.as_uri())
        page.wait_for_selector("html[data-ready=true]")
        box = page.get_by_text(end, exact=True).first.bounding_box()
        if box is None:
            raise LookupError(f"the page does not show {end!r}")
        clip = FloatRect(x=0, y=0, width=WIDTH, height=box["y"] - MARGIN)
        page.screenshot(path=FOLDER / f"report-{scheme}.png", full_page=True, clip=clip)
        page.close()


def main() -> int:
    """Export, write the report and take the pictures."""
    path = find_chromium()
    if path is None:
        print("error: there is no Chromium\nhint: make setup-browser", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name, Emulator("--retention-days", "36500", "--events-per-day", "300") as one:
        folder = Path(name)
        run_export(one, folder, *RANGE, "-o", "audit.json")
        report = write_report(folder / "audit.json")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
            take_screenshots(report, browser)
            browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
