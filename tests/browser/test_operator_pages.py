"""A promotion on open pages, and an operator who signs in."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Window
from tests.browser.site import PASSWORD, Site

pytestmark = pytest.mark.browser


def test_open_pages_show_a_new_version_without_a_reload_and_keep_what_was_opened(
    window: Window, site: Site
) -> None:
    host, operator = window.open("/"), window.open("/models")
    for page in (host, operator):
        page.evaluate("window.neverReloaded = true")
    details = operator.locator("details", has_text="Folds, parameters and checksums")
    details.locator("summary").click()
    version = site.promote_another()
    expect(host.locator("#model-chip")).to_have_text(f"Model {version}")
    expect(host.locator("#answer")).to_contain_text(f"model {version}")
    expect(operator.get_by_role("heading", name=f"Model {version} serves")).to_be_visible()
    expect(details.get_by_role("columnheader", name="Fold")).to_be_visible()
    expect(details.locator("summary")).to_be_focused()
    latest = operator.get_by_role("region", name="Promotions").locator("tbody tr").first
    expect(latest.locator("th")).to_have_text(str(version))
    expect(latest).to_contain_text("these tests need another champion")
    workers = operator.get_by_role("region", name="Web workers").locator("tbody tr")
    expect(workers).to_have_count(2)
    for row in workers.all():
        expect(row.locator("td").first).to_have_text(str(version))
    for page in (host, operator):
        assert page.evaluate("window.neverReloaded")


def test_without_the_event_server_an_open_page_still_shows_the_new_version(
    window: Window, site: Site
) -> None:
    page = window.open("/")
    page.evaluate("window.neverReloaded = true")
    with site.events_down():
        version = site.promote_another()
        expect(page.locator("#model-chip")).to_have_text(f"Model {version}")
        expect(page.locator("#answer")).to_contain_text(f"model {version}")
    assert page.evaluate("window.neverReloaded")


def test_the_operator_signs_in_reloads_the_model_and_signs_out(window: Window) -> None:
    page = window.open("/models")
    page.get_by_role("link", name="Sign in").first.click()
    page.get_by_label("Password").fill("a wrong one")
    page.get_by_role("main").get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("That is not the operator's password.")).to_be_visible()
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("main").get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(f"{window.site.url}/models")
    version = page.locator("#model-chip").inner_text()
    page.get_by_role("button", name="Reload").click()
    page.get_by_role("dialog").get_by_role("button", name="Reload").click()
    expect(page.locator("main .notice").first).to_have_text(f"{version} serves.")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("link", name="Sign in").first).to_be_visible()
