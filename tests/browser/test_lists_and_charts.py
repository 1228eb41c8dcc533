"""Lists that stay up to date while they are open, and charts that can be read off."""

import math
import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Window
from tests.browser.site import Site
from tests.factories import make_vehicle
from webapp.services import now

pytestmark = pytest.mark.browser
MARK = "window.neverReloaded = true"
IS_MARKED = "window.neverReloaded"


def save(site: Site, **changes: object) -> int:
    """Save a vehicle in the database, as another program does, and return its id."""
    return site.source.save_vehicle(make_vehicle(**changes), saved_at=now()).vehicle.vehicle_id


def test_open_lists_show_a_car_that_another_program_put_into_the_database(window: Window, site: Site) -> None:
    stores, arrivals = window.open("/feature-stores"), window.open("/arrivals")
    for page in (stores, arrivals):
        page.evaluate(MARK)
    vehicle_id = save(site, actual_price=37.37)
    expect(arrivals.locator(f"#vehicle-{vehicle_id}")).to_contain_text("up to date")
    keys = stores.locator("dt", has_text="Keys").locator("xpath=following-sibling::dd[1]")
    expect(keys).to_have_text(str(site.source.count_vehicles().new_arrivals))
    expect(stores.get_by_role("region", name="Online store")).to_contain_text("in sync")
    for page in (stores, arrivals):
        assert page.evaluate(IS_MARKED)


def test_an_open_list_follows_what_a_host_saves_and_an_operator_deletes(window: Window, site: Site) -> None:
    watching, host = window.open("/arrivals"), window.open("/")
    watching.evaluate(MARK)
    host.locator("#actual_price").fill("83.17")
    host.get_by_role("button", name="Save this car").click()
    row = watching.get_by_role("row").filter(has_text="83.17")
    expect(row).to_be_visible()
    expect(row.get_by_role("button")).to_have_count(0)  # only the operator deletes
    vehicle_id = row.get_by_role("link").inner_text()
    operator = window.open("/arrivals", signed_in=True)
    delete = operator.get_by_role("button", name=f"Delete car {vehicle_id}")
    dialog = operator.get_by_role("dialog")
    delete.focus()
    operator.keyboard.press("Enter")
    expect(dialog).to_have_accessible_name(f"Delete car {vehicle_id}?")
    operator.keyboard.press("Escape")
    expect(delete).to_be_focused()
    operator.keyboard.press("Enter")
    dialog.get_by_role("button", name="Cancel").press("Enter")
    expect(delete).to_be_focused()
    assert site.source.get_vehicle(int(vehicle_id)) is not None
    operator.keyboard.press("Enter")
    dialog.get_by_role("button", name="Delete").click()
    expect(operator.get_by_text(f"Car {vehicle_id} is deleted.")).to_be_visible()
    expect(row).to_have_count(0)
    assert watching.evaluate(IS_MARKED)


def test_a_list_that_was_hidden_is_renewed_when_it_is_shown_again(window: Window, site: Site) -> None:
    vehicle_id = save(site, actual_price=83.19)
    watching = window.open("/arrivals")
    row = watching.locator(f"#vehicle-{vehicle_id}")
    expect(row).to_contain_text("up to date")
    watching.evaluate(MARK)
    turn = """hidden => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    watching.evaluate(turn, True)
    site.source.delete_vehicle(vehicle_id)
    expect(row).to_be_visible()
    watching.evaluate(turn, False)
    expect(row).to_have_count(0)
    assert watching.evaluate(IS_MARKED)


def test_times_are_in_the_zone_of_the_reader(window: Window, site: Site) -> None:
    save(site)
    page = window.open("/arrivals", timezone="Asia/Tokyo")
    moment = page.locator("tbody time").first
    shown, stored = moment.inner_text(), moment.get_attribute("datetime")
    in_tokyo = page.evaluate("text => new Date(text).getHours()", stored)
    assert f", {in_tokyo:02}:" in shown
    assert "UTC" not in shown


def test_the_scatter_plot_names_the_dot_that_is_pointed_at(window: Window) -> None:
    page = window.open("/fleet")
    points = page.request.get("/fleet/points").json()
    plot = page.locator("[data-chart=scatter] .u-over")
    plot.scroll_into_view_if_needed()
    size = plot.bounding_box()
    assert size is not None
    right = math.ceil(max(points["forecast"]) + 0.5)
    top = math.ceil(max(points["forecast"] + points["outcome"]) / 5) * 5
    dots = [
        (x / right * size["width"], (1 - y / top) * size["height"])
        for x, y in zip(points["forecast"], points["outcome"], strict=True)
    ]
    readout = page.locator("[data-chart=scatter] .readout")
    hint = readout.inner_text()
    alone = [i for i, dot in enumerate(dots) if sorted(math.dist(dot, other) for other in dots)[1] > 4]
    assert len(alone) > 20
    for i in alone[:: len(alone) // 5]:
        inside = (
            min(at, extent - 1) for at, extent in zip(dots[i], (size["width"], size["height"]), strict=True)
        )
        plot.hover(position=dict(zip("xy", inside, strict=True)))
        car, forecast, outcome = (points[name][i] for name in ("vehicle_id", "forecast", "outcome"))
        expect(readout).to_have_text(f"Car {car}: forecast {forecast:.1f}, booked {outcome:g}")
    plot.hover(position={"x": 2, "y": 2})
    expect(readout).to_have_text(hint)


def test_the_server_is_measured_from_the_page(window: Window, site: Site) -> None:
    save(site)
    page = window.open("/latency")
    page.get_by_role("button", name="Measure").click()
    expect(page.get_by_text("Done.")).to_be_visible(timeout=60_000)
    rows = page.locator("#percentiles tbody tr")
    expect(rows).to_have_count(2)
    for path in ("/predict", "/predict/id"):
        row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=path, exact=True))
        expect(row).to_contain_text("200")
        half, most = (float(row.locator("td").nth(i).inner_text().removesuffix(" ms")) for i in (1, 3))
        assert 0 < half <= most
    page.get_by_text("Show as a table").click()
    bins = page.locator("#histogram tbody tr")
    expect(bins.last.locator("th")).to_have_text(re.compile(r"^[\d.]+ and more$"))
    for column in (1, 2):
        texts = page.locator(f"#histogram tbody td:nth-child({column + 1})").all_inner_texts()
        assert sum(map(int, texts)) == 200
