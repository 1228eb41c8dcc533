"""What an operator sees and may do: the candidate, the history, sign-in, and what Prefect's absence means."""

import pytest
import redis
from playwright.sync_api import expect

from tests.browser.conftest import Window
from tests.browser.site import PASSWORD, Site
from tests.factories import make_vehicle
from webapp.services import now
from webapp.serving.worker_heartbeat import KEY, WorkerState

pytestmark = pytest.mark.browser


def test_a_refused_candidate_stands_beside_the_champion_with_the_reason(window: Window, site: Site) -> None:
    page = window.open("/models")
    champion = page.locator("#model-chip").inner_text()
    version = site.register_another()
    outcome = site.promote()
    assert not outcome.promoted
    page.reload()
    section = page.get_by_role("region", name=f"Model {version} waits")
    expect(section).to_contain_text("Not promoted")
    expect(section).to_contain_text(outcome.decision.reason[1:])
    expect(section).to_contain_text(f"{outcome.decision.candidate_mae:.2f}")
    expect(page.locator("#model-chip")).to_have_text(champion)


def test_the_history_tells_who_served_and_why(window: Window, site: Site) -> None:
    version = site.promote_another()
    page = window.open("/models")
    latest = page.get_by_role("region", name="Who served when").locator("tbody tr").first
    expect(latest.locator("th")).to_have_text(str(version))
    expect(latest).to_contain_text("by force")
    expect(latest).to_contain_text("these tests need another champion")


def test_every_worker_is_listed_with_its_model(window: Window, site: Site) -> None:
    page = window.open("/models")
    version = page.locator("#model-chip").inner_text().removeprefix("Model ")
    rows = page.get_by_role("region", name="Which worker serves what").locator("tbody tr")
    expect(rows).to_have_count(2)
    for row in rows.all():
        expect(row.locator("td").first).to_have_text(version)


def test_a_worker_that_takes_a_model_over_later_is_followed(window: Window, site: Site) -> None:
    with redis.Redis.from_url(site.redis_url) as roster:

        def beat(version: int) -> None:
            state = WorkerState(
                worker="another:1", model_version=version, since=None, problem="", seen_at=now()
            )
            roster.set(f"{KEY}another:1", state.model_dump_json(), ex=60)

        beat(998)
        page = window.open("/models")
        serves = page.get_by_role("row").filter(has_text="another:1").locator("td").first
        expect(serves).to_have_text("998")
        beat(999)
        expect(serves).to_have_text("999")
        roster.delete(f"{KEY}another:1")


def test_the_models_page_measures_on_cars_the_model_had_not_seen(window: Window) -> None:
    page = window.open("/models")
    error, guess = (
        float(page.locator("dt", has_text=text).locator("xpath=following-sibling::dd[1]").inner_text())
        for text in ("Typical error", "A plain guess")
    )
    assert 0 < error < guess
    expect(page.get_by_role("region", name="Where it errs").locator("tbody tr")).to_have_count(4)
    expect(page.locator("#calibration")).to_have_text("Expected and real")
    expect(page.locator("[data-chart=calibration] canvas")).to_be_visible()


def test_without_prefect_nothing_can_be_started_and_the_page_says_so(window: Window) -> None:
    page = window.open("/models", signed_in=True)
    expect(page.get_by_text("Prefect is away, so nothing can be started here.")).to_be_visible()
    expect(page.get_by_role("button", name="Train a model")).to_be_disabled()
    page.goto("/runs")
    expect(page.get_by_text("Prefect is away.")).to_be_visible()


def test_reload_asks_and_tells_what_serves(window: Window) -> None:
    page = window.open("/models", signed_in=True)
    version = page.locator("#model-chip").inner_text()
    page.get_by_role("button", name="Reload").click()
    page.get_by_role("dialog").get_by_role("button", name="Reload").click()
    expect(page.locator("main .notice").first).to_have_text(f"{version} serves.")


def test_a_visitor_may_look_but_not_start(window: Window) -> None:
    page = window.open("/models")
    assert page.get_by_role("button", name="Train a model").count() == 0
    token = page.request.get("/").text().split('name="csrf_token" value="')[1].split('"')[0]
    refused = page.request.post("/operations/train", form={"csrf_token": token, "confirmed": "yes"})
    assert refused.status == 401


def test_a_cookie_without_the_forms_token_starts_nothing(window: Window) -> None:
    page = window.open("/models", signed_in=True)
    refused = page.request.post("/operations/train", form={"confirmed": "yes"})
    assert refused.status == 403


def test_the_operator_signs_in_with_the_password_and_out_again(window: Window) -> None:
    page = window.open("/models")
    page.get_by_role("link", name="Sign in").first.click()
    page.get_by_label("Password").fill("a wrong one")
    page.get_by_role("main").get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("That is not the operator's password.")).to_be_visible()
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("main").get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(f"{window.site.url}/models")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("link", name="Sign in").first).to_be_visible()


def test_an_action_with_scripts_off_is_confirmed_on_a_page_of_its_own(window: Window) -> None:
    page = window.open("/models", scripts=False, signed_in=True)
    token = page.locator("form[action$='/operations/train'] input[name=csrf_token]").get_attribute("value")
    asked = page.request.post("/operations/train", form={"csrf_token": token or ""})
    assert "Train a model on the latest snapshot?" in asked.text()
    assert 'name="confirmed" value="yes"' in asked.text()


def test_the_stores_page_shows_the_snapshot_and_the_arrivals(window: Window, site: Site) -> None:
    snapshot = site.offline.current()
    page = window.open("/feature-stores")
    row = page.get_by_role("region", name="Offline store").locator("tbody tr").first
    expect(row).to_contain_text(snapshot.id)
    expect(row).to_contain_text("1,000")
    expect(row).to_contain_text("current")
    expect(page.get_by_role("region", name="Online store")).to_contain_text("in step", timeout=15_000)


def test_open_lists_show_a_car_that_another_program_put_into_the_database(window: Window, site: Site) -> None:
    stores, arrivals = window.open("/feature-stores"), window.open("/arrivals")
    for page in (stores, arrivals):
        page.evaluate("window.neverReloaded = true")
    saved = site.source.save_vehicle(make_vehicle(actual_price=37.37), saved_at=now()).vehicle
    row = arrivals.locator(f"#vehicle-{saved.vehicle_id}")
    expect(row).to_contain_text("fresh", timeout=15_000)
    keys = stores.locator("dt", has_text="Keys").locator("xpath=following-sibling::dd[1]")
    expect(keys).to_have_text(str(site.source.count_vehicles().new_arrivals), timeout=15_000)
    expect(stores.get_by_role("region", name="Online store")).to_contain_text("in step")
    for page in (stores, arrivals):
        assert page.evaluate("window.neverReloaded")
