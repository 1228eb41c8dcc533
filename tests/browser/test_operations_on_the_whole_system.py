"""Train, materialize and roll back from the page, through the real Prefect and its worker."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Window, WindowOf
from tests.whole_system import WholeSystem

pytestmark = [pytest.mark.browser, pytest.mark.system, pytest.mark.timeout(500)]
RUN_TIMEOUT_MS = 90_000


@pytest.fixture
def window(window_of: WindowOf, system: WholeSystem) -> Window:
    """Return a way to look at it."""
    return window_of(system)


def press(button: str, *pages: Page) -> None:
    """Press a button of an action and say yes; on several pages as good as at once."""
    for page in pages:
        page.get_by_role("button", name=button, exact=True).click()
    for page in pages:
        page.get_by_role("dialog").get_by_role("button", name=button).click()
    for page in pages:
        page.wait_for_url("**#operations")


def row_of(page: Page, button: str) -> Locator:
    """Return where the page tells how the latest run of an action stands."""
    return page.locator(".operation").filter(has=page.get_by_role("button", name=button))


def num_runs(page: Page) -> int:
    """Return how many runs of the pipeline are listed."""
    return page.get_by_role("rowheader", name="pipeline").count()


def test_training_starts_once_for_two_who_press_and_ends_in_a_clear_outcome(window: Window) -> None:
    first, second = (window.open("/models", signed_in=True) for _ in range(2))
    before = num_runs(window.open("/runs"))
    press("Train a model", first, second)
    row = row_of(first, "Train a model")
    expect(first.get_by_role("button", name="Train a model")).to_be_disabled()
    expect(row.locator(".tag").first).to_have_text("completed", timeout=RUN_TIMEOUT_MS)
    expect(row).to_contain_text("champion already")
    prefect = row.get_by_role("link", name="in Prefect")
    expect(prefect).to_have_attribute("href", re.compile(r"/runs/flow-run/[0-9a-f-]{36}$"))
    mlflow = row.get_by_role("link", name=re.compile(r"^model \d+ in MLflow$"))
    expect(mlflow).to_have_attribute("href", re.compile(r"/#/runs/[0-9a-f]{32}$"))
    expect(first.get_by_role("button", name="Train a model")).to_be_enabled()
    assert num_runs(window.open("/runs")) == before + 1


def test_promoting_a_champion_again_ends_with_the_reason_against_it(window: Window) -> None:
    page = window.open("/models", signed_in=True)
    press("Promote the candidate", page)
    row = row_of(page, "Promote the candidate")
    expect(row.locator(".tag").first).to_have_text("completed", timeout=RUN_TIMEOUT_MS)
    expect(row).to_contain_text("champion already")
    expect(page.locator("#model-chip")).to_have_text("Model 1")


def test_materialize_shows_its_outcome_and_the_run_is_listed(window: Window) -> None:
    page = window.open("/feature-stores", signed_in=True)
    press("Materialize", page)
    row = page.locator(".operation").first
    expect(row.locator(".tag").first).not_to_have_text("completed")
    expect(row.locator(".tag").first).to_have_text("completed", timeout=RUN_TIMEOUT_MS)
    name = row.get_by_role("link").inner_text().removesuffix(" in Prefect")
    online = page.get_by_role("region", name="Online store")
    expect(online).to_contain_text("every row right")
    expect(online).to_contain_text("in step")
    page.goto("/runs")
    expect(page.get_by_role("row").filter(has_text=name)).to_contain_text("materialize")


def test_a_rollback_without_an_earlier_champion_fails_with_its_reason(window: Window) -> None:
    page = window.open("/models", signed_in=True)
    press("Roll back", page)
    row = row_of(page, "Roll back")
    expect(row.locator(".tag").first).to_have_text("failed", timeout=RUN_TIMEOUT_MS)
    expect(row).to_contain_text("no earlier champion")
