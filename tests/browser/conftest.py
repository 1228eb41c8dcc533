"""A real browser in front of a real server: granian, Redis, MLflow and a trained model."""

import os
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser.chromium import PATH, TIMEOUT_MS, Window, launch
from tests.browser.site import Site, running_site
from tests.promises.system import System

WindowOf = Callable[[Site | System], Window]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Start the installed Chromium; skip without one, unless CI says that there must be."""
    expect.set_options(timeout=TIMEOUT_MS)
    if PATH is None and os.environ.get("CI") != "true":
        pytest.skip("no Chromium is installed")
    with sync_playwright() as playwright, launch(playwright.chromium) as chromium:
        yield chromium


@pytest.fixture
def window_of(browser: Browser) -> Iterator[WindowOf]:
    """Return a way to open pages of a site; the test fails on a message in their consoles."""
    windows: list[Window] = []

    def window_for(site: Site | System) -> Window:
        windows.append(Window(browser, site))
        return windows[-1]

    yield window_for
    for context in browser.contexts:
        context.close()
    assert [window.messages for window in windows] == [[]] * len(windows)


@pytest.fixture(scope="package")
def site_without_a_model(
    browser: Browser, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Return a site with the sample fleet; without a model only for the first test."""
    mlflow_url = request.getfixturevalue("mlflow_server")  # nothing starts where there is no browser
    with running_site(tmp_path_factory.mktemp("site"), mlflow_url) as made:
        yield made


@pytest.fixture(scope="package")
def site(site_without_a_model: Site) -> Site:
    if not site_without_a_model.versions:
        site_without_a_model.promote_another()
    return site_without_a_model


@pytest.fixture
def window(window_of: WindowOf, site: Site) -> Window:
    return window_of(site)
