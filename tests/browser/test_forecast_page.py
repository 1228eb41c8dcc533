"""The forecast page as a host uses it."""

import re
from functools import partial
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.chromium import BLANK, Window, wait_for_scripts
from tests.browser.screenshots import SCHEMES
from tests.browser.site import Site
from tests.vroom_features.stores import arrive
from vroom_features.vehicle import EXAMPLE

pytestmark = pytest.mark.browser
NUMBER = re.compile(r"^\d+\.\d$")
COLLECT_DRAWN_BOXES = """
window.drawn = [];
const { clearRect, fillText } = CanvasRenderingContext2D.prototype;
CanvasRenderingContext2D.prototype.clearRect = function (...all) {
  drawn = drawn.filter(({ canvas }) => canvas !== this.canvas);
  return clearRect.apply(this, all);
};
CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
  const box = this.measureText(text);
  const place = this.getTransform();
  const from = place.transformPoint({ x: x - box.actualBoundingBoxLeft, y: y - box.actualBoundingBoxAscent });
  const to = place.transformPoint({ x: x + box.actualBoundingBoxRight, y: y + box.actualBoundingBoxDescent });
  const [left, right] = [from.x, to.x].sort((a, b) => a - b);
  const [top, bottom] = [from.y, to.y].sort((a, b) => a - b);
  drawn.push({ canvas: this.canvas, text, left, right, top, bottom });
  return fillText.call(this, text, x, y);
};"""
COLLIDING = """drawn.flatMap((a) => drawn
  .filter((b) => a !== b && a.canvas === b.canvas && a.left < b.right && b.left < a.right)
  .filter((b) => a.top < b.bottom && b.top < a.bottom)
  .map((b) => `${a.text} | ${b.text}`))"""


def fill(page: Page, **values: float | str) -> None:
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
    fill(page, actual_price=95.37)
    made = page.request.post("/predict", data=EXAMPLE | {"actual_price": 95.37}).json()
    expect(page.locator("#answer .figure")).to_have_text(f"{made['per_year']:.1f}")
    shown = figure(page)
    low, high = page.locator("#range text").all_text_contents()
    assert shown < cheap
    assert float(low) <= shown <= float(high)
    says = f"Expect {low} to {high} bookings a year; about "
    expect(page.locator("#spoken")).to_contain_text(f"Forecast: {shown} bookings. {says}")
    expect(page.locator("#answer .figure")).to_have_attribute("title", re.compile("2023-01-01 to 2023-12-30"))
    expect(page.locator("#answer")).to_contain_text(f"{made['per_month']:.1f} a month")
    readout, income = page.locator("#result .readout").all()
    expect(readout).to_contain_text(f"At 95.37 per day: {shown} bookings a year, ")
    about = re.compile(r"About ([\d,]+) a year, ([\d,]+) to ([\d,]+), if a booking is one day\.")
    expect(page.get_by_text(about)).to_be_visible()
    expect(income).to_contain_text("At 95.37 per day: about ")
    fill(page, booking_days="2,5")
    expect(page.get_by_text("if a booking is 2.5 days.")).to_be_visible()
    expect(page.locator("#answer .figure")).to_have_text(str(shown))
    assert int(rank.inner_text().rstrip("%")) < int(rank_before.rstrip("%"))
    (base,) = re.findall(r"average car gets ([\d.]+\d)", page.locator("#result").inner_text())
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
    page.locator("#vehicle").get_by_text("In person").click()
    car = EXAMPLE | {"recommended_price": 60, "num_images": 9, "actual_price": 61.25, "technology": 0}
    made = page.request.post("/predict", data=car).json()
    expect(page.locator("#answer .figure")).to_have_text(f"{made['per_year']:.1f}")
    expect(page.locator("#answer")).to_contain_text("Outside what the model has seen: photos.")
    expect(page.locator("#num_images-note")).to_have_text("The model has seen 1 to 5.")
    before = site.source.count_vehicles().new_arrivals
    page.get_by_role("button", name="Save this car").dblclick()
    row = page.locator("tr.fresh")
    expect(row).to_contain_text("61.25")
    assert site.source.count_vehicles().new_arrivals == before + 1
    expect(row.locator("strong")).to_have_text(f"{made['per_year']:.1f}")
    expect(row).to_contain_text("not booked yet")
    # Of two clicks, the second may be the one whose answer the browser follows, with what both have to say.
    expect(page.get_by_text(re.compile(r"Saved as car \d+|Car \d+ was saved already")).first).to_be_visible()
    page.go_back()
    wait_for_scripts(page)
    expect(page.locator("#actual_price")).to_have_value("61,25")
    expect(page.locator("#num_images")).to_have_value("9")
    expect(page.locator("input[name=technology][value='0']")).to_be_checked()
    expect(page.locator("#answer .figure")).to_have_text(f"{made['per_year']:.1f}")


