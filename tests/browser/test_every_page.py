"""What holds for every page: accessible and light, in both themes, on a phone and on a wide screen."""

from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.conftest import BLANK, Window
from tests.browser.site import Site
from tests.factories import make_vehicle
from webapp.services import now

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
LOOKS: tuple[tuple[Literal["light", "dark"], int], ...] = (("light", 1280), ("dark", 390))


def serious(page: Page) -> list[str]:
    """Return what axe-core finds of serious or critical impact."""
    found = Axe().run(page).response["violations"]
    return [
        f"{violation['id']}: {node['html'][:200]}"
        for violation in found
        if violation["impact"] in {"serious", "critical"}
        for node in violation["nodes"]
    ]


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_accessible_and_light_and_asks_no_other_host(window: Window, site: Site, path: str) -> None:
    site.source.save_vehicle(make_vehicle(), saved_at=now())  # no list is empty
    page = window.open(BLANK, signed_in=path != "/sign-in")  # the operator sees the most
    hosts = set()
    page.on("request", lambda asked: hosts.add(asked.url.split("/")[2].split(":")[0]))
    answer = page.goto(site.url + path)
    assert answer is not None
    policy = answer.header_value("content-security-policy") or ""
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    page.wait_for_load_state("load")
    size = "performance.getEntries().reduce((sum, entry) => sum + (entry.decodedBodySize ?? 0), 0)"
    assert 5_000 < page.evaluate(size) < WEIGHT_MAX_BYTES
    for scheme, width in LOOKS:
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.set_viewport_size({"width": width, "height": 844})
        assert serious(page) == [], (scheme, width)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert hosts == {"127.0.0.1"}


def test_one_script_comes_before_the_first_paint_and_none_comes_twice(window: Window) -> None:
    page = window.open("/fleet")
    page.locator("[data-chart=scatter] canvas").wait_for()
    asked = page.evaluate(
        "performance.getEntriesByType('resource').map((entry) => entry.name.split('/').at(-1))"
    )
    assert asked[0] == "start.js"
    assert asked.index("uPlot.iife.min.js") > asked.index("fleet.js") > 1
    page.get_by_role("link", name="Models").first.click()
    page.locator("[data-chart=calibration] canvas").wait_for()
    fetched = page.evaluate(
        """performance.getEntriesByType("resource")
        .filter((entry) => entry.name.includes("/static/") && entry.transferSize > 0)
        .map((entry) => entry.name.split("/").at(-1))"""
    )
    assert fetched == ["models.js"]


def test_what_has_the_focus_shows_it(window: Window) -> None:
    page = window.open("/fleet")
    outlined = "getComputedStyle(document.activeElement).outlineWidth"
    seen = set()
    for _ in range(18):  # past the navigation, through the form
        page.keyboard.press("Tab")
        name = page.evaluate("document.activeElement.textContent.trim() || document.activeElement.id")
        assert page.evaluate(outlined) == "3px", name
        seen.add(name)
    assert {"Skip to the content", "Fleet", "Download CSV", "q", "Search"} <= seen


@pytest.mark.parametrize("path", ["/", "/latency"])
def test_a_phone_shows_the_current_page_and_the_first_tab_leads_to_the_skip_link(
    window: Window, path: str
) -> None:
    page = window.open(path, width=390)
    expect(page.get_by_role("navigation", name="Pages").locator("[aria-current]")).to_be_in_viewport(ratio=1)
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()


def test_the_theme_switch_lasts_and_nothing_moves_for_a_reader_who_wants_that(window: Window) -> None:
    page = window.open("/", color_scheme="light")
    moving = """[...document.querySelectorAll("*")]
        .filter((el) => getComputedStyle(el).transitionDuration !== "0s"
            || getComputedStyle(el).animationName !== "none").length"""
    page.emulate_media(reduced_motion="no-preference")
    assert page.evaluate(moving) > 0
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate(moving) == 0
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.get_by_role("button", name="Switch between light and dark").click()
    page.goto("/fleet")
    assert page.evaluate(background) != light
