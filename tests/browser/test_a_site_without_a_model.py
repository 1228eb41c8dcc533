"""Every page before the first model serves, and the moment when one does."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import WindowOf
from tests.browser.site import Site
from tests.browser.test_every_page import serious

pytestmark = pytest.mark.browser


def test_a_page_without_a_model_says_so_and_starts_with_the_first_one(
    window_of: WindowOf, site_without_a_model: Site
) -> None:
    page = window_of(site_without_a_model).open("/models")
    for path in ("/models", "/arrivals", "/fleet", "/latency", "/"):
        page.goto(path)
        assert serious(page) == [], path
    expect(page.locator("#answer")).to_contain_text("There are no forecasts yet")
    expect(page.locator("#model-chip")).to_have_text("No model yet")
    version = site_without_a_model.promote_another()
    expect(page.locator("#answer .figure")).to_have_text(re.compile(r"^\d+\.\d$"))
    expect(page.locator("#model-chip")).to_have_text(f"Model {version}")
