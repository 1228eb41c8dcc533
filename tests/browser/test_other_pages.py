"""Pages that follow what happens while they are open, and charts that can be read off."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Page, Request, Route, expect

from tests.browser.chromium import BLANK, Window
from tests.browser.site import Site
from tests.vroom_features.stores import arrive

pytestmark = pytest.mark.browser


@contextmanager
def never_reloaded(*pages: Page) -> Iterator[None]:
    """Check that pages are not loaded again while the block runs."""
    for page in pages:
        page.evaluate("window.neverReloaded = true")
    yield
    for page in pages:
        assert page.evaluate("window.neverReloaded")


def test_open_lists_show_a_car_of_another_program_and_hidden_ones_are_renewed(
    window: Window, site: Site
) -> None:
    stores, arrivals = window.open("/feature-stores"), window.open("/arrivals", timezone="Asia/Tokyo")
    turn = """hidden => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    with never_reloaded(stores, arrivals):
        vehicle_id = arrive(site.source, actual_price=37.37)
        row = arrivals.locator(f"#vehicle-{vehicle_id}")
        expect(row).to_contain_text("up to date")
        keys = stores.locator("dt", has_text="Keys").locator("xpath=following-sibling::dd[1]")
        expect(keys).to_have_text(str(site.source.count_vehicles().new_arrivals))
        expect(stores.get_by_role("region", name="Online store")).to_contain_text("in sync")
        moment = row.locator("time")
        in_tokyo = arrivals.evaluate("text => new Date(text).getHours()", moment.get_attribute("datetime"))
        expect(moment).to_contain_text(f", {in_tokyo:02}:")
        expect(moment).not_to_contain_text("UTC")
        arrivals.evaluate(turn, True)
        site.source.delete_vehicle(vehicle_id)
        expect(row).to_be_visible()
        arrivals.evaluate(turn, False)
        expect(row).to_have_count(0)


def test_an_open_list_follows_what_a_host_saves_and_an_operator_deletes(window: Window, site: Site) -> None:
    watching, host = window.open("/arrivals"), window.open("/")
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
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    operator.keyboard.press("Enter")
    expect(delete).to_be_focused()
    assert site.source.get_vehicle(int(vehicle_id)) is not None
    operator.keyboard.press("Enter")
    dialog.get_by_role("button", name="Delete").click()
    expect(operator.get_by_text(f"Car {vehicle_id} is deleted.")).to_be_visible()
    expect(row).to_have_count(0)


@pytest.mark.parametrize("answer", ["Cancel", "Delete"])
def test_a_question_that_is_opened_while_a_list_is_fetched_can_be_answered(
    window: Window, site: Site, answer: str
) -> None:
    held: list[Route] = []

    def is_fetch(request: Request) -> bool:
        return request.resource_type == "fetch" and request.url.endswith("/arrivals")

    def hold_first_fetch(route: Route) -> None:
        if is_fetch(route.request) and not held:
            held.append(route)
        else:
            route.continue_()

    vehicle_id = arrive(site.source)
    page = window.open("/arrivals", signed_in=True)
    expect(page.locator(f"#vehicle-{vehicle_id}")).to_contain_text("up to date")
    page.route("**/arrivals", hold_first_fetch)
    with page.expect_request(is_fetch):
        new_id = site.save()
    delete = page.get_by_role("button", name=f"Delete car {vehicle_id}")
    delete.click()
    with page.expect_response(lambda response: is_fetch(response.request)) as response:
        held[0].continue_()
    response.value.finished()
    page.get_by_role("dialog").get_by_role("button", name=answer).click()
    if answer == "Delete":
        expect(page.get_by_text(f"Car {vehicle_id} is deleted.")).to_be_visible()
    else:
        expect(delete).to_be_focused()
        expect(page.locator(f"#vehicle-{new_id}")).to_be_visible()


