import json
import unicodedata

import pytest

from support.report_pages import read_column
from support.reports import HOSTILE, make_gap, make_hostile_event, write_export, write_manifest, write_report

HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
TABLE = "#event-table"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Write a report whose events, file name and gaps all hold hostile text."""
    export = tmp_path_factory.mktemp("hostile") / "<img src=x onerror=alert(1)>\u202enosj.json"
    events = [make_hostile_event(number, text) for number, text in enumerate(HOSTILE) for _ in range(2)]
    count = write_export(export, events)
    gaps = [
        make_gap(text, text, reason=text, start="2025-12-01T00:00:00Z", end="2025-12-02T00:00:00Z") for text in HOSTILE
    ]
    write_manifest(export, targets=[("a", "b"), *((text, text) for text in HOSTILE)], gaps=gaps, written=count)
    return write_report(export), events


def count_elements(page) -> dict[str, int]:
    """Return the number of elements of each kind that could do harm."""
    return {name: page.locator(name).count() for name in ("script", "img", "svg", "iframe", "object", "b", "style")}


def test_no_text_becomes_markup_or_code(hostile, open_page):
    """The page has only its own two scripts, its style and no element from an event, and no injected code ran."""
    report, _ = hostile
    page = open_page(report)
    while page.locator(f"{TABLE} .open-row[aria-expanded=false]").count():
        page.locator(f"{TABLE} .open-row[aria-expanded=false]").first.click()
    for label in ("Search the events", "Find a compartment or region in the coverage"):
        for text in HOSTILE[:6]:
            if page.get_by_label(label).count():
                page.get_by_label(label).fill(text.replace("\n", ""))
                page.get_by_label(label).fill("")
    bold = page.locator(".steps b").count()
    assert count_elements(page) == {"script": 2, "img": 0, "svg": 0, "iframe": 0, "object": 0, "b": bold, "style": 1}
    assert page.evaluate("[window.pwned, {}.polluted, document.title.includes('\\u202e')]") == [None, None, False]


def test_invisible_characters_are_shown_by_number(hostile, open_page):
    """No control character or direction mark is on the page; each is replaced by its number."""
    report, _ = hostile
    page = open_page(report)
    shown = page.evaluate("document.body.innerText") + page.evaluate(
        "[...document.querySelectorAll('[title],[aria-label]')].map((one) => one.title + one.ariaLabel).join('')"
    )
    assert [hex(ord(one)) for one in set(shown) - {"\n", "\t"} if unicodedata.category(one) in HIDDEN] == []
    for number in ("U+202E", "U+001B", "U+200F", "U+2028", "U+FEFF", "U+E0041"):
        assert f"⟨{number}⟩" in shown, number


def test_every_event_is_complete(hostile, open_page):
    """The JSON that a row opens is the event as served, however hostile."""
    report, events = hostile
    page = open_page(report)
    raws = page.evaluate("JSON.parse(document.getElementById('data').textContent).sample.map((row) => row[7])")
    assert sorted(map(json.dumps, map(json.loads, raws))) == sorted(map(json.dumps, events))
    assert len(read_column(page, TABLE, "Time")) == 25


def test_the_policy_forbids_everything_but_the_page_itself(hostile, open_page, browser):
    """The policy of the page blocks injected scripts, styles and requests."""
    report, _ = hostile
    injected = report.with_name("injected.html")
    text = report.read_text(encoding="utf-8")
    assert text.count("<main>") == 1
    attack = (
        "<main><script>window.pwned = 1</script><img src=https://example.com/x.png onerror='window.pwned = 2'>"
        "<style>main { display: none }</style><link rel=stylesheet href=https://example.com/x.css>"
        "<iframe src=https://example.com/></iframe>"
    )
    injected.write_text(text.replace("<main>", attack), encoding="utf-8")
    context = browser.new_context()
    requested, messages = [], []
    context.route("http*://**", lambda route: (requested.append(route.request.url), route.abort()))
    page = context.new_page()
    page.on("console", lambda message: messages.append(message.text))
    page.goto(injected.as_uri())
    page.wait_for_selector("html[data-ready=true]")
    assert page.evaluate("window.pwned") is None
    assert page.locator("main").is_visible()
    assert requested == []
    assert sum("Content Security Policy" in text for text in messages) >= 4
    context.close()
