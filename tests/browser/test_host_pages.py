"""What a host reads beside the number, and finds in the lists."""

import csv
import io
import math
import re

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Window
from tests.browser.site import Site
from tests.factories import make_vehicle
from vroom_features.database.queries import VehicleFilter
from webapp.services import now

pytestmark = pytest.mark.browser


def save(site: Site, **changes: object) -> int:
    """Save a vehicle behind the browser's back and return its id."""
    saved = site.source.save_vehicle(make_vehicle(**changes), saved_at=now())
    assert saved.vehicle.vehicle_id is not None
    return saved.vehicle.vehicle_id


def details(page: Page) -> str:
    """Return the words beside the number, once they follow the form."""
    with page.expect_response("**/details"):
        page.locator("#description").fill("64")
    return page.locator("#details").inner_text()


def test_reasons_add_up_to_the_forecast(window: Window) -> None:
    page = window.open()
    details(page)
    base = float(re.findall(r"starts from ([\d.]+)", page.locator("#details").inner_text())[0])
    parts = [
        float(text.replace("\N{MINUS SIGN}", "-")) for text in page.locator(".reasons b").all_inner_texts()
    ]
    assert len(parts) == 5
    shown = float(page.locator("#answer .figure").inner_text())
    assert base + sum(parts) == pytest.approx(shown, abs=0.4)  # seven numbers, each rounded to a tenth


def test_the_what_if_curve_is_read_off_with_the_arrow_keys(window: Window) -> None:
    page = window.open()
    readout = page.locator("#details .readout")
    expect(readout).to_contain_text("At 58.00 per day")
    slider = page.get_by_label("Read off a price")
    slider.focus()
    page.keyboard.press("End")
    dear = readout.inner_text()
    assert dear == slider.get_attribute("aria-valuetext")
    page.keyboard.press("Home")
    cheap = readout.inner_text()
    prices, counts = zip(*[re.findall(r"[\d,.]+\d", text)[:2] for text in (cheap, dear)], strict=True)
    assert float(prices[0]) < float(prices[1])
    assert float(counts[0]) > float(counts[1])


def test_the_curve_is_first_read_off_at_the_price_of_the_form(window: Window) -> None:
    page = window.open()
    with page.expect_response("**/details"):
        page.locator("#actual_price").fill("58.37")
    readout = page.locator("#details .readout")
    expect(readout).to_contain_text("At 58.37 per day")
    low, high = page.locator("#range-marks text").all_text_contents()
    shown = page.locator("#answer .figure").inner_text()
    expect(readout).to_have_text(f"At 58.37 per day: {shown} reservations, {low} to {high}")


def test_the_what_if_curve_is_read_off_by_pointing_at_it(window: Window) -> None:
    page = window.open()
    readout = page.locator("#details .readout")
    plot = page.locator("#details .u-over")
    size = plot.bounding_box()
    assert size is not None
    seen = []
    for share in (0.1, 0.9):
        before = readout.inner_text()
        plot.hover(position={"x": size["width"] * share, "y": size["height"] / 2})
        expect(readout).not_to_have_text(before)
        seen.append(float(re.findall(r"At ([\d,.]+\d)", readout.inner_text())[0]))
    assert seen[0] < seen[1]


def test_the_curve_is_a_table_too_and_says_that_it_is_an_association(window: Window) -> None:
    page = window.open(scripts=False)
    section = page.get_by_role("region", name="At another price")
    expect(section).to_contain_text("association")
    page.get_by_text("The same as a table").click()
    rows = section.locator("tbody tr")
    assert rows.count() > 20
    low, high = (float(rows.nth(0).locator("td").nth(i).inner_text()) for i in (1, 2))
    assert low < high


def test_the_rank_rises_when_the_price_falls(window: Window) -> None:
    page = window.open()
    rank = page.locator(".standing b")
    before = int(rank.inner_text().rstrip("%"))
    page.locator("#actual_price").fill("45")
    expect(rank).not_to_have_text(f"{before}%")
    assert int(rank.inner_text().rstrip("%")) > before


def test_a_saved_car_opens_in_the_form(window: Window, site: Site) -> None:
    vehicle_id = save(site, actual_price=66.6, num_images=2)
    page = window.open("/arrivals")
    page.get_by_role("link", name=str(vehicle_id)).click()
    expect(page.locator("#actual_price")).to_have_value("66.6")
    expect(page.locator("#num_images")).to_have_value("2")


