"""A real Chromium over reports that the installed command wrote from a tenancy that an emulator made."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from support.emulator import Emulator
from support.exports import run_export
from support.reports import Made, write_report

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
START, END = "2025-12-01", "2025-12-07"


def find_chromium() -> str | None:
    """Return a Chromium of this machine; OCI_AUDIT_CHROMIUM names another one."""
    named = os.environ.get("OCI_AUDIT_CHROMIUM")
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One headless Chromium for the tests of a file; where there is none they are skipped, but never in CI.

    Not for all files: while it runs, no other test can have an event loop.
    """
    path = find_chromium()
    if path is None:
        reason = "there is no Chromium: run `make setup-browser`, or name one in OCI_AUDIT_CHROMIUM"
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


@dataclass
class Watched:
    """A page, with what it asked for and what it complained about."""

    page: Page
    context: BrowserContext
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture
def open_page(browser: Browser):
    """Open a report from disk; at the end nothing may have been asked for, and nothing complained about."""
    opened: list[Watched] = []

    def open_report(path: Path, *, width: int = 1280, height: int = 900, scheme: str = "light") -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
        )
        watched = Watched(context.new_page(), context)
        opened.append(watched)
        page = watched.page
        page.on("request", lambda request: watched.requests.append(request.url))
        page.on("console", lambda message: watched.complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: watched.complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (watched.complaints.append("dialog"), dialog.dismiss()))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready=true]")
        return page

    yield open_report
    for watched in opened:
        own = watched.page.url.partition("#")[0]
        watched.context.close()
        assert [url for url in watched.requests if url != own] == []
        assert watched.complaints == []


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A week of the made tenancy: it holds a stolen API key, and one compartment that is denied."""
    folder = tmp_path_factory.mktemp("made")
    with Emulator("--retention-days", "36500", "--events-per-day", "300") as emulator:
        done = run_export(emulator, folder, "--start", START, "--end", END, "-o", "audit.json")
    assert done.code == 10, done.stderr
    export = folder / "audit.json"
    return Made(export, write_report(export), json.loads(export.read_bytes()))
