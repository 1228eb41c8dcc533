"""A promotion reaches pages that are open."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Window, WindowOf
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


def test_a_page_without_a_model_says_so_and_starts_with_the_first_one(
    window_of: WindowOf, empty_site: Site
) -> None:
    page = window_of(empty_site).open("/")
    expect(page.locator("#answer")).to_contain_text("No model serves yet")
    expect(page.locator("#model-chip")).to_have_text("No model yet")
    version = empty_site.promote_another()
    expect(page.locator("#answer .figure")).to_have_text(re.compile(r"^\d+\.\d$"))
    expect(page.locator("#model-chip")).to_have_text(f"Model {version}")