def test_an_open_list_shows_a_car_that_somebody_else_saves(window: Window) -> None:
    watching, other = window.open("/arrivals"), window.open("/")
    other.locator("#actual_price").fill("83.17")
    other.get_by_role("button", name="Save this car").click()
    expect(watching.get_by_role("row").filter(has_text="83.17")).to_be_visible()


def test_an_open_list_drops_a_car_that_somebody_else_deletes(window: Window, site: Site) -> None:
    vehicle_id = save(site, actual_price=83.18)
    watching, other = window.open("/arrivals"), window.open("/arrivals", signed_in=True)
    row = watching.locator(f"#vehicle-{vehicle_id}")
    expect(row).to_contain_text("fresh")
    watching.evaluate("window.neverReloaded = true")
    other.get_by_role("button", name=f"Delete car {vehicle_id}").click()
    other.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(row).to_have_count(0)
    assert watching.evaluate("window.neverReloaded")


def test_a_list_that_was_hidden_is_renewed_when_it_is_looked_at_again(window: Window, site: Site) -> None:
    vehicle_id = save(site, actual_price=83.19)
    watching, other = window.open("/arrivals"), window.open("/arrivals", signed_in=True)
    row = watching.locator(f"#vehicle-{vehicle_id}")
    expect(row).to_contain_text("fresh")
    watching.evaluate("window.neverReloaded = true")
    turn = """hidden => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    watching.evaluate(turn, True)
    other.get_by_role("button", name=f"Delete car {vehicle_id}").click()
    other.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(other.get_by_text(f"Car {vehicle_id} is deleted.")).to_be_visible()
    expect(row).to_be_visible()
    watching.evaluate(turn, False)
    expect(row).to_have_count(0)
    assert watching.evaluate("window.neverReloaded")


def test_only_the_operator_deletes_and_is_asked_before(window: Window, site: Site) -> None:
    vehicle_id = save(site, actual_price=91.01)
    assert window.open("/arrivals").get_by_role("button", name="Delete").count() == 0
    page = window.open("/arrivals", signed_in=True)
    row = page.locator(f"#vehicle-{vehicle_id}")
    row.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Leave it").click()
    expect(row).to_be_visible()
    row.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text(f"Car {vehicle_id} is deleted.")).to_be_visible()
    expect(row).to_have_count(0)
    assert site.source.get_vehicle(vehicle_id) is None


def test_with_scripts_off_a_page_of_its_own_asks_before_a_car_is_deleted(window: Window, site: Site) -> None:
    vehicle_id = save(site, actual_price=91.02)
    page = window.open("/arrivals", scripts=False, signed_in=True)
    page.get_by_role("button", name=f"Delete car {vehicle_id}").click()
    expect(page.get_by_role("heading", name=f"Delete car {vehicle_id}?")).to_be_visible()
    assert site.source.get_vehicle(vehicle_id) is not None
    page.get_by_role("button", name="Delete it").click()
    expect(page.get_by_text(f"Car {vehicle_id} is deleted.")).to_be_visible()
    assert site.source.get_vehicle(vehicle_id) is None


def test_the_fleet_is_searched_sorted_and_paged(window: Window) -> None:
    page = window.open("/fleet")
    page.get_by_role("link", name="Booked").click()
    page.get_by_role("link", name="Booked").click()
    counts = [int(text) for text in page.locator("#fleet tbody tr td:nth-child(2)").all_inner_texts()[:25]]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]
    page.get_by_role("link", name="Next").click()
    expect(page.get_by_text("page 2 of 40")).to_be_visible()
    page.get_by_label("Car number").fill("77")
    page.get_by_role("button", name="Search").click()
    found = page.locator("#fleet .table").first.locator("tbody th").all_inner_texts()
    assert found
    assert all(text.startswith("77") for text in found)


def test_the_scatter_plot_reads_off_the_dot_that_is_pointed_at(window: Window) -> None:
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
    for i in alone[:: len(alone) // 10]:
        inside = (
            min(at, extent - 1) for at, extent in zip(dots[i], (size["width"], size["height"]), strict=True)
        )
        plot.hover(position=dict(zip("xy", inside, strict=True)))
        car, forecast, outcome = (points[name][i] for name in ("vehicle_id", "forecast", "outcome"))
        expect(readout).to_have_text(f"Car {car}: {forecast:.1f} expected, {outcome:g} booked")
    plot.hover(position={"x": 2, "y": 2})
    expect(readout).to_have_text(hint)


def test_the_fleet_is_narrowed_in_the_list_and_in_the_file(window: Window, site: Site) -> None:
    page = window.open("/fleet")
    page.get_by_label("Booking").select_option("By arrangement")
    page.get_by_label("Price").select_option("At market or below")
    page.get_by_role("button", name="Search").click()
    where = VehicleFilter(technology=0, is_overpriced=False)
    total = site.source.list_vehicles(kind="fleet", where=where).total
    assert 0 < total < 500
    expect(page.get_by_label("Pages of the list")).to_contain_text(f"{total} cars")
    page.get_by_role("link", name="Booked").click()
    expect(page.get_by_label("Booking")).to_have_value("arranged")
    with page.expect_download() as started:
        page.get_by_role("link", name="Download CSV").click()
    rows = list(csv.DictReader(io.StringIO(started.value.path().read_text())))
    assert len(rows) == total
    assert {row["technology"] for row in rows} == {"0"}
    page.get_by_label("Car number").fill("999999")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("heading", name="No car matches")).to_be_visible()
    page.get_by_role("link", name="Show all").first.click()
    expect(page.get_by_label("Pages of the list")).to_contain_text("1,000 cars")


def test_the_fleet_comes_as_a_file_with_its_forecasts(window: Window) -> None:
    page = window.open("/fleet?sort=actual_price&order=desc")
    with page.expect_download() as started:
        page.get_by_role("link", name="Download CSV").click()
    rows = list(csv.DictReader(io.StringIO(started.value.path().read_text())))
    assert len(rows) == 1_000
    prices = [float(row["actual_price"]) for row in rows]
    assert prices == sorted(prices, reverse=True)
    assert all(
        float(row["low"]) <= float(row["predicted_reservations"]) <= float(row["high"]) for row in rows
    )
    assert len({row["model_version"] for row in rows}) == 1


def test_times_are_in_the_zone_of_the_reader(window: Window, site: Site) -> None:
    save(site)
    page = window.open("/arrivals", timezone="Asia/Tokyo")
    moment = page.locator("tbody time").first
    shown, stored = moment.inner_text(), moment.get_attribute("datetime")
    in_tokyo = page.evaluate("text => new Date(text).getHours()", stored)
    assert f", {in_tokyo:02}:" in shown
    assert "UTC" not in shown


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
    page.get_by_text("The same as a table").click()
    bins = page.locator("#histogram tbody tr")
    expect(bins.last.locator("th")).to_have_text(re.compile(r"^[\d.]+ and more$"))
    for column in (0, 1):
        texts = [row.locator("td").nth(column).inner_text() for row in bins.all()]
        assert sum(map(int, texts)) == 200


def test_others_are_answered_while_two_measure_the_server(window: Window, site: Site) -> None:
    measuring = [window.open("/latency") for _ in range(2)]
    for page in measuring:
        page.get_by_role("button", name="Measure").click()
        expect(page.get_by_role("progressbar")).to_be_visible()
    vehicle = make_vehicle().model_dump()
    num_answers = 0
    with httpx.Client(base_url=site.url, timeout=5) as other:
        while any(page.get_by_role("progressbar").is_visible() for page in measuring):
            assert other.post("/predict", json=vehicle).status_code == 200
            num_answers += 1
    assert num_answers > 5
    for page in measuring:
        expect(page.get_by_text("Done.")).to_be_visible()


def test_a_question_is_answered_with_the_keyboard_and_gives_the_focus_back(
    window: Window, site: Site
) -> None:
    vehicle_id = save(site, actual_price=91.03)
    page = window.open("/arrivals", signed_in=True)
    delete = page.get_by_role("button", name=f"Delete car {vehicle_id}")
    delete.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_have_accessible_name(f"Delete car {vehicle_id}?")
    page.keyboard.press("Escape")
    expect(delete).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_role("dialog").get_by_role("button", name="Leave it").press("Enter")
    expect(delete).to_be_focused()
    assert site.source.get_vehicle(vehicle_id) is not None


def test_the_file_holds_the_figures_that_the_api_gives(site: Site) -> None:
    answer = httpx.get(f"{site.url}/fleet.csv", timeout=30)
    assert "content-length" not in answer.headers  # it is sent as it is made
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 1_000
    for row in rows[::100]:
        made = httpx.post(f"{site.url}/predict/id", json={"vehicle_id": int(row["vehicle_id"])}).json()
        expected = (made["predicted_reservations"], made["interval"]["low"], made["interval"]["high"])
        assert tuple(float(row[name]) for name in ("predicted_reservations", "low", "high")) == pytest.approx(
            expected, abs=0.0006
        )
