"""Cars of a browser, by keyboard and mouse: with scripts and without, and on another device."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.chromium import Window, wait_for_scripts
from tests.browser.test_every_page import LOOKS, violations

pytestmark = pytest.mark.browser


def save(page: Page, price: str) -> str:
    """Save a car of this price, and return its number."""
    page.goto(f"/?actual_price={price}")
    page.get_by_role("button", name="Save this car").click()
    expect(page.locator("tr.fresh")).to_contain_text(price)
    return page.url.partition("saved=")[2]


def assert_accessible(page: Page) -> None:
    for scheme, width in LOOKS:
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.set_viewport_size({"width": width, "height": 844})
        assert violations(page) == [], (page.url, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize("scripts", [True, False])
def test_a_host_names_changes_withdraws_and_deletes_a_car(window: Window, *, scripts: bool) -> None:
    page = window.open(scripts=scripts)

    def press(button: Locator, answer: str) -> None:
        if scripts:
            wait_for_scripts(page)
        button.click()
        (page.get_by_role("dialog") if scripts else page.locator("main")).get_by_role(
            "button", name=answer
        ).click()

    number, other = save(page, "61.25"), save(page, "62.75")
    page.get_by_role("link", name=number, exact=True).click()
    page.get_by_label("Name").fill("Käfer & <b>Co</b>")
    page.get_by_label("Name").press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Käfer & <b>Co</b>")
    page.get_by_role("link", name="My cars").first.click()
    page.get_by_label("Name or number").fill("KÄFER")
    page.get_by_role("button", name="Search").click()
    rows = page.locator("#my-cars tbody tr")
    expect(rows).to_have_count(1)
    rows.get_by_role("link", name="Change").click()
    expect(page.get_by_text("begins a new watch")).to_be_visible()
    page.get_by_label("Your price").fill("63.5")
    page.get_by_role("button", name="Save changes").click()
    expect(page.locator("tr.fresh")).to_contain_text("63.50")
    expect(rows).to_have_count(2)
    press(rows.filter(has_text="Käfer").get_by_role("button", name="Withdraw"), "Withdraw it")
    expect(page.locator(".head")).to_contain_text("withdrawn")
    history = page.get_by_role("region", name="History").locator("tbody tr")
    expect(history).to_have_count(2)
    expect(history.last).to_contain_text(re.compile(r"\d+\.\d \(\d+ to \d+\) by model \d"))
    press(page.get_by_role("button", name="Delete"), "Delete it")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text(other)


def test_a_private_link_opens_the_cars_on_another_device(window: Window) -> None:
    page, phone = window.open(), window.open("/my-cars", width=390)
    number = save(page, "64.5")
    assert_accessible(page)
    page.get_by_role("link", name=number, exact=True).click()
    assert_accessible(page)
    page.get_by_role("link", name="My cars").first.click()
    page.get_by_role("button", name="Show the private link").click()
    assert_accessible(page)
    link = page.get_by_label("Private link").input_value()
    with phone.expect_request(re.compile(r"/my-cars/link$")) as asked:
        phone.goto(link)
    assert "referer" not in asked.value.all_headers()
    assert "link/" not in phone.url
    assert_accessible(phone)
    phone.get_by_role("button", name="Open here").click()
    expect(phone.get_by_role("link", name=number, exact=True)).to_be_visible()
    page.goto("/my-cars")
    wait_for_scripts(page)
    page.get_by_role("button", name="Revoke it").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke the link").click()
    expect(page.get_by_text("The private link no longer works.")).to_be_visible()
    expect(page.get_by_role("link", name=number, exact=True)).to_be_visible()
    phone.reload()
    expect(phone.get_by_text("No car saved in this browser yet")).to_be_visible()