def test_a_wrong_value_and_an_empty_one_are_named_beside_the_field(window: Window) -> None:
    page = window.open()
    fill(page, description=77, actual_price=-5)
    error = page.locator("[data-field=actual_price] .error")
    expect(error).to_have_text("Must be more than 0.")
    assert page.locator("#description").input_value() == "77"
    fill(page, actual_price=55)
    expect(error).to_be_hidden()
    says, photos = page.locator("#answer .says"), page.locator("#num_images")
    for typed, words in (("4.5", "Correct the marked field"), ("", "Fill in every field")):
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
    with page.expect_response("**/details"):
        page.keyboard.press("Control+A")
        page.keyboard.type("49.5")
    for _ in range(4):
        page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")  # the other way to book
    assert page.locator("input[name=technology]:checked").input_value() == "0"
    for _ in range(5):  # parking, days, the text to count, and to pin
        page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Save this car")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("tr.fresh")).to_contain_text("49.50")


def test_another_price_is_chosen_with_the_arrow_keys_or_by_pointing(window: Window) -> None:
    page = window.open()
    readout, slider = page.locator("#result .readout").first, page.get_by_label("Try a price").first
    expect(readout).to_contain_text("At 58.00 per day")
    texts = []
    for key in ("End", "Home"):
        slider.press(key)
        texts.append(readout.inner_text())
        assert texts[-1] == slider.get_attribute("aria-valuetext")
    (dear, few), (cheap, many) = (map(float, re.findall(r"[\d,.]+\d", text)[:2]) for text in texts)
    assert cheap < dear
    assert many > few
    page.locator("#result .plot").first.scroll_into_view_if_needed()
    page.locator("#result .u-over").first.hover()
    expect(readout).not_to_have_text(texts[-1])


def _refuse(answer: dict[str, Any] | None, route: Route) -> None:
    route.fulfill(**answer) if answer else route.abort()


def test_a_reader_is_told_why_there_is_no_forecast_and_keeps_what_was_typed(window: Window) -> None:
    page = window.open()
    refused = ({"status": 429, "json": {}}, "The forecast cannot be shown now."), (None, "cannot be reached.")
    for price, (answer, words) in zip((52, 53), refused, strict=True):
        page.unroute_all()
        page.route("**/details", partial(_refuse, answer))
        fill(page, actual_price=price)
        expect(page.locator("#answer .says")).to_contain_text(words)
        expect(page.locator("#answer .figure")).to_have_text("\N{EN DASH}")
        assert page.locator("#actual_price").input_value() == str(price)
    page.unroute_all()
    fill(page, actual_price=55)
    expect(page.locator("#answer .says")).to_contain_text("Expect ")


def test_the_forecast_is_printed_without_controls_light_from_a_dark_screen(window: Window) -> None:
    page = window.open()
    canvas, drawing = page.locator("#result .plot canvas").first, "canvas => canvas.toDataURL()"
    page.locator("#result .plot").first.scroll_into_view_if_needed()
    light = canvas.evaluate(drawing)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(
        "light => document.querySelector('#result .plot canvas').toDataURL() !== light", arg=light
    )
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert canvas.evaluate(drawing) == light
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert canvas.evaluate(drawing) != light
    page.emulate_media(media="print")
    expect(page.locator("#answer .figure")).to_be_visible()
    expect(canvas).to_be_visible()
    for hidden in (page.get_by_role("navigation"), page.locator("#save"), page.locator("#bookings-price")):
        expect(hidden).to_be_hidden()
    assert len(re.findall(rb"/Type\s*/Page\b", page.pdf(format="A4"))) in {1, 2, 3}


def test_a_slip_of_a_price_is_asked_about_and_a_text_is_counted_where_it_is(window: Window) -> None:
    page = window.open()
    fill(page, actual_price="6250")
    note = page.locator("#actual_price-note")
    expect(note).to_contain_text("6250? Did you mean 62.50?")
    sent = []
    page.on("request", lambda asked: sent.append(asked.post_data or ""))
    page.get_by_text("Count the characters of a text").click()
    with page.expect_response("**/details"):
        page.get_by_label("Your description").fill("  A tidy car\nwith a roof box.  ")
    expect(page.locator("#description")).to_have_value("27")
    assert not any("roof box" in body for body in sent)
    link = note.get_by_role("link")
    expect(link).to_have_attribute("href", re.compile("description=27"))
    link.click()
    expect(page.locator("#actual_price")).to_have_value("62.5")
    expect(page.locator("#description")).to_have_value("27")
    expect(note).to_be_empty()


