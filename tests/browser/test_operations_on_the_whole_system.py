"""From new CSVs to another champion and back, by the buttons of the pages, through Prefect and its worker.

The tests build on one another.
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pandas as pd
import psutil
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.chromium import Window
from tests.browser.conftest import WindowOf
from tests.browser.test_other_pages import never_reloaded
from tests.conftest import REAL_FLEET
from tests.promises.system import VEHICLE, System, wait_until

pytestmark = [pytest.mark.browser, pytest.mark.packaging, pytest.mark.timeout(500)]
RUN_TIMEOUT_MS = 90_000


@pytest.fixture
def window(window_of: WindowOf, system: System) -> Window:
    return window_of(system)


def press(button: str, *pages: Page, confirm: str = "", reason: str = "") -> None:
    """Press a button of an action and confirm; on several pages almost at once."""
    confirm = confirm or button
    for page in pages:
        page.get_by_role("button", name=button, exact=True).click()
    for page in pages:
        if reason:
            page.get_by_role("dialog").get_by_role("button", name=confirm).click()  # refused without a reason
            page.get_by_role("dialog").get_by_label("Reason").fill(reason)
        page.get_by_role("dialog").get_by_role("button", name=confirm).click()
    for page in pages:
        page.wait_for_url("**#operations")


def row_of(page: Page, button: str) -> Locator:
    """Return the part of the page with an action's latest run."""
    return page.locator(".operation").filter(has=page.get_by_role("button", name=button))


def ended(page: Page, button: str, state: str = "completed") -> Locator:
    row = row_of(page, button)
    expect(row.locator(".tag").first).to_have_text(state, timeout=RUN_TIMEOUT_MS)
    return row


@contextmanager
def worker_held(system: System) -> Iterator[None]:
    below = psutil.Process(system.process.pid).children(recursive=True)
    (worker,) = [
        process for process in below if "worker" in process.cmdline() and "start" in process.cmdline()
    ]
    worker.suspend()
    try:
        yield
    finally:
        worker.resume()


def num_runs(window: Window) -> int:
    return window.open("/runs").get_by_role("rowheader", name="pipeline").count()


def test_materialize_takes_the_new_csvs_in_and_its_run_is_listed(window: Window, system: System) -> None:
    data_dir = system.data_dir
    if REAL_FLEET.is_dir():  # else the sample goes on
        for name in ("vehicles.csv", "reservations.csv"):
            shutil.copy(REAL_FLEET / name, data_dir)
        system.run("vroom_forecast_materialize", allow_removals=True)
    vehicles = pd.read_csv(data_dir / "vehicles.csv")
    reservations = pd.read_csv(data_dir / "reservations.csv")
    on_the_street = vehicles.loc[vehicles["street_parked"] == 1, "vehicle_id"]
    boom = pd.DataFrame({"vehicle_id": on_the_street.repeat(12), "created_at": "2023-12-30 12:00:00"})
    pd.concat([reservations, boom]).to_csv(data_dir / "reservations.csv", index=False)

    page = window.open("/feature-stores", signed_in=True)
    with worker_held(system):
        press("Materialize", page)
        expect(row_of(page, "Materialize").locator(".tag").first).to_have_text(re.compile("scheduled|late"))
        expect(row_of(page, "Materialize")).to_contain_text("waiting for a worker")
    name = ended(page, "Materialize").get_by_role("link").inner_text().removesuffix(" in Prefect")
    expect(page.get_by_text("Nothing was saved, changed or booked since the last time.")).to_be_visible()
    online = page.get_by_role("region", name="Online store")
    expect(online).to_contain_text("all rows correct")
    expect(online).to_contain_text("in sync")
    page.goto("/runs")
    expect(page.get_by_role("row").filter(has_text=name)).to_contain_text("materialize")
    assert system.get("/vehicles", params={"kind": "fleet"}).json()["total"] == len(vehicles)


def test_training_starts_once_for_two_who_press_and_open_pages_go_over_to_its_model(
    window: Window, system: System
) -> None:
    first, second = (window.open("/models", signed_in=True) for _ in range(2))
    host = window.open("/")
    expect(host.locator("#model-chip")).to_have_text("Model 1")
    before = num_runs(window)
    with worker_held(system):
        press("Train a model", first, second)
        for page in (first, second):
            expect(page.get_by_role("button", name="Train a model")).to_be_disabled()
    under_way = re.compile(r"[A-Z][a-z ]+, for .+ so far")  # a step in words
    expect(row_of(first, "Train a model")).to_contain_text(under_way, timeout=RUN_TIMEOUT_MS)
    row = ended(first, "Train a model")
    expect(row).to_contain_text("Version 2 is better than champion 1")
    prefect = row.get_by_role("link", name="in Prefect")
    expect(prefect).to_have_attribute("href", re.compile(r"/runs/flow-run/[0-9a-f-]{36}$"))
    mlflow = row.get_by_role("link", name=re.compile(r"^model \d+ in MLflow$"))
    expect(mlflow).to_have_attribute("href", re.compile(r"/#/runs/[0-9a-f]{32}$"))
    expect(first.get_by_role("button", name="Train a model")).to_be_enabled()
    assert num_runs(window) == before + 1
    expect(host.locator("#model-chip")).to_have_text("Model 2")
    wait_until(lambda: system.serves(2))
    on_the_street, elsewhere = (
        system.post("/predict", VEHICLE | {"street_parked": value}).json()["predicted_reservations"]
        for value in (1, 0)
    )
    assert on_the_street > elsewhere + 6


def test_a_check_for_drift_shows_on_the_open_page_what_it_found(window: Window) -> None:
    page = window.open("/models", signed_in=True)
    expect(page.get_by_text("Not checked yet.")).to_be_visible()
    press("Check for drift", page)
    with never_reloaded(page):
        ended(page, "Check for drift")
        expect(page.get_by_text("saved cars, checked")).to_be_visible()
        expect(page.get_by_text("Not checked yet.")).to_have_count(0)


def test_a_rollback_brings_the_champion_before_back_once_and_then_fails_with_its_reason(
    window: Window, system: System
) -> None:
    page = window.open("/models", signed_in=True)
    press("Roll back", page, reason="vans are off")
    expect(ended(page, "Roll back")).to_contain_text(
        "Version 1 is champion again, instead of 2: vans are off"
    )
    expect(page.locator("#model-chip")).to_have_text("Model 1")
    wait_until(lambda: system.serves(1))
    expect(page.get_by_role("button", name="Roll back", exact=True)).to_be_disabled()
    system.post("/rollback", {}, headers=system.operator).raise_for_status()
    page.reload()
    message = ended(page, "Roll back", "failed").locator(".outcome")
    expect(message).to_have_text("There is no earlier champion to go back to")


def test_a_version_is_promoted_by_hand_for_a_reason(window: Window, system: System) -> None:
    page = window.open("/models", signed_in=True)
    press("Promote model 2", page, confirm="Promote it", reason="vans are back")
    expect(ended(page, "Promote the candidate")).to_contain_text("vans are back")
    expect(page.locator("#model-chip")).to_have_text("Model 2")
    wait_until(lambda: system.serves(2))