def test_open_pages_show_a_new_version_and_keep_what_was_opened(window: Window, site: Site) -> None:
    site.check_drift()  # whose chart the next champion lacks, above what is opened
    host, operator, deaf = window.open(), window.open("/models"), window.open(BLANK)
    deaf.route(re.compile("/events"), lambda route: route.abort())  # no server of event streams
    deaf.goto("/")
    details = operator.locator("details", has_text="Folds, parameters and checksums")
    details.locator("summary").click()
    with never_reloaded(host, operator, deaf):
        version = site.promote_another()
        for page in (host, deaf):
            expect(page.locator("#model-chip")).to_have_text(f"Model {version}")
            expect(page.locator("#answer")).to_contain_text(f"model {version}")
        expect(operator.get_by_role("heading", name=f"Champion: model {version}")).to_be_visible()
    expect(details.get_by_role("columnheader", name="Fold")).to_be_visible()
    expect(details.locator("summary")).to_be_focused()
    latest = operator.get_by_role("region", name="Promotion history").locator("tbody tr").first
    expect(latest.locator("th")).to_have_text(str(version))
    expect(latest).to_contain_text("these tests need another champion")
    operator.goto("/system")
    workers = operator.get_by_role("region", name="Web workers").locator("tbody tr td:nth-of-type(1)")
    expect(workers).to_have_text([str(version)] * 2)


def test_the_scatter_plot_names_the_dot_that_is_pointed_at(window: Window) -> None:
    page = window.open("/fleet")
    points = page.request.get("/fleet/points").json()
    plot, readout = (
        page.locator("[data-chart=scatter] .u-over"),
        page.locator("[data-chart=scatter] .readout"),
    )
    page.locator("[data-chart=scatter]").scroll_into_view_if_needed()  # which draws it
    size = plot.bounding_box()
    assert size is not None
    right = math.ceil(max(points["forecast"]) + 0.5)
    top = math.ceil(max(points["forecast"] + points["outcome"]) / 5) * 5
    dots = [
        (x / right * size["width"], (1 - y / top) * size["height"])
        for x, y in zip(points["forecast"], points["outcome"], strict=True)
    ]
    hint = readout.inner_text()
    i = max(range(len(dots)), key=lambda i: sorted(math.dist(dots[i], other) for other in dots)[1])
    plot.hover(position={"x": min(dots[i][0], size["width"] - 1), "y": min(dots[i][1], size["height"] - 1)})
    car, forecast, outcome = (points[name][i] for name in ("vehicle_id", "forecast", "outcome"))
    expect(readout).to_have_text(f"Car {car}: forecast {forecast:.1f}, booked {outcome:g}")
    plot.hover(position={"x": 2, "y": 2})
    expect(readout).to_have_text(hint)


def test_the_server_is_measured_from_the_page(window: Window, site: Site) -> None:
    arrive(site.source)
    page = window.open("/system")
    for _ in range(2):
        page.get_by_role("button", name="Measure").click()
        expect(page.get_by_text("Done.")).to_be_hidden()
        expect(page.get_by_text("Done.")).to_be_visible(timeout=60_000)
    rows = page.locator("#percentiles tbody tr")
    expect(rows).to_have_count(2)
    for path in ("/predict", "/predict/id"):
        row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=path, exact=True))
        expect(row).to_contain_text("200")
        half, most = (float(row.locator("td").nth(i).inner_text().removesuffix(" ms")) for i in (1, 3))
        assert 0 < half <= most
    page.locator("#histogram .u-over").hover()
    expect(page.locator("#histogram .readout")).to_contain_text("From, ms ")
    page.get_by_text("Show as table").click()
    bins = page.locator("#histogram tbody tr")
    expect(bins.last.locator("th")).to_have_text(re.compile(r"^[\d.]+ and more$"))
    for column in (1, 2):
        texts = page.locator(f"#histogram tbody td:nth-child({column + 1})").all_inner_texts()
        assert sum(map(int, texts)) == 200
    canvas = page.locator("#histogram canvas")
    width = canvas.evaluate("canvas => canvas.width")
    page.set_viewport_size({"width": 900, "height": 844})
    page.wait_for_function("width => document.querySelector('#histogram canvas').width < width", arg=width)
    expect(canvas).to_have_count(1)
