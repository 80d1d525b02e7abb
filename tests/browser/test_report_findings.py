"""The events of a finding on the page: exactly those, however large the file and whatever the events contain."""

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from ociaudit.analysis.report import show_hidden
from support.report_pages import read_column
from support.reports import HOSTILE, make_event, write_export, write_manifest, write_report
from support.sample_events import encode_change, encode_event, encode_sign_in

TABLE = "#event-table"
ATTACKER, SHARED, HEAVY = "192.0.2.66", "192.0.2.77", "198.51.100.7"
MALLORY = "\"'><img src=x onerror='window.pwned = 1'>"
EVERYTHING = {"status": "200", "payload": {"statements": ["Allow any-user to manage all-resources in tenancy"]}}
MARK = "made for"
"""A field of `data` that says for which finding an event was made; the program does not know it."""


def mark(raw: bytes, finding: str, event_id: str | None) -> dict[str, Any]:
    """Return an event with an id and the name of its finding."""
    event: dict[str, Any] = json.loads(raw)
    event["eventId"] = event_id
    event["data"][MARK] = finding
    return event


def attack(who: str, where: str, finding: str, ids: Iterable[str | None], *, day: int) -> list[dict[str, Any]]:
    """Return the events of a guessed password, a new key and the calls that follow, one for each id."""
    raws = [encode_sign_in("failure", who, where, hours=24 * day + number / 100) for number in range(6)]
    raws.append(encode_sign_in("success", who, where, hours=24 * day + 0.07))
    raws.append(encode_change("UploadApiKey", who, where, hours=24 * day + 0.1))
    ids = list(ids)
    raws += [
        encode_event("GetObject", who, where, hours=24 * day + 0.2 + number / 1_000) for number in range(len(ids) - 8)
    ]
    return [mark(raw, finding, one) for raw, one in zip(raws, ids, strict=True)]


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """Write a report of 9,000 events with four findings: hostile, with shared events, an ordinary one, a huge one."""
    ids = [*HOSTILE, *HOSTILE, *[""] * 10, *[None] * 10, *["same"] * 82]
    hostile = attack(MALLORY, ATTACKER, "hostile", ids, day=5)
    shared = attack("eve", f"{SHARED}, 192.0.2.78", "shared", [f"shared {number}" for number in range(40)], day=6)
    calls = [encode_event("ListInstances", "bob", HEAVY, hours=number / 30) for number in range(3_999)]
    policy = encode_change("CreatePolicy", "bob", HEAVY, hours=100, response=EVERYTHING)
    heavy = [mark(raw, "heavy", f"heavy {number}") for number, raw in enumerate([*calls, policy])]
    events = [*(make_event(number) for number in range(5_000)), *heavy, *hostile, *shared]
    events.sort(key=lambda event: event["eventTime"])
    export = tmp_path_factory.mktemp("crowded") / "audit.json"
    count = write_export(export, events)
    write_manifest(export, targets=[("r", "c")], written=count)
    return write_report(export), events


def read_rows(page) -> list[dict[str, Any]]:
    """Open every row of the table on all of its pages and return the events that the rows hold."""
    found = []
    while True:
        page.evaluate(f"document.querySelectorAll('{TABLE} .open-row').forEach((button) => button.click())")
        found += [json.loads(text) for text in page.locator(f"{TABLE} pre").all_inner_texts()]
        following = page.locator(f"{TABLE} .pager button", has_text="Next")
        if not following.is_visible() or following.is_disabled():
            return found
        following.click()


def find_finding(page, text: str):
    """Return the finding whose heading contains a text."""
    return page.locator(".findings > li").filter(has=page.locator("h3", has_text=text)).first


def read_total(page) -> int:
    """Return the number of rows that the table has on all of its pages."""
    return int(page.locator(f"{TABLE} .pager span").inner_text().rpartition(" of ")[2].replace(",", ""))


def count_marks(events) -> Counter[str]:
    """Return the number of events of each finding; those of none are counted as ordinary."""
    return Counter(event["data"].get(MARK, "ordinary") for event in events)


