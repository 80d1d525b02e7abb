import json
import re

import pytest

from ociaudit.storage.manifest import ProvisionalEntry
from support.archives import build_archive
from support.report_pages import count_colors, is_on_first_screen, read_column, read_contrasts, read_variable
from support.reports import make_event, make_gap, write_export, write_manifest, write_report

TABLE = "#event-table"
SEARCH = "Search the events"


def find_attacker(events) -> str:
    """Return the address that only the attacker uses."""
    addresses = {(event["data"].get("identity") or {}).get("ipAddress") for event in events}
    (attacker,) = {address for address in addresses if address and address.startswith("192.0.2.")}
    return attacker


def open_first_row(page) -> str:
    """Open the first event with the mouse and return its JSON as shown."""
    page.locator(f"{TABLE} .open-row").first.click()
    return page.locator(f"{TABLE} pre").first.inner_text()


def test_the_page_shows_what_the_export_holds(week, open_page):
    """The figures, charts and lists match the file, and the page states what it omits."""
    page = open_page(week.report)
    figures = dict(
        zip(page.locator(".figures dt").all_inner_texts(), page.locator(".figures dd").all_inner_texts(), strict=True)
    )
    assert figures["events"] == f"{len(week.events):,}"
    for chart in ("#timeline", "#sign-ins", "#coverage"):
        assert len(count_colors(page, chart)) > 2, chart
    lead = page.locator("#events-lead").inner_text()
    assert f"out of {len(week.events):,}" in lead
    assert "sample" in lead
    assert "Events of the findings were chosen first" in lead
    types = page.locator("#types .rank li")
    name = types.first.locator("button").inner_text()
    shown = types.first.locator(".count > span:last-child").inner_text()
    assert shown == f"{sum(event['eventType'].endswith(name) for event in week.events):,}"


def test_the_stolen_key_is_on_the_first_screen(week, open_page):
    """Without scrolling, the page names the address, the guessed password, the new key and its use."""
    page = open_page(week.report)
    attacker = find_attacker(week.events)
    assert attacker in page.locator("#findings h3").first.inner_text()
    for text in (attacker, "9 failed sign-ins", "UploadApiKey", "Allow any-user to manage all-resources", "120 calls"):
        assert is_on_first_screen(page, text), text
    assert count_colors(page, "#timeline").get(read_variable(page, "bad"), 0) > 100


def test_a_gap_cannot_be_missed(week, open_page):
    """The first element of the page states in a warning color that the export is not complete; the map shows where."""
    page = open_page(week.report)
    assert page.locator("main > :first-child h2").inner_text().startswith("INCOMPLETE: ")
    assert is_on_first_screen(page, "INCOMPLETE")
    assert "3 gaps" in page.locator(".verdict").inner_text()
    assert page.locator("table.gaps tbody tr").count() == 3
    assert count_colors(page, "#coverage").get(read_variable(page, "bad"), 0) > 5_000


def test_search_filters_and_shows_the_count(week, open_page):
    """Every remaining row contains the words, a search without a match says so, and an empty one shows all rows."""
    page = open_page(week.report)
    attacker = find_attacker(week.events)
    everything = page.locator(f"{TABLE} .pager span").inner_text()
    page.get_by_label(SEARCH).fill(f"{attacker} uploadapikey")
    assert read_column(page, TABLE, "Event") == ["UploadApiKey"]
    assert read_column(page, TABLE, "Address") == [attacker]
    page.get_by_label(SEARCH).fill("no such thing")
    assert page.locator(f"{TABLE} tbody").inner_text() == "No matching rows."
    page.get_by_label(SEARCH).fill("")
    assert page.locator(f"{TABLE} .pager span").inner_text() == everything


def test_filters_by_outcome_and_kind(week, open_page):
    """The filters show only events of the selected outcome and of the selected kind."""
    page = open_page(week.report)
    page.get_by_label("Outcome", exact=True).select_option("failure")
    assert set(read_column(page, TABLE, "Outcome")) == {"failure"}
    page.get_by_label("Kind", exact=True).select_option("Sign-ins")
    assert set(read_column(page, TABLE, "Event")) <= {"InteractiveLogin", "VerifyMfaToken", "FederatedInteractiveLogin"}
    assert read_column(page, TABLE, "Event")


