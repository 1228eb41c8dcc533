"""A real browser in front of a real server: granian, Redis, MLflow and a trained model."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, StorageStateCookie, expect, sync_playwright

from tests.browser.chromium import NoChromiumError, find, launch
from tests.browser.site import Site, sign_in
from tests.whole_system import WholeSystem

BLANK = "about:blank"
TIMEOUT_MS = 15_000
OPERATOR_COOKIES: dict[str, list[StorageStateCookie]] = {}


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Start the installed Chromium; skip without one, unless CI says that there must be."""
    try:
        find()
    except NoChromiumError as exc:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(exc))
    expect.set_options(timeout=TIMEOUT_MS)
    with sync_playwright() as playwright:
        chromium = launch(playwright.chromium)
        yield chromium
        chromium.close()


@dataclass
class Window:
    """Opens pages of a site, and collects the errors and warnings of their consoles."""

    browser: Browser
    site: Site | WholeSystem
    messages: list[str] = field(default_factory=list)
    contexts: list[BrowserContext] = field(default_factory=list)

    def open(
        self,
        path: str = "/",
        *,
        scripts: bool = True,
        signed_in: bool = False,
        width: int = 1280,
        color_scheme: Literal["light", "dark"] = "light",
        timezone: str = "UTC",
    ) -> Page:
        """Open a page in a context of its own."""
        context = self.browser.new_context(
            base_url=self.site.url,
            java_script_enabled=scripts,
            viewport={"width": width, "height": 844},
            color_scheme=color_scheme,
            timezone_id=timezone,
        )
        context.set_default_timeout(TIMEOUT_MS)
        self.contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: self.messages.append(str(error)))
        page.on("console", lambda message: self._collect(message.type, message.text))
        if signed_in:
            self._sign_in(context)
        page.goto(path)
        if scripts and path != BLANK:
            page.locator("html[data-scripts=running]").wait_for()
        return page

    def _sign_in(self, context: BrowserContext) -> None:
        """Enter as the operator, by the form only once a site: tries at the password are limited."""
        if self.site.url not in OPERATOR_COOKIES:
            sign_in(context, self.site)
            OPERATOR_COOKIES[self.site.url] = context.storage_state()["cookies"]
        context.add_cookies(OPERATOR_COOKIES[self.site.url])

    def _collect(self, kind: str, text: str) -> None:
        # A refused form (422) or a missing model (503) is an answer, which Chromium reports as a failed load.
        if kind in {"error", "warning"} and "Failed to load resource" not in text:
            self.messages.append(text)


WindowOf = Callable[[Site | WholeSystem], Window]


@pytest.fixture
def window_of(browser: Browser) -> Iterator[WindowOf]:
    """Return a way to open pages of a site; the test fails on a message in their consoles."""
    windows: list[Window] = []

    def window_for(site: Site | WholeSystem) -> Window:
        windows.append(Window(browser, site))
        return windows[-1]

    yield window_for
    for window in windows:
        for context in window.contexts:
            context.close()
        assert window.messages == []


@pytest.fixture(scope="package")
def site_without_a_model(
    browser: Browser, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Return a site with the sample fleet; without a model only for the tests of the first file."""
    mlflow_url = request.getfixturevalue("mlflow_server")  # nothing starts where there is no browser
    with Site.running(tmp_path_factory.mktemp("site"), mlflow_url) as made:
        made.seed()
        yield made


@pytest.fixture(scope="package")
def site(site_without_a_model: Site) -> Site:
    """Return the site with a champion."""
    if not site_without_a_model.versions:
        site_without_a_model.promote_another()
    return site_without_a_model


@pytest.fixture
def window(window_of: WindowOf, site: Site) -> Window:
    """Return a way to open pages of the site that has a champion."""
    return window_of(site)
