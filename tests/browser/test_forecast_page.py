"""The forecast page as a host uses it."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.chromium import Window
from tests.browser.site import Site

pytestmark = pytest.mark.browser
NUMBER = re.compile(r"^\d+\.\d$")


def fill(page: Page, **values: float) -> None:
    for name, value in values.items():
        page.locator(f"#{name}").fill(str(value))


def figure(page: Page) -> float:
    """Return the forecast that the page shows, once it shows one."""
    shown = page.locator("#answer .figure")
    expect(shown).to_have_text(NUMBER)
    return float(shown.inner_text())


def test_the_forecast_and_all_beside_it_follow_what_is_typed(window: Window) -> None:
    page = window.open()
    cheap, rank = figure(page), page.locator(".standing b")
    rank_before = rank.inner_text()
    with page.expect_response("**/predict") as answered, page.expect_response("**/details"):
        fill(page, actual_price=95.37)
    expected = answered.value.json()["predicted_reservations"]
    expect(page.locator("#answer .figure")).to_have_text(f"{expected:.1f}")
    shown = figure(page)
    low, high = page.locator("#range-marks text").all_text_contents()
    assert shown < cheap
    assert float(low) <= shown <= float(high)
    spoken = f"Forecast: {shown} reservations, most likely {low} to {high}."
    expect(page.locator("#answer [role=status]")).to_have_text(spoken)
    at_price = f"At 95.37 per day: {shown} reservations, {low} to {high}"
    expect(page.locator("#details .readout")).to_have_text(at_price)
    assert int(rank.inner_text().rstrip("%")) < int(rank_before.rstrip("%"))
    (base,) = re.findall(r"fleet gets ([\d.]+\d)", page.locator("#details").inner_text())
    parts = [text.replace("\N{MINUS SIGN}", "-") for text in page.locator(".reasons b").all_inner_texts()]
    assert len(parts) == 5
    # seven numbers, each rounded to a tenth
    assert float(base) + sum(map(float, parts)) == pytest.approx(shown, abs=0.4)


def test_a_car_is_typed_forecast_and_saved_once_and_back_shows_it_again(window: Window, site: Site) -> None:
    page = window.open()
    fill(page, recommended_price=60, num_images=9)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate("navigator.clipboard.writeText(' 61,25 ')")
    page.locator("#actual_price").press("Control+A")
    page.keyboard.press("Control+V")
    expect(page.locator("#actual_price")).to_have_value("61.25")
    with page.expect_response(
        lambda answer: '"technology":0' in (answer.request.post_data or "")
    ) as answered:
        page.get_by_text("By arrangement").click()
    forecast = f"{answered.value.json()['predicted_reservations']:.1f}"
    expect(page.locator("#answer .figure")).to_have_text(forecast)
    before = site.source.count_vehicles().new_arrivals
    page.get_by_role("button", name="Save this car").dblclick()
    row = page.locator("tr.fresh")
    expect(row).to_contain_text("61.25")
    assert site.source.count_vehicles().new_arrivals == before + 1
    expect(row.locator("strong")).to_have_text(forecast)
    expect(row).to_contain_text("up to date")
    # Of two clicks, the second may be the one whose answer the browser follows.
    expect(page.get_by_text(re.compile(r"Saved as car \d+|Car \d+ was saved already"))).to_be_visible()
    page.go_back()
    page.locator("html[data-scripts=running]").wait_for()
    expect(page.locator("#actual_price")).to_have_value("61.25")
    expect(page.locator("#num_images")).to_have_value("9")
    expect(page.locator("input[name=technology][value='0']")).to_be_checked()
    expect(page.locator("#answer .figure")).to_have_text(forecast)


def test_a_wrong_value_and_an_empty_one_are_named_beside_the_field(window: Window) -> None:
    page = window.open()
    fill(page, description=77, actual_price=-5)
    error = page.locator("[data-field=actual_price] .error")
    expect(error).to_have_text("Must be more than 0.")
    assert page.locator("#description").input_value() == "77"
    fill(page, actual_price=55)
    expect(error).to_be_hidden()
    says, photos = page.locator("#answer .says"), page.locator("#num_images")
    for typed, words in (("1e2", "Correct the marked field"), ("", "Fill in every field")):
        photos.press("Control+A")
        photos.press("Delete")
        photos.press_sequentially(typed)
        expect(says).to_have_text(f"{words} to see the forecast.")
        expect(page.locator("#answer .figure")).to_have_text("\N{EN DASH}")
        expect(photos).to_have_attribute("aria-invalid", "true")
    fill(page, num_images=4)
    expect(page.locator("#answer .figure")).to_have_text(NUMBER)
    expect(photos).not_to_have_attribute("aria-invalid", "true")


def test_the_form_works_with_scripts_off(window: Window) -> None:
    page = window.open(scripts=False)
    fill(page, actual_price=52, recommended_price=52)
    page.get_by_role("button", name="Forecast", exact=True).click()
    assert page.locator("#actual_price").input_value() == "52"
    shown = page.locator("#answer .figure").inner_text()
    assert NUMBER.match(shown)
    page.get_by_role("button", name="Save this car").click()
    expect(page.locator("tr.fresh strong")).to_have_text(shown)


def test_a_car_is_forecast_and_saved_with_the_keyboard_alone(window: Window) -> None:
    page = window.open()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # skip to the content
    page.keyboard.press("Tab")
    expect(page.locator("#actual_price")).to_be_focused()
    with page.expect_response("**/predict"):
        page.keyboard.press("Control+A")
        page.keyboard.type("49.5")
    for _ in range(4):
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")  # the other way to book
    assert page.locator("input[name=technology]:checked").input_value() == "0"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Save this car")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("tr.fresh")).to_contain_text("49.50")


def test_another_price_is_chosen_with_the_arrow_keys_or_by_pointing(window: Window) -> None:
    page = window.open()
    readout, slider = page.locator("#details .readout"), page.get_by_label("Choose a price")
    expect(readout).to_contain_text("At 58.00 per day")
    texts = []
    for key in ("End", "Home"):
        slider.press(key)
        texts.append(readout.inner_text())
        assert texts[-1] == slider.get_attribute("aria-valuetext")
    (dear, few), (cheap, many) = (map(float, re.findall(r"[\d,.]+\d", text)[:2]) for text in texts)
    assert cheap < dear
    assert many > few
    page.locator("#details .u-over").hover()
    expect(readout).not_to_have_text(texts[-1])


def test_a_reader_over_the_limit_is_told_so_and_keeps_the_number(window: Window) -> None:
    page = window.open()
    page.route("**/details", lambda route: route.fulfill(status=429, json={"status": 429}))
    fill(page, actual_price=52)
    expect(page.locator("#details .notice")).to_contain_text("Too many forecasts in a short time")
    assert figure(page) > 0
    page.route("**/predict", lambda route: route.fulfill(status=429, json={"status": 429}))
    fill(page, actual_price=53)
    expect(page.locator("#answer .says")).to_contain_text("Too many forecasts in a short time.")
    expect(page.locator("#details")).to_be_empty()
    assert page.locator("#actual_price").input_value() == "53"


def test_the_forecast_is_printed_without_controls_light_from_a_dark_screen(window: Window) -> None:
    page = window.open()
    canvas, drawing = page.locator("#details .plot canvas"), "canvas => canvas.toDataURL()"
    light = canvas.evaluate(drawing)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(
        "light => document.querySelector('#details .plot canvas').toDataURL() !== light", arg=light
    )
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert canvas.evaluate(drawing) == light
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert canvas.evaluate(drawing) != light
    page.emulate_media(media="print")
    expect(page.locator("#answer .figure")).to_be_visible()
    expect(canvas).to_be_visible()
    for hidden in (page.get_by_role("navigation"), page.locator("#save"), page.locator("#price-reader")):
        expect(hidden).to_be_hidden()
    assert len(re.findall(rb"/Type\s*/Page\b", page.pdf(format="A4"))) in {1, 2}