def wait_until(page, expression: str) -> None:
    """Wait until an expression is true; Playwright's own way needs `eval`, which the page's policy forbids."""
    for _ in range(600):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(expression)


@pytest.mark.parametrize("title", ["Principal", "Time", "Event", "Address"])
def test_a_column_sorts_both_ways(week, open_page, title):
    """A click on a column header sorts by it and is announced, a second click reverses the order."""
    page = open_page(week.report)
    head = page.locator(f"{TABLE} th", has_text=title)
    other = page.locator(f"{TABLE} th", has_text="Compartment")
    other.get_by_role("button").click()
    for direction in ("ascending", "descending"):
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == direction
        texts = [text.lower() for text in read_column(page, TABLE, title)]
        assert texts == sorted(texts, reverse=direction == "descending")
    assert other.get_attribute("aria-sort") is None


def test_an_event_is_shown_as_it_was_served(week, open_page):
    """An opened event is its JSON, with every value in the file."""
    page = open_page(week.report)
    page.get_by_label(SEARCH).fill("uploadapikey")
    shown = json.loads(open_first_row(page))
    assert shown in week.events


def test_the_table_is_used_by_keyboard_alone(week, open_page):
    """Tab reaches the rows, arrow keys move between them and to the next page, Enter opens one, Escape closes it."""
    page = open_page(week.report)
    page.get_by_label(SEARCH).focus()
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.className") == "open-row":
            break
    first = page.evaluate("document.activeElement.textContent")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.textContent") != first
    page.keyboard.press("Enter")
    assert page.locator(f"{TABLE} pre").count() == 1
    page.keyboard.press("Escape")
    assert page.locator(f"{TABLE} pre").count() == 0
    for _ in range(24):
        page.keyboard.press("ArrowDown")
    assert page.locator(f"{TABLE} .pager span").inner_text().startswith("26–50")
    assert page.evaluate("document.activeElement.className") == "open-row"


def test_the_charts_are_read_by_keyboard(week, open_page):
    """Arrow keys move between bars and between cells, and the value under the cursor is shown as text."""
    page = open_page(week.report)
    page.locator("#timeline .panel").first.focus()
    page.keyboard.press("Home")
    assert re.search(r"2025-12-01 00:00.*success", page.locator("#timeline .readout").inner_text())
    page.keyboard.press("ArrowRight")
    assert "2025-12-01 00:00" not in page.locator("#timeline .readout").inner_text().split("–")[0]
    page.locator("#coverage .panel").focus()
    page.keyboard.press("ArrowDown")
    assert "GAP: denied" in page.locator("#coverage .readout").inner_text()


