"""A promotion reaches pages that are open."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Window
from tests.browser.site import Site

pytestmark = pytest.mark.browser


def test_two_open_pages_show_the_new_version_without_a_reload(window: Window, site: Site) -> None:
    first, second = window.open("/"), window.open("/models")
    for page in (first, second):
        page.evaluate("window.neverReloaded = true")
    version = site.promote_another()
    expect(first.locator("#model-chip")).to_have_text(f"Model {version}")
    expect(first.locator("#answer")).to_contain_text(f"model {version}")
    expect(second.get_by_role("heading", name=f"Model {version} serves")).to_be_visible()
    for page in (first, second):
        assert page.evaluate("window.neverReloaded")


def test_with_the_event_server_gone_an_open_page_still_shows_the_new_version(
    window: Window, site: Site
) -> None:
    page = window.open("/")
    page.evaluate("window.neverReloaded = true")
    with site.events_down():
        version = site.promote_another()
        expect(page.locator("#model-chip")).to_have_text(f"Model {version}", timeout=15_000)
        expect(page.locator("#answer")).to_contain_text(f"model {version}")
    assert page.evaluate("window.neverReloaded")


def test_what_a_reader_opened_and_focused_stays_when_the_page_renews_itself(
    window: Window, site: Site
) -> None:
    page = window.open("/models")
    details = page.locator("details", has_text="Folds, parameters and checksums")
    details.locator("summary").click()
    version = site.promote_another()
    expect(page.get_by_role("heading", name=f"Model {version} serves")).to_be_visible()
    expect(details.get_by_role("columnheader", name="Fold")).to_be_visible()
    expect(details.locator("summary")).to_be_focused()
