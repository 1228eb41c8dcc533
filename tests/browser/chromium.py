"""The installed Chromium, started so that it calls nobody, and windows of it."""

import os
import shutil
from dataclasses import dataclass, field

from playwright.sync_api import Browser, BrowserContext, BrowserType, ConsoleMessage, Page, StorageStateCookie

from tests.browser.site import Site
from tests.promises.system import System

PROGRAMS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
PATH = next(filter(None, map(shutil.which, PROGRAMS)), None)
OPTIONS = [
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
BLANK = "about:blank"
TIMEOUT_MS = 15_000
OPERATOR_COOKIES: dict[str, list[StorageStateCookie]] = {}


def launch(kind: BrowserType) -> Browser:
    """Start it; as root, without its sandbox, which root cannot have."""
    options = [*OPTIONS, "--no-sandbox"] if os.geteuid() == 0 else OPTIONS
    return kind.launch(executable_path=PATH, args=options)


def sign_in(context: BrowserContext, site: Site | System) -> None:
    """Enter as the operator, by the form only once a site: tries at the password are limited."""
    if site.url not in OPERATOR_COOKIES:
        page = context.new_page()
        page.goto(f"{site.url}/sign-in")
        page.get_by_label("Password").fill(password_of(site))
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"{site.url}/")
        page.close()
        OPERATOR_COOKIES[site.url] = context.storage_state()["cookies"]
    context.add_cookies(OPERATOR_COOKIES[site.url])


def password_of(site: Site | System) -> str:
    return (site.home / "operator-password").read_text().strip()


def wait_for_scripts(page: Page) -> None:
    """Return when the page's scripts run; they start after its first paint."""
    page.locator("html[data-scripts=running]").wait_for()


@dataclass
class Window:
    """Opens pages of a site, and collects the errors and warnings of their consoles."""

    browser: Browser
    site: Site | System
    messages: list[str] = field(default_factory=list)

    def open(
        self,
        path: str = "/",
        *,
        scripts: bool = True,
        signed_in: bool = False,
        width: int = 1280,
        timezone: str = "UTC",
    ) -> Page:
        context = self.browser.new_context(
            base_url=self.site.url,
            java_script_enabled=scripts,
            viewport={"width": width, "height": 844},
            timezone_id=timezone,
        )
        context.set_default_timeout(TIMEOUT_MS)
        page = context.new_page()
        page.on("pageerror", lambda error: self.messages.append(str(error)))
        page.on("console", self._collect)
        if signed_in:
            sign_in(context, self.site)
        page.goto(path)
        if scripts and path != BLANK:
            wait_for_scripts(page)
        return page

    def _collect(self, message: ConsoleMessage) -> None:
        # A refused form (422) or a missing model (503) is an answer, which Chromium reports as a failed load.
        if message.type in {"error", "warning"} and "Failed to load resource" not in message.text:
            self.messages.append(message.text)