def test_every_finding_of_a_week_shows_exactly_its_events(week, open_page):
    """`132 of 132`: the rows are the events of that principal from that address, and no others."""
    page = open_page(week.report)
    finding = page.locator(".findings > li").first
    principal, address = finding.locator("h3 bdi").all_inner_texts()
    expected = [
        event["eventId"]
        for event in week.events
        if (identity := event["data"].get("identity") or {}).get("ipAddress") == address
        and identity.get("principalName") == principal
    ]
    assert len(expected) == 132
    assert finding.locator(".share").inner_text() == "132 of 132"
    finding.get_by_role("button", name="Show its events").click()
    assert read_total(page) == 132
    assert sorted(event["eventId"] for event in read_rows(page)) == sorted(expected)
    for other in page.locator(".findings > li").all()[1:]:
        part, _, whole = other.locator(".share").inner_text().partition(" of ")
        other.get_by_role("button", name="Show its events").click()
        assert part == whole == str(len(read_column(page, TABLE, "Time")))


def test_hostile_ids_and_names_do_not_change_what_is_shown(crowded, open_page):
    """Quotes, markup, one id for many records, an empty one or none: the finding shows each of its events once."""
    report, events = crowded
    page = open_page(report)
    finding = find_finding(page, ATTACKER)
    expected = [
        json.dumps(json.loads(show_hidden(json.dumps(event, ensure_ascii=False))))
        for event in events
        if event["data"].get(MARK) == "hostile"
    ]
    assert finding.locator(".share").inner_text() == f"{len(expected)} of {len(expected)}" == "132 of 132"
    finding.get_by_role("button", name="Show its events").click()
    assert Counter(map(json.dumps, read_rows(page))) == Counter(expected)
    assert page.evaluate("window.pwned") is None


def test_findings_that_share_events_show_all_of_them(crowded, open_page):
    """An event with two addresses belongs to both findings, and each shows all of its 40 events."""
    report, _ = crowded
    page = open_page(report)
    for address in (SHARED, "192.0.2.78"):
        finding = find_finding(page, address)
        assert finding.locator(".share").inner_text() == "40 of 40"
        finding.get_by_role("button", name="Show its events").click()
        assert count_marks(read_rows(page)) == {"shared": 40}


def test_a_finding_that_is_too_large_says_how_much_is_here(crowded, open_page):
    """Of 4,000 events the page holds some hundred, says how many, shows these, and its decisive event is among them."""
    report, _ = crowded
    page = open_page(report)
    finding = find_finding(page, HEAVY)
    share = finding.locator(".share").inner_text()
    here = int(share.removesuffix(" of 4,000 are in this page").replace(",", ""))
    assert 100 <= here <= 2_000
    finding.get_by_role("button", name="Show its events").click()
    assert read_total(page) == here
    page.get_by_label("Search the events").fill("createpolicy")
    assert read_column(page, TABLE, "Event") == ["CreatePolicy"]


def test_no_other_filter_hides_an_event_of_a_finding(crowded, open_page):
    """Search, outcome, kind and time are reset; the filter has a name, can be removed, and a search by name ends it."""
    report, _ = crowded
    page = open_page(report)
    everything = read_total(page)
    page.get_by_label("Search the events").fill("nothing like this")
    page.get_by_label("Outcome", exact=True).select_option("failure")
    page.get_by_label("Kind", exact=True).select_option("Sign-ins")
    box = page.locator("#timeline .u-over").first.bounding_box()
    page.mouse.move(box["x"] + 10, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 60, box["y"] + 50, steps=3)
    page.mouse.up()
    find_finding(page, SHARED).get_by_role("button", name="Show its events").click()
    assert read_total(page) == 40
    chip = page.locator(f"{TABLE} .controls button").last
    assert chip.inner_text().endswith("40 of 40 ×")
    assert page.evaluate("document.activeElement.textContent").endswith("40 of 40 ×")
    chip.press("Enter")
    assert read_total(page) == everything
    find_finding(page, SHARED).get_by_role("button", name="Show its events").click()
    page.locator("#principals .rank button").first.click()
    assert not chip.is_visible()
    assert read_total(page) > 40


def test_a_change_opens_its_own_event(crowded, open_page):
    """A change to IAM shows its own event, also where many events have the same id or none."""
    report, _ = crowded
    page = open_page(report)
    for row in page.locator("#changes tbody tr").all():
        when = row.locator("td").first.inner_text()
        who = row.locator('td[data-label="Principal"]').inner_text()
        row.get_by_role("button").click()
        assert read_column(page, TABLE, "Time") == [when]
        assert read_column(page, TABLE, "Principal") == [who]
