"""What holds for every page: accessible and light, in both themes, on a phone and on a wide screen."""

import re
from itertools import product

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.chromium import BLANK, Window, password_of, wait_for_scripts
from tests.browser.conftest import WindowOf
from tests.browser.screenshots import SCHEMES
from tests.browser.site import Site
from tests.vroom_features.stores import arrive

pytestmark = pytest.mark.browser
LISTS = ("/my-cars", "/arrivals", "/fleet", "/fleet/12", "/models", "/feature-stores", "/runs")
PAGES = ("/", *LISTS, "/system", "/system/audit", "/models/diagnostics", "/sign-in", "/docs", "/nowhere")
WEIGHT_MAX_BYTES = 150_000
LOOKS = tuple(product(SCHEMES, (1440, 390)))
AXE = {"resultTypes": ["violations"], "rules": {"target-size": {"enabled": True}}}


def violations(page: Page) -> list[str]:
    """Return what axe-core finds, small targets and missing landmarks too."""
    found = Axe().run(page, options=AXE).response["violations"]
    return [f"{violation['id']}: {node['html'][:200]}" for violation in found for node in violation["nodes"]]


def test_a_page_without_a_model_says_so_and_starts_with_the_first_one(
    window_of: WindowOf, site_without_a_model: Site
) -> None:
    page = window_of(site_without_a_model).open("/models")
    for path in ("/models", "/arrivals", "/fleet", "/system", "/"):
        page.goto(path)
        assert violations(page) == [], path
    expect(page.locator("#answer")).to_contain_text("There are no forecasts yet")
    expect(page.locator("#model-chip")).to_have_text("No model yet")
    version = site_without_a_model.promote_another()
    expect(page.locator("#answer .figure")).to_have_text(re.compile(r"^\d+\.\d$"))
    expect(page.locator("#model-chip")).to_have_text(f"Model {version}")


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_accessible_and_light_and_asks_no_other_host(window: Window, site: Site, path: str) -> None:
    arrive(site.source)  # no list is empty
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
        assert violations(page) == [], (scheme, width)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert hosts == {"127.0.0.1"}


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


@pytest.mark.parametrize("path", ["/", "/fleet"])
def test_a_phone_shows_the_current_page_and_the_first_tab_leads_to_the_skip_link(
    window: Window, path: str
) -> None:
    page = window.open(path, width=390)
    expect(page.get_by_role("navigation", name="Pages").locator("[aria-current]")).to_be_in_viewport(ratio=1)
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()


def test_the_theme_switch_lasts_and_nothing_moves_for_a_reader_who_wants_that(window: Window) -> None:
    page = window.open()
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


def test_the_operator_signs_in_reloads_the_model_and_signs_out(window: Window, site: Site) -> None:
    page = window.open("/models")
    page.get_by_role("link", name="Sign in").first.click()
    page.get_by_label("Password").fill("a wrong one")
    page.get_by_role("main").get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("That is not the operator's password.")).to_be_visible()
    page.get_by_label("Password").fill(password_of(site))
    page.get_by_role("main").get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(f"{site.url}/models")
    wait_for_scripts(page)
    version = page.locator("#model-chip").inner_text()
    page.get_by_role("button", name="Reload").click()
    page.get_by_role("dialog").get_by_role("button", name="Reload").click()
    expect(page.locator("main .notice").first).to_have_text(f"{version} is live.")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("link", name="Sign in").first).to_be_visible()
