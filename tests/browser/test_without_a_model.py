"""Every page before the first model serves, and the moment when one does."""

import re
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import WindowOf
from tests.browser.site import Services, Site
from tests.browser.test_every_page import serious

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def empty_site(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return a site with the sample fleet and no model."""
    with ExitStack() as stack:
        made = Site.start(stack, services, tmp_path_factory.mktemp("empty"), model_name="without-champion")
        made.seed()
        yield made


def test_axe_finds_nothing_serious_without_a_model(window_of: WindowOf, empty_site: Site) -> None:
    page = window_of(empty_site).open("/")
    for path in ("/", "/arrivals", "/fleet", "/models", "/latency"):
        page.goto(path)
        assert serious(page) == []


def test_a_page_without_a_model_says_so_and_starts_with_the_first_one(
    window_of: WindowOf, empty_site: Site
) -> None:
    page = window_of(empty_site).open("/")
    expect(page.locator("#answer")).to_contain_text("No model serves yet")
    expect(page.locator("#model-chip")).to_have_text("No model yet")
    version = empty_site.promote_another()
    expect(page.locator("#answer .figure")).to_have_text(re.compile(r"^\d+\.\d$"))
    expect(page.locator("#model-chip")).to_have_text(f"Model {version}")
