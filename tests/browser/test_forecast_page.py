"""The forecast page as a host uses it."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Window
from tests.browser.site import Site

pytestmark = pytest.mark.browser
NUMBER = re.compile(r"^\d+\.\d$")


def fill(page: Page, **values: float) -> None:
    """Type into the form's number fields."""
    for name, value in values.items():
        page.locator(f"#{name}").fill(str(value))


def figure(page: Page) -> float:
    """Return the forecast that the page shows, once it shows one."""
    shown = page.locator("#answer .figure")
    expect(shown).to_have_text(NUMBER)
    return float(shown.inner_text())


def test_the_forecast_follows_what_is_typed(window: Window) -> None:
    page = window.open()
    cheap = figure(page)
    with page.expect_response("**/predict") as answered:
        fill(page, actual_price=95)
    expected = answered.value.json()["predicted_reservations"]
    expect(page.locator("#answer .figure")).to_have_text(f"{expected:.1f}")
    assert figure(page) < cheap
    low, high = page.locator("#range-marks text").all_text_contents()
    assert float(low) <= figure(page) <= float(high)


def test_a_vehicle_is_typed_forecast_saved_and_found_among_new_arrivals(window: Window) -> None:
    page = window.open()
    fill(page, actual_price=61.5, recommended_price=60, num_images=5)
    with page.expect_response(
        lambda answer: '"description":80' in (answer.request.post_data or "")
    ) as answered:
        fill(page, description=80)
    forecast = f"{answered.value.json()['predicted_reservations']:.1f}"
    expect(page.locator("#answer .figure")).to_have_text(forecast)
    page.get_by_role("button", name="Save this car").click()
    row = page.locator("tr.fresh")
    expect(row).to_contain_text("61.50")
    expect(row.locator("strong")).to_have_text(forecast)
    expect(row).to_contain_text("fresh")
    expect(page.get_by_text(re.compile(r"Saved as car \d+"))).to_be_visible()


def test_a_double_click_saves_once(window: Window, site: Site) -> None:
    page = window.open()
    fill(page, actual_price=71.25)
    before = site.source.count_vehicles().new_arrivals
    page.get_by_role("button", name="Save this car").dblclick()
    page.wait_for_url("**/arrivals?saved=*")
    assert site.source.count_vehicles().new_arrivals == before + 1


def test_the_same_form_sent_twice_saves_once(window: Window, site: Site) -> None:
    page = window.open()
    form = page.evaluate("Object.fromEntries(new FormData(document.getElementById('vehicle')))")
    before = site.source.count_vehicles().new_arrivals
    first, second = (page.request.post("/", form=form | {"action": "save"}) for _ in range(2))
    assert first.url == second.url
    assert "saved=" in first.url
    assert site.source.count_vehicles().new_arrivals == before + 1


def test_an_error_stands_beside_its_field_and_nothing_typed_is_lost(window: Window) -> None:
    page = window.open()
    fill(page, num_images=7, actual_price=-5)
    error = page.locator("[data-field=actual_price] .error")
    expect(error).to_have_text("Must be more than 0.")
    assert page.locator("#num_images").input_value() == "7"
    fill(page, actual_price=55)
    expect(error).to_be_hidden()
    expect(page.locator("#answer .figure")).to_have_text(NUMBER)


def test_a_wrong_value_takes_the_forecast_away_and_is_told_from_an_empty_one(window: Window) -> None:
    page = window.open()
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


def test_back_after_saving_shows_the_car_that_was_saved(window: Window) -> None:
    page = window.open()
    fill(page, actual_price=61.25, num_images=9)
    with page.expect_response(
        lambda answer: '"technology":0' in (answer.request.post_data or "")
    ) as answered:
        page.get_by_text("By arrangement").click()
    forecast = f"{answered.value.json()['predicted_reservations']:.1f}"
    page.get_by_role("button", name="Save this car").click()
    page.wait_for_url("**/arrivals?saved=*")
    page.go_back()
    page.locator("html[data-scripts=running]").wait_for()
    expect(page.locator("#actual_price")).to_have_value("61.25")
    expect(page.locator("#num_images")).to_have_value("9")
    expect(page.locator("input[name=technology][value='0']")).to_be_checked()
    expect(page.locator("#answer .figure")).to_have_text(forecast)


