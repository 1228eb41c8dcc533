"""Take the pictures of ``docs/screenshots``: each page, light and dark, narrow and wide.

``python -m tests.browser.screenshots`` starts the whole system with the sample fleet, fills it, looks at it.
"""

import io
import random
import tempfile
from contextlib import ExitStack
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tests.browser.chromium import launch
from tests.browser.site import ROOT, sign_in
from tests.factories import VEHICLE
from tests.whole_system import whole_system

FOLDER = ROOT / "docs" / "screenshots"
PAGES = {
    "forecast": "/",
    "arrivals": "/arrivals",
    "fleet": "/fleet?sort=num_reservations&order=desc",
    "models": "/models",
    "stores": "/feature-stores",
    "runs": "/runs",
    "latency": "/latency",
    "sign-in": "/sign-in",
}
SIZES = {"": (1280, 900), "-phone": (390, 844)}
NUM_COLOURS = 96
NUM_ARRIVALS = 12


def fill(url: str) -> None:
    """Save a few vehicles, the same ones each time."""
    rng = random.Random(7)
    for _ in range(NUM_ARRIVALS):
        market = rng.randint(35, 90)
        vehicle = VEHICLE | {
            "technology": rng.randint(0, 1),
            "actual_price": round(market * rng.uniform(0.85, 1.8), 2),
            "recommended_price": float(market),
            "num_images": rng.randint(1, 5),
            "street_parked": rng.randint(0, 1),
            "description": rng.randint(20, 250),
        }
        httpx.post(f"{url}/vehicles", json=vehicle).raise_for_status()


def settle(page: Page) -> None:
    """Wait until a page shows what it has to show."""
    page.wait_for_load_state("networkidle")
    if page.url.endswith("/latency"):
        page.get_by_role("button", name="Measure").click()
        page.locator("#histogram canvas").wait_for(timeout=60_000)
    page.evaluate("document.fonts.ready")


def picture(page: Page, path: Path) -> None:
    """Write what the window shows, in few colours, which keeps the repository small."""
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    image.quantize(NUM_COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    """Take all pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vroom-")))
        system = stack.enter_context(whole_system(home))
        fill(system.url)
        browser = stack.enter_context(sync_playwright()).chromium
        chromium = launch(browser)
        for scheme in ("light", "dark"):
            for size, (width, height) in SIZES.items():
                context = chromium.new_context(
                    base_url=system.url,
                    color_scheme=scheme,
                    viewport={"width": width, "height": height},
                    reduced_motion="reduce",
                )
                sign_in(context, system)
                page = context.new_page()
                for name, path in PAGES.items():
                    page.goto(path)
                    settle(page)
                    picture(page, FOLDER / f"{name}{size}-{scheme}.png")
                context.close()
        chromium.close()


if __name__ == "__main__":
    main()
