"""A real Chromium that opens reports which the installed command wrote for a synthetic tenancy."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from support.browsers import find_chromium
from support.emulator import Emulator
from support.exports import run_export
from support.reports import ReportedExport, write_report

START, END = "2025-12-01", "2025-12-07"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start one headless Chromium for the tests of a file; without a Chromium they are skipped, but in CI they fail.

    The scope is not the session: while it runs, no other test can have an event loop.
    """
    path = find_chromium()
    if path is None:
        reason = "Chromium is missing: run `make setup-browser`, or set OCI_AUDIT_CHROMIUM to its path"
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


@dataclass
class OpenedPage:
    """A page with its requests and its messages on the console."""

    page: Page
    context: BrowserContext
    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)


@pytest.fixture
def open_page(browser: Browser):
    """Open a report from disk; at the end it must not have requested anything or logged a message."""
    opened: list[OpenedPage] = []

    def open_report(path: Path, *, width: int = 1280, height: int = 900, scheme: str = "light") -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
        )
        opened_page = OpenedPage(context.new_page(), context)
        opened.append(opened_page)
        page = opened_page.page
        page.on("request", lambda request: opened_page.requests.append(request.url))
        page.on("console", lambda message: opened_page.messages.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: opened_page.messages.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (opened_page.messages.append("dialog"), dialog.dismiss()))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready=true]")
        return page

    yield open_report
    for opened_page in opened:
        own = opened_page.page.url.partition("#")[0]
        opened_page.context.close()
        assert [url for url in opened_page.requests if url != own] == []
        assert opened_page.messages == []


@pytest.fixture(scope="session")
def week(tmp_path_factory: pytest.TempPathFactory) -> ReportedExport:
    """Export a week of the synthetic tenancy, with a stolen API key and one compartment that is denied."""
    folder = tmp_path_factory.mktemp("week")
    with Emulator("--retention-days", "36500", "--events-per-day", "300") as emulator:
        done = run_export(emulator, folder, "--start", START, "--end", END, "-o", "audit.json")
    assert done.code == 10, done.stderr
    export = folder / "audit.json"
    return ReportedExport(export, write_report(export), json.loads(export.read_bytes()))
