"""What holds for every page: accessible, light, quick, in both themes, on a phone and on a wide screen."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import Window, WindowOf
from tests.browser.site import Site

pytestmark = pytest.mark.browser
PAGES = (
    "/",
    "/arrivals",
    "/fleet",
    "/models",
    "/feature-stores",
    "/runs",
    "/latency",
    "/sign-in",
    "/docs",
    "/nowhere",
)
WEIGHT_MAX_BYTES = 300_000
PAINT_MAX_MS = 1_000
"""The aim is 100 ms on a quiet machine; here others may be busy."""


def serious(page: Page) -> list[str]:
    """Return what axe-core finds of serious or critical impact."""
    found = Axe().run(page).response["violations"]
    return [
        f"{violation['id']}: {node['html'][:200]}"
        for violation in found
        if violation["impact"] in {"serious", "critical"}
        for node in violation["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing_serious(window: Window, path: str, scheme: str) -> None:
    page = window.open(path, color_scheme=scheme)
    assert serious(page) == []


def test_axe_finds_nothing_serious_for_the_operator(window: Window) -> None:
    page = window.open("/models", signed_in=True)
    assert serious(page) == []


def test_axe_finds_nothing_serious_without_a_model(window_of: WindowOf, empty_site: Site) -> None:
    window = window_of(empty_site)
    for path in ("/", "/arrivals", "/fleet", "/models", "/latency"):
        assert serious(window.open(path)) == []


@pytest.mark.parametrize("path", PAGES)
def test_a_page_fits_a_phone_and_weighs_little(window: Window, path: str) -> None:
    page = window.open(path, width=390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    sizes = page.evaluate("performance.getEntries().map(entry => entry.decodedBodySize ?? 0)")
    assert 5_000 < sum(sizes) < WEIGHT_MAX_BYTES


def test_the_first_paint_comes_soon(window: Window) -> None:
    page = window.open("/")
    page.wait_for_function("performance.getEntriesByName('first-paint').length")
    assert page.evaluate("performance.getEntriesByName('first-paint')[0].startTime") < PAINT_MAX_MS


def test_the_theme_switch_lasts(window: Window) -> None:
    page = window.open("/", color_scheme="light")
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.get_by_role("button", name="Switch between light and dark").click()
    page.goto("/fleet")
    assert page.evaluate(background) != light


def test_no_page_needs_inline_code_or_foreign_hosts(window: Window, site: Site) -> None:
    page = window.open("about:blank")
    hosts: set[str] = set()
    page.on("request", lambda request: hosts.add(request.url.split("/")[2].split(":")[0]))
    for path in PAGES:
        answer = page.goto(site.url + path)
        assert answer is not None
        policy = answer.header_value("content-security-policy") or ""
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
    assert hosts == {"127.0.0.1"}


def test_a_missing_page_says_so_in_words(window: Window) -> None:
    page = window.open("/nowhere")
    expect(page.get_by_role("heading", name="Not Found")).to_be_visible()