def test_a_part_of_the_timeline_is_selected_and_reset(week, open_page):
    """Dragging across the chart filters the table by that time, and a button restores the whole range."""
    page = open_page(week.report)
    before = page.locator(f"{TABLE} .pager span").inner_text()
    page.locator("#timeline").scroll_into_view_if_needed()
    box = page.locator("#timeline .u-over").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 50, steps=5)
    page.mouse.up()
    days = {text[:10] for text in read_column(page, TABLE, "Time")}
    assert days <= {"2025-12-02", "2025-12-03", "2025-12-04"}
    page.get_by_role("button", name="Show the whole range").first.click()
    assert page.locator(f"{TABLE} .pager span").inner_text() == before


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_is_readable(week, open_page, width, scheme):
    """Nothing overflows the page horizontally, and every text has enough contrast (WCAG AA)."""
    page = open_page(week.report, width=width, scheme=scheme)
    open_first_row(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = page.evaluate(
        "[...document.querySelectorAll('main *')].filter((one) => one.checkVisibility() &&"
        " one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.outerHTML.slice(0, 80))"
    )
    assert wide == []
    contrasts = read_contrasts(page)
    assert len(contrasts) > 100
    assert [one for one in contrasts if one[0] < 4.5] == []


def test_a_button_switches_light_and_dark(week, open_page):
    """The button changes the colors of the page and of its charts, and changes them back."""
    page = open_page(week.report)
    light = page.evaluate("getComputedStyle(document.body).backgroundColor"), set(count_colors(page, "#timeline"))
    page.get_by_role("button", name="Dark").click()
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor"), set(count_colors(page, "#timeline"))
    assert light[0] != dark[0]
    assert read_variable(page, "good") in dark[1] - light[1]
    page.get_by_role("button", name="Light").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == light[0]


def test_it_prints(week, open_page):
    """A printed page is dark on white even from a dark screen, has no controls, and nothing is cut off."""
    page = open_page(week.report, scheme="dark")
    pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 3
    page.set_viewport_size({"width": 720, "height": 1000})
    page.emulate_media(media="print")
    wait_until(page, "document.querySelector('#timeline .uplot').getBoundingClientRect().right <= innerWidth")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.get_by_label(SEARCH).is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 720
    assert [one for one in read_contrasts(page) if one[0] < 4.5] == []


def test_without_a_manifest_coverage_is_unknown(tmp_path, open_page):
    """Without a manifest, the page states on top that coverage is unknown."""
    export = tmp_path / "alone.json"
    write_export(export, [make_event(number) for number in range(30)])
    page = open_page(write_report(export))
    assert page.locator(".verdict h2").inner_text() == "Unknown: there is no manifest beside the file"
    assert page.locator("#coverage canvas").count() == 0
    assert "All 30 events" in page.locator("#events-lead").inner_text()


@pytest.mark.parametrize("count", [0, 1])
def test_an_export_of_almost_nothing_is_a_page(tmp_path, open_page, count):
    """A page of no event or of one event is complete."""
    export = tmp_path / "few.json"
    write_export(export, [make_event(number) for number in range(count)])
    write_manifest(export, targets=[("r", "c")], written=count)
    page = open_page(write_report(export))
    assert page.locator(".verdict h2").inner_text().startswith("Complete: ")
    assert page.locator(f"{TABLE} .open-row").count() == count


def test_a_year_of_two_thousand_compartments_stays_usable(tmp_path, open_page):
    """With 6,000 targets and 365 days, a gap of one minute is in the first row, and a compartment can be found."""
    export = tmp_path / "year.json"
    count = write_export(export, [make_event(number) for number in range(10)])
    targets = [
        (region, f"ocid1.compartment.oc1..c{number:05}") for region in ("a-1", "b-1", "c-1") for number in range(2_000)
    ]
    gap = make_gap("b-1", targets[1_500][1], start="2025-06-01T10:00:00Z", end="2025-06-01T10:01:00Z")
    write_manifest(
        export, targets=targets, gaps=[gap], written=count, start="2025-01-01T00:00:00Z", end="2026-01-01T00:00:00Z"
    )
    report = write_report(export)
    assert report.stat().st_size < 2_000_000
    page = open_page(report)
    assert "5,999 of 6,000 targets" in page.locator("#coverage-lead").inner_text()
    page.locator("#coverage .panel").focus()
    page.keyboard.press("ArrowDown")
    assert "ocid1.compartment" not in page.locator("#coverage .readout").inner_text()
    assert "c01500 · b-1" in page.locator("#coverage .readout").inner_text()
    assert count_colors(page, "#coverage").get(read_variable(page, "bad"), 0) >= 4
    page.get_by_label("Find a compartment or region").fill("c00042")
    assert "of 3" in page.locator("#coverage .pager span").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_everything_whole(week, open_page, scheme):
    """At 390 pixels the theme button is one line, and no compartment's path or region in the coverage is cut."""
    page = open_page(week.report, width=390, scheme=scheme)
    button = page.locator("#theme").bounding_box()
    assert button["height"] < 40
    assert button["x"] + button["width"] <= 390
    page.evaluate(
        """() => {
          const write = CanvasRenderingContext2D.prototype.fillText;
          window.written = [];
          CanvasRenderingContext2D.prototype.fillText = function (text, x, ...rest) {
            const right = this.textAlign === "left" ? x + this.measureText(text).width : 0;
            if (this.canvas.closest("#coverage")) window.written.push([text, right <= this.canvas.width]);
            return write.call(this, text, x, ...rest);
          };
          window.dispatchEvent(new Event("resize"));
        }"""
    )
    wait_until(page, "window.written.length > 24")
    written = dict(page.evaluate("window.written"))
    for label in ("⚠ root/security/investigations · us-ashburn-1", "root/development/sandbox-anna · eu-frankfurt-1"):
        assert written[label] is True


def test_no_date_or_region_breaks_on_a_phone(week, open_page):
    """At 390 pixels, every date and every name of a region in texts, cards and readouts is one line."""
    page = open_page(week.report, width=390)
    page.locator("#coverage .panel").focus()
    page.keyboard.press("ArrowRight")
    page.locator("#timeline .panel").first.focus()
    page.keyboard.press("ArrowRight")
    wholes = page.locator(".whole")
    texts = wholes.all_inner_texts()
    for text in ("2025-12-01 00:00", "ap-tokyo-1"):
        assert text in texts
    for place in (".facts", ".verdict", ".why", "#coverage .readout", "#timeline .readout", "table.gaps"):
        assert page.locator(f"{place} .whole").count() > 0, place
    lines = wholes.evaluate_all("(all) => all.map((one) => [one.textContent, one.getClientRects().length])")
    assert [text for text, number in lines if number > 1] == []


def test_the_sentence_about_coverage_says_which_targets_are_provisional(tmp_path, open_page):
    """Provisional are some of the targets that answered, not those with gaps."""
    export = tmp_path / "young.json"
    count = write_export(export, [make_event(1)])
    targets = [("r", "a"), ("r", "b"), ("r", "c")]
    start, end = "2025-12-01T00:00:00Z", "2025-12-08T00:00:00Z"
    provisional = [ProvisionalEntry("r", name, "2025-12-07T23:50:00Z", end, end) for name in "ab"]
    gaps = [make_gap("r", "c", start=start, end=end)]
    write_manifest(export, targets=targets, written=count, gaps=gaps, provisional=provisional)
    lead = open_page(write_report(export)).locator("#coverage-lead").inner_text()
    assert lead == (
        "2 of 3 targets (region × compartment) answered for the whole range, all of them provisional in part; "
        "1 target has gaps and comes first."
    )


def test_a_report_of_an_archive_speaks_of_the_archive(tmp_path, open_page):
    """Where an archive has no event, the page says so of the archive, not of a file."""
    build_archive(tmp_path / "archive", [[]])
    page = open_page(write_report(tmp_path / "archive"))
    assert page.locator("#timeline-lead").inner_text() == "None in this archive."
    assert "this file" not in page.locator("body").inner_text()


@pytest.mark.parametrize("width", [720, 1010, 1280])
def test_no_text_lies_on_another(week, open_page, width):
    """The lists of the most frequent names stay in their columns, and a printed column of a table has room."""
    page = open_page(week.report, width=width)
    cut = page.evaluate(
        "[...document.querySelectorAll('.rank .row')].filter((row) => row.getBoundingClientRect().right >"
        " row.closest('.columns > div').getBoundingClientRect().right + 1).length"
    )
    assert cut == 0
    page.emulate_media(media="print")
    heads = page.locator("table.gaps th, #event-table th").all()
    assert len(heads) > 10
    assert [head.inner_text() for head in heads if head.bounding_box()["width"] < 35] == []


def read_covered_span(page) -> tuple[int, int]:
    """Return the first and the last covered pixel in the middle of the first row of the coverage map."""
    return page.locator("#coverage canvas").first.evaluate(
        """(canvas, color) => {
          const { data } = canvas.getContext("2d").getImageData(0, 9, canvas.width, 1);
          const found = [];
          for (let at = 0; at < canvas.width; at += 1) {
            const [red, green, blue, alpha] = data.subarray(4 * at);
            if (alpha === 255 && `${red},${green},${blue}` === color) found.push(at);
          }
          return [found[0], found.at(-1)];
        }""",
        read_variable(page, "covered"),
    )


@pytest.mark.parametrize(
    ("end", "share"), [("2025-12-06T00:00:00Z", 1.0), ("2025-12-05T00:37:00Z", (4 + 37 / 1_440) / 5)]
)
def test_a_part_of_a_day_is_drawn_as_a_part(tmp_path, open_page, end, share):
    """Five whole days fill the map; four days and 37 minutes of today end where the 37 minutes end."""
    export = tmp_path / "today.json"
    count = write_export(export, [make_event(1)])
    write_manifest(export, targets=[("r", "c")], written=count, end=end)
    page = open_page(write_report(export))
    plot = page.locator("#coverage .u-over").bounding_box()
    canvas = page.locator("#coverage canvas").bounding_box()
    first, last = read_covered_span(page)
    assert abs(first - (plot["x"] - canvas["x"])) <= 2
    assert abs((last - first) - plot["width"] * share) <= 3


def test_one_minute_is_not_drawn_as_a_day(tmp_path, open_page):
    """An export of one minute has an axis of that minute, and the cell says so."""
    export = tmp_path / "minute.json"
    count = write_export(export, [make_event(0)])
    write_manifest(export, targets=[("r", "c")], written=count, end="2025-12-01T00:01:00Z")
    page = open_page(write_report(export))
    assert page.locator("#coverage .readout").inner_text().startswith("Each column covers 1 minute")
    page.locator("#coverage .panel").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#coverage .readout").inner_text().startswith("2025-12-01 00:00–00:01")
    assert page.locator("#timeline .readout").inner_text().startswith("Each bar covers 1 minute")


@pytest.mark.parametrize("has_manifest", [True, False])
def test_an_empty_export_has_sensible_sentences(tmp_path, open_page, *, has_manifest):
    """Without events the axis is the requested range, or there is none; never 1970, and no empty table or pager."""
    export = tmp_path / "empty.json"
    write_export(export, [])
    if has_manifest:
        write_manifest(export, targets=[("r", "c")], written=0)
    page = open_page(write_report(export))
    assert page.locator("#timeline-lead").inner_text() == "None in this file."
    assert page.locator("#timeline canvas").count() == (2 if has_manifest else 0)
    if has_manifest:
        page.locator("#timeline .panel").first.focus()
        page.keyboard.press("Home")
        assert page.locator("#timeline .readout").inner_text().startswith("2025-12-01 00:00")
    assert not page.locator(TABLE).is_visible()
    assert not page.locator("#coverage .pager").is_visible()
    assert "1970" not in page.locator("body").inner_text()


def test_events_without_a_time_have_no_axis(tmp_path, open_page):
    """Where no event has a readable time and there is no manifest, the page says so; the events are in the table."""
    export = tmp_path / "timeless.json"
    write_export(export, [make_event(number, eventTime="yesterday") for number in range(3)])
    page = open_page(write_report(export))
    assert page.locator("#timeline-lead").inner_text() == "No event in this file has a readable time."
    assert page.locator("#timeline canvas").count() == 0
    assert page.locator(f"{TABLE} .open-row").count() == 3
    page.get_by_label(SEARCH).fill("id-000001")
    assert page.locator(f"{TABLE} .open-row").count() == 1


@pytest.mark.parametrize("width", [390, 1280])
def test_a_screen_reader_finds_names_and_tables(week, open_page, width):
    """Buttons, charts and tables have names, and rows and cells keep their roles where they are shown as cards."""
    page = open_page(week.report, width=width)
    assert page.get_by_role("button", name="Dark colors").is_visible()
    assert page.get_by_role("button", name="Show its events, 132 of 132").is_visible()
    assert page.get_by_role("application", name="Coverage by target and time").is_visible()
    for name, rows in (("Gaps", 3), ("Events", 25), ("Changes to IAM", 15), ("Source addresses", 15)):
        table = page.get_by_role("table", name=name, exact=True)
        assert table.get_by_role("row").count() == rows + 1, name
        assert table.get_by_role("cell").count() >= 6 * rows, name
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, input, select')].filter((one) => one.checkVisibility() &&"
        " !(one.ariaLabel || one.textContent.trim())).length"
    )
    assert unnamed == 0
