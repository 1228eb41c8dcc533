"""Take the pictures of ``docs/screenshots``: each page, light and dark, narrow and wide.

``python -m tests.browser.screenshots`` starts the whole system with the sample fleet, fills it, looks at it.
"""

import io
import json
import random
import tempfile
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.chromium import Window, launch
from tests.promises.system import MODEL_NAME, ROOT, System, running
from vroom_features.offline.snapshots import OfflineStore, Snapshot
from vroom_model.registry.registry import Registry
from vroom_model.training.boosting import TrainingParams
from vroom_model.training.register import train_candidate

FOLDER = ROOT / "docs" / "screenshots"
PAGES = {
    "forecast": "/",
    "my-cars": "/my-cars",
    "arrivals": "/arrivals",
    "fleet": "/fleet?sort=num_reservations&order=desc",
    "models": "/models",
    "stores": "/feature-stores",
    "runs": "/runs",
    "system": "/system",
    "sign-in": "/sign-in",
}
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
SIZES = {"": (1280, 900), "-phone": (390, 844)}
NUM_COLOURS = 96
NUM_ARRIVALS = 12


def fill(system: System) -> None:
    """Save a few vehicles, the same ones each time."""
    rng = random.Random(7)
    for _ in range(NUM_ARRIVALS):
        market = rng.randint(35, 90)
        system.save(
            technology=rng.randint(0, 1),
            actual_price=round(market * rng.uniform(0.85, 1.8), 2),
            recommended_price=float(market),
            num_images=rng.randint(1, 5),
            street_parked=rng.randint(0, 1),
            description=rng.randint(20, 250),
        )


def settle(page: Page) -> None:
    """Wait until a page shows what it has to show."""
    page.wait_for_load_state("networkidle")
    if page.url.endswith("/system"):
        page.get_by_role("button", name="Measure").click()
        page.locator("#histogram canvas").wait_for(timeout=60_000)
    page.evaluate("document.fonts.ready")


def picture(page: Page, path: Path) -> None:
    """Write what the window shows, in few colours, which keeps the repository small."""
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    image.quantize(NUM_COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


def compare_in_mlflow(browser: Browser, mlflow: str, fleet: Snapshot) -> None:
    """Train three models, and take what MLflow shows of their differences."""
    with Registry(mlflow, MODEL_NAME) as registry:
        runs = [
            train_candidate(registry, fleet, as_of=fleet.created_at, params=params).version.run_id
            for params in (TrainingParams(), TrainingParams(num_rounds=15), TrainingParams(max_depth=2))
        ]
        found = registry.api.get("experiments/get-by-name", experiment_name=MODEL_NAME)
    experiments = [found["experiment"]["experiment_id"]]
    page = browser.new_page(viewport={"width": 1100, "height": 1500})
    page.goto(f"{mlflow}/#/compare-runs?runs={json.dumps(runs)}&experiments={json.dumps(experiments)}")
    page.get_by_role("button", name="Close").click()  # of a chat
    page.get_by_role("button", name="Visualizations").click()
    page.get_by_role("switch", name="Parameters - Show diff only").click()
    page.get_by_text("price_10_to_30_above_market").first.wait_for()
    picture(page, FOLDER / "mlflow-comparison.png")
    page.close()


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="vroom-") as home,
        running(Path(home), ROOT / "data") as system,
        sync_playwright() as playwright,
        launch(playwright.chromium) as browser,
    ):
        fill(system)
        page = Window(browser, system).open(signed_in=True)
        for price in (47, 62):
            page.goto(f"/?actual_price={price}")
            page.get_by_role("button", name="Save this car").click()
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            for size, (width, height) in SIZES.items():
                page.set_viewport_size({"width": width, "height": height})
                for name, path in PAGES.items():
                    page.goto(path)
                    settle(page)
                    picture(page, FOLDER / f"{name}{size}-{scheme}.png")
        compare_in_mlflow(browser, system.mlflow, OfflineStore(system.home / "offline").current())


if __name__ == "__main__":
    main()