@pytest.mark.parametrize(("pasted", "taken"), [("62,50", "62.50"), (" 7,5 ", "7.5"), ("63.25", "63.25")])
def test_a_pasted_decimal_comma_is_a_decimal_point(window: Window, pasted: str, taken: str) -> None:
    page = window.open()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate("text => navigator.clipboard.writeText(text)", pasted)
    page.locator("#actual_price").focus()
    page.keyboard.press("Control+A")
    page.keyboard.press("Control+V")
    expect(page.locator("#actual_price")).to_have_value(taken)
    expect(page.locator("#answer .figure")).to_have_text(NUMBER)


def test_the_form_works_with_scripts_off(window: Window) -> None:
    page = window.open(scripts=False)
    fill(page, actual_price=52, recommended_price=52)
    page.get_by_role("button", name="Forecast", exact=True).click()
    assert page.locator("#actual_price").input_value() == "52"
    shown = page.locator("#answer .figure").inner_text()
    assert NUMBER.match(shown)
    page.get_by_role("button", name="Save this car").click()
    expect(page.locator("tr.fresh strong")).to_have_text(shown)


def test_a_wrong_field_with_scripts_off_comes_back_with_its_error(window: Window) -> None:
    page = window.open(scripts=False)
    page.locator("#vehicle").evaluate("form => form.noValidate = true")
    fill(page, num_images=2.5, description=33)
    page.get_by_role("button", name="Save this car").click()
    expect(page.locator("[data-field=num_images] .error")).to_have_text("Must be a whole number.")
    expect(page.locator("#answer .says")).to_have_text("Correct the marked field to see the forecast.")
    assert page.locator("#num_images").input_value() == "2.5"
    assert page.locator("#description").input_value() == "33"


def test_a_field_says_its_unit_and_its_range(window: Window) -> None:
    page = window.open()
    photos = page.get_by_label("Photos")
    expect(photos).to_have_accessible_description(re.compile(r"^In the listing\. 0 to 1,000"))
    expect(page.locator("[data-field=num_images] .unit")).to_have_text("photos")


def test_a_screen_reader_hears_the_whole_forecast_once_it_changed(window: Window) -> None:
    page = window.open()
    with page.expect_response("**/predict"):
        fill(page, actual_price=77)
    low, high = page.locator("#range-marks text").all_text_contents()
    spoken = f"Forecast: {figure(page)} reservations, most likely {low} to {high}."
    expect(page.locator("#answer [role=status]")).to_have_text(spoken)


def test_the_printed_forecast_has_the_answer_and_no_controls(window: Window) -> None:
    page = window.open()
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 760, "height": 1000})
    assert page.evaluate("document.documentElement.scrollWidth") <= 760
    expect(page.locator("#answer .figure")).to_be_visible()
    expect(page.locator("#details .plot canvas")).to_be_visible()
    for hidden in (page.get_by_role("navigation"), page.locator("#save"), page.locator("#price-reader")):
        expect(hidden).to_be_hidden()
    numbers = page.get_by_role("region", name="At another price").locator("tbody tr").first
    expect(numbers).to_be_hidden()
    page.emulate_media(media="screen")
    page.get_by_text("The same as a table").click()
    page.emulate_media(media="print")
    expect(numbers).to_be_visible()


def test_the_forecast_is_printed_on_one_or_two_sheets_light_from_a_dark_screen(window: Window) -> None:
    page = window.open()
    canvas = page.locator("#details .plot canvas")
    expect(canvas).to_be_visible()
    drawing = "canvas => canvas.toDataURL()"
    light = canvas.evaluate(drawing)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(
        "light => document.querySelector('#details .plot canvas').toDataURL() !== light", arg=light
    )
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert canvas.evaluate(drawing) == light
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert canvas.evaluate(drawing) != light
    assert len(re.findall(rb"/Type\s*/Page\b", page.pdf(format="A4"))) in {1, 2}


def test_a_car_is_forecast_and_saved_with_the_keyboard_alone(window: Window) -> None:
    page = window.open()
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
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


def test_a_page_that_asks_too_often_says_so_and_keeps_the_number(window: Window) -> None:
    page = window.open()
    page.route("**/details", lambda route: route.fulfill(status=429, json={"status": 429}))
    fill(page, actual_price=52)
    notice = page.locator("#details .notice")
    expect(notice).to_have_text(re.compile("Too many forecasts in a short time.*The number stands"))
    assert figure(page) > 0
    page.route("**/predict", lambda route: route.fulfill(status=429, json={"status": 429}))
    fill(page, actual_price=53)
    expect(page.locator("#answer .says")).to_contain_text("Too many forecasts in a short time.")
    expect(page.locator("#details")).to_be_empty()
    assert page.locator("#actual_price").input_value() == "53"
