"""The operator's pages as an operator uses them: versions, diagnostics, alerts, the audit log."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.chromium import BLANK, Window, wait_for_scripts
from tests.browser.site import Site
from tests.browser.test_every_page import violations
from tests.browser.test_other_pages import never_reloaded
from tests.promises.system import wait_until
from tests.vroom_features.stores import arrive

pytestmark = pytest.mark.browser
COLLECT_DRAWN_TEXTS = """
window.drawnTexts = new Set();
const { fillText } = CanvasRenderingContext2D.prototype;
CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
  drawnTexts.add(text);
  return fillText.call(this, text, ...place);
};"""
POLL_MS = 16_000
"""Longer than an open page takes to ask how the server is."""


def background(page: Page, kind: str) -> str:
    found: str = page.evaluate(f"getComputedStyle(document.querySelector('{kind}')).backgroundColor")
    return found


@pytest.fixture
def two_versions(site: Site) -> tuple[int, int]:
    """Return the champion and the other version."""
    while len(site.versions) < 2:
        site.promote_another()
    return site.versions[-1], site.versions[0]


def test_an_open_page_shows_a_check_for_drift_when_it_has_ended(window: Window, site: Site) -> None:
    site.forget_drift()
    page = window.open("/models", signed_in=True)
    drift = page.get_by_role("region", name="Drift")
    expect(page.get_by_text("Not checked yet.")).to_be_visible()
    with never_reloaded(page):
        site.check_drift()
        expect(page.get_by_text("200 saved cars, checked")).to_be_visible()
    expect(drift.get_by_role("row").filter(has_text="Photos")).to_contain_text("large drift")
    expect(page.get_by_text("Not checked yet.")).to_have_count(0)


@pytest.mark.parametrize(("path", "num_charts"), [("/models", 2), ("/models/diagnostics", 13)])
def test_each_chart_of_models_is_drawn_with_its_titles_and_says_its_points(
    window: Window, site: Site, path: str, num_charts: int
) -> None:
    site.check_drift()
    page = window.open(BLANK)
    page.add_init_script(COLLECT_DRAWN_TEXTS)
    page.goto(path)
    charts = page.locator("figure.chart")
    expect(charts).to_have_count(num_charts)
    for chart in charts.all():
        chart.scroll_into_view_if_needed()
        expect(chart.locator("canvas")).to_be_visible()
        titles = {chart.get_attribute("data-x"), chart.get_attribute("data-y")}
        assert titles <= set(page.evaluate("[...drawnTexts]"))
        assert re.search("reservations|%", f"{titles}")  # the unit
        chart.locator(".u-over").hover()
        chart.locator("summary").press("Enter")
        heads = chart.locator("thead th").all_inner_texts()
        rows = [row.split("\t") for row in chart.locator("tbody tr").all_inner_texts()]
        said = [", ".join(map(" ".join, zip(heads, cells, strict=True))) for cells in rows]
        assert chart.locator(".readout").inner_text() in said


def test_versions_are_compared_and_one_is_promoted_with_a_reason_but_not_in_haste(
    window: Window, site: Site, two_versions: tuple[int, int]
) -> None:
    champion, other = two_versions
    page = window.open("/models", signed_in=True)
    table = page.get_by_role("region", name="Versions").locator("tbody tr")
    expect(table).to_have_count(2)
    verdict = table.filter(has=page.get_by_text("champion", exact=True)).locator(".outcome")
    expect(verdict).to_contain_text("these tests need another champion")
    page.get_by_role("button", name="Compare").scroll_into_view_if_needed()
    expect(page.get_by_role("button", name=f"Promote model {other}")).to_be_in_viewport(ratio=1)
    page.get_by_label(f"Compare model {other}").check()
    page.get_by_label(f"with model {champion}").check()
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Model {other} and model {champion}")
    segments = page.get_by_role("region", name="Error by segment").locator("tbody tr").first
    expect(segments).to_contain_text(re.compile(r"([+-]\d\.\d{3}\s*){2}to [+-]\d\.\d{3}"))
    page.get_by_role("link", name="All models").click()
    page.wait_for_url("**/models")
    wait_for_scripts(page)
    page.get_by_role("button", name=f"Promote model {other}").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Reason")).to_be_focused()
    promote = dialog.get_by_role("button", name="Promote it")
    assert background(page, "dialog .risky") != background(page, ".button.main")
    promote.click()
    expect(dialog).to_be_visible()  # no reason yet
    dialog.get_by_label("Reason").fill("vans are off")
    with page.expect_request(re.compile(f"/operations/promote/{other}$")) as sent:
        promote.click()
    assert "reason=vans+are+off" in (sent.value.post_data or "")
    expect(page.locator("main .notice").filter(has_text="Not started.")).to_contain_text("cannot be reached")
    page.goto("/system/audit")
    expect(page.get_by_role("row").nth(1)).to_contain_text(f"Promote model {other}")


def test_the_versions_to_compare_stay_chosen_and_focused_when_the_list_is_replaced(
    window: Window, site: Site, two_versions: tuple[int, int]
) -> None:
    page = window.open("/models")
    first = page.get_by_label(f"Compare model {min(two_versions)}")
    second = page.get_by_label(f"with model {max(two_versions)}")
    for radio in (first, second):
        expect(radio).not_to_be_checked()
        radio.check()
    second.focus()
    page.evaluate("document.getElementById('models-details').dataset.isOld = ''")
    site.check_drift()
    expect(page.locator("#models-details[data-is-old]")).to_have_count(0)
    for radio in (first, second):
        expect(radio).to_be_checked()
    expect(second).to_be_focused()


def test_compare_asks_for_a_second_version_where_none_is_chosen(
    window: Window, two_versions: tuple[int, int]
) -> None:
    page = window.open("/models")
    page.locator("[name=b]:checked").evaluate("radio => { radio.checked = false; }")
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("[name=b]").first).to_be_focused()
    assert page.url.endswith("/models")


def test_the_audit_log_shows_reasons_and_is_filtered(window: Window, two_versions: tuple[int, int]) -> None:
    page = window.open("/models", signed_in=True)
    page.get_by_role("button", name="Reload").click()
    page.get_by_role("dialog").get_by_role("button", name="Reload").click()
    expect(page.locator("main .notice").first).to_contain_text("is live.")
    wait_for_scripts(page)
    page.get_by_role("button", name=f"Promote model {two_versions[1]}").click()
    page.get_by_role("dialog").get_by_label("Reason").fill("it errs on vans")
    page.get_by_role("dialog").get_by_label("Reason").press("Enter")
    expect(page.get_by_text("Not started.")).to_be_visible()
    page.goto("/system")
    page.get_by_role("link", name="Audit log").click()
    rows = page.get_by_role("group", name="Audit log").locator("tbody tr")
    expect(rows.nth(0)).to_contain_text("it errs on vans")
    expect(rows.nth(1)).to_contain_text("Read the registry")
    page.get_by_label("Action").select_option("Read the registry")
    page.get_by_role("button", name="Filter").click()
    expect(rows.first).to_contain_text("Read the registry")
    expect(rows.filter(has_text="it errs on vans")).to_have_count(0)
    page.get_by_label("Network address").fill("192.0.2.1")
    page.get_by_label("Network address").press("Enter")
    expect(page.get_by_text("Nothing was recorded that matches.")).to_be_visible()


def test_materialize_says_while_the_database_is_unchanged(window: Window, site: Site) -> None:
    site.materialize()
    page = window.open("/feature-stores")
    note = page.get_by_text("Nothing was saved, changed or booked since the last time.")
    expect(note).to_be_visible()
    arrive(site.source)
    expect(note).to_have_count(0)


@pytest.mark.packaging  # workers look every 15 s
def test_an_alert_is_shown_to_the_operator_alone_and_goes_with_its_cause(window: Window, site: Site) -> None:
    def num_alerts() -> set[int]:
        return {len(site.health()["alerts"]) for _ in range(8)}  # of every worker

    site.check_drift()
    wait_until(lambda: 0 not in num_alerts())
    visitor, page = window.open("/fleet"), window.open(BLANK, signed_in=True)
    page.clock.install()
    page.goto("/fleet")
    alert = page.locator("#alerts").get_by_role("link", name=re.compile("^Large drift: .*Photos"))
    expect(alert).to_be_visible()
    assert violations(page) == []
    expect(visitor.get_by_text("Large drift")).to_have_count(0)
    dot = "getComputedStyle(document.getElementById('model-chip'), '::before').backgroundColor"
    assert page.evaluate(dot) != visitor.evaluate(dot)
    with never_reloaded(page):
        site.forget_drift()
        wait_until(lambda: num_alerts() == {0})
        page.clock.fast_forward(POLL_MS)
        expect(alert).to_have_count(0)