@pytest.mark.parametrize("scripts", [True, False])
def test_cars_are_compared_side_by_side_at_an_address_that_holds_them(window: Window, scripts: bool) -> None:
    page = window.open("/?actual_price=77&num_images=2", scripts=scripts)
    first = figure(page)
    page.get_by_role("button", name="Pin to compare").click()
    table = page.get_by_role("group", name="Cars side by side")
    expect(table).to_be_visible()
    if scripts:
        wait_for_scripts(page)
    fill(page, actual_price="52,50", num_images=5)
    if not scripts:
        page.get_by_role("button", name="Forecast", exact=True).click()
    expect(table.get_by_role("row", name="Photos")).to_have_text(re.compile("5.*2"))  # typed last
    shown = table.get_by_role("row").nth(1).locator("strong").all_inner_texts()
    assert shown == [f"{figure(page)}", f"{first}"]
    shared = window.open(page.url, scripts=False)
    assert shared.get_by_role("group", name="Cars side by side").inner_text() == table.inner_text()
    assert figure(shared) == figure(page)
    page.get_by_role("link", name="Show", exact=True).click()
    expect(page.locator("#actual_price")).to_have_value("77")
    page.get_by_role("link", name="Remove pinned 1").click()
    expect(table).to_have_count(0)


def test_a_new_model_says_what_it_changed(window: Window, site: Site) -> None:
    page = window.open()
    before, news = figure(page), page.locator("#news")
    version = site.promote_another()
    expect(news).to_contain_text(f", model {version}.")
    words = f"Updated with newer data: {before} is (now|still) {figure(page)}, model {version}."
    assert re.fullmatch(words, news.inner_text())
    fill(page, actual_price=52)
    expect(news).to_be_hidden()


def test_what_would_help_and_the_reasons_agree_with_the_curve(window: Window) -> None:
    page = window.open("/?actual_price=70&num_images=1")
    reason = page.locator(".reasons li", has_text="above market")
    expect(reason).to_contain_text(re.compile(r"the average car of the fleet asks \d+% above market"))
    at_market = figure(window.open("/?actual_price=50&num_images=1"))
    difference = float(page.locator("#against-market").inner_text().replace("\N{MINUS SIGN}", "-"))
    assert difference == pytest.approx(figure(page) - at_market, abs=0.15)
    change = page.locator(".changes li", has_text="Your price")
    expect(change.locator("b")).to_have_text(f"{at_market:.1f}")
    change.get_by_role("link").click()
    expect(page.locator("#actual_price")).to_have_value("50")
    assert figure(page) == at_market


def test_a_phone_shows_the_answer_beside_the_form_and_rows_as_cards(window: Window, site: Site) -> None:
    arrive(site.source)
    page = window.open(width=390)
    follow, answer = page.locator(".follow"), page.locator("#answer")
    expect(follow).to_be_in_viewport()
    expect(follow).to_contain_text(re.compile(r"^\d+\.\d bookings a year, \d+ to \d+$"))
    follow.click()
    expect(answer).to_be_in_viewport()
    expect(follow).to_be_hidden()
    for path, name in (("/", "Cars like it"), ("/fleet", "Fleet"), ("/arrivals", "Saved cars")):
        page.goto(path)
        table = page.get_by_role("group", name=name, exact=True)
        assert table.evaluate("table => table.scrollWidth <= table.clientWidth"), name
        expect(table.locator("td[data-label=Price]").first).to_be_visible()


def test_the_texts_of_a_chart_do_not_collide_on_a_phone(window: Window) -> None:
    page = window.open(BLANK, width=390)
    page.add_init_script(COLLECT_DRAWN_BOXES)
    for own, market in ((50, 50), (50.5, 50), (45, 50), (81_000, 80_000)):
        page.goto(f"/?actual_price={own}&recommended_price={market}")
        for plot in page.locator("#result .plot").all():
            plot.scroll_into_view_if_needed()
            expect(plot.locator("canvas")).to_be_visible()
        assert {"now", "market"} <= set(page.evaluate("drawn.map(({ text }) => text)"))
        assert page.evaluate(COLLIDING) == [], (own, market)


def test_the_range_stands_out_in_both_themes(window: Window) -> None:
    page = window.open()
    luminance = """name => getComputedStyle(document.querySelector(`#range .${name}`)).fill
        .match(/[\\d.]+/g).slice(0, 3)
        .map((part) => part / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0)"""
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        lane, spread, middle = (page.evaluate(luminance, name) for name in ("lane", "spread", "middle"))
        for other in (lane, middle):
            assert (max(spread, other) + 0.05) / (min(spread, other) + 0.05) >= 3, scheme


def test_the_chart_library_is_loaded_by_the_first_chart_in_sight(window: Window) -> None:
    page = window.open()
    page.wait_for_load_state("networkidle")
    loaded = "performance.getEntriesByType('resource').filter((entry) => entry.name.includes('uPlot')).length"
    assert page.evaluate(loaded) == 0
    page.locator("#result .plot").first.scroll_into_view_if_needed()
    expect(page.locator("#result canvas").first).to_be_visible()
    assert page.evaluate(loaded) == 1


def test_the_charts_of_an_earlier_answer_are_destroyed(window: Window) -> None:
    page = window.open()
    for plot in page.locator("#result .plot").all():
        plot.scroll_into_view_if_needed()
        expect(plot.locator("canvas")).to_be_visible()
    page.evaluate("window.earlier = [...document.querySelectorAll('#result .plot')]")
    fill(page, actual_price=61)
    page.wait_for_function(
        "() => earlier.every((plot) => !plot.isConnected && !plot.querySelector('canvas'))"
    )
