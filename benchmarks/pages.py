"""How heavy and how quick the pages are: `python -m benchmarks.pages [--vehicles N] [--rounds N]`.

Starts Redis, MLflow and the web app, seeds a generated fleet, trains and promotes a model, and opens every
page in the installed Chromium, with an empty cache and again with what that left in it.  Beside them stands
an empty page of the same server: what it takes is the browser's own time.  The machine's load stands with the
figures, for a paint takes two processors: the browser's part grows with whatever else runs.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
from playwright.sync_api import Browser, StorageState, sync_playwright

from tests.browser.chromium import launch, sign_in
from tests.browser.site import ROOT, Site, running_site
from tests.processes import serve_mlflow

EMPTY = "/benchmark/empty-page"
PAGES = (
    EMPTY,
    "/",
    "/my-cars",
    "/arrivals",
    "/fleet",
    "/models",
    "/models/diagnostics",
    "/feature-stores",
    "/runs",
    "/system",
    "/system/audit",
    "/docs",
)
PAINT = """() => new Promise((done) => new PerformanceObserver((seen) => {
  const paint = seen.getEntriesByName("first-contentful-paint")[0];
  if (paint) done(paint.startTime);
}).observe({ type: "paint", buffered: true }))"""
OPEN_PAGE = """() => {
  const entries = performance.getEntries();
  return {
    bytes: entries.reduce((sum, entry) => sum + (entry.decodedBodySize ?? 0), 0),
    requests: entries.filter((entry) => ["navigation", "resource"].includes(entry.entryType)).length,
    server: performance.getEntriesByType("navigation")[0].responseEnd,
  };
}"""


@dataclass(frozen=True)
class Opened:
    """One page, opened with an empty cache, and then again."""

    num_bytes: int
    num_requests: int
    answer_ms: float
    paint_ms: float
    second_paint_ms: float


def operator_cookies(browser: Browser, site: Site) -> StorageState:
    """Return the cookies of the operator, who sees the most."""
    context = browser.new_context()
    sign_in(context, site)
    state = context.storage_state()
    context.close()
    return state


def open_page(browser: Browser, site: Site, path: str, operator: StorageState) -> Opened:
    """Open a page in a context of its own, as the operator."""
    context = browser.new_context(
        base_url=site.url, viewport={"width": 1280, "height": 900}, storage_state=operator
    )
    page = context.new_page()
    page.goto(path)
    paint_ms = page.evaluate(PAINT)
    found = page.evaluate(OPEN_PAGE)
    again = context.new_page()
    page.close()
    again.goto(path)
    second_paint_ms = again.evaluate(PAINT)
    context.close()
    return Opened(found["bytes"], found["requests"], found["server"], paint_ms, second_paint_ms)


def timed(url: str) -> tuple[float, float, int]:
    """Return milliseconds to the first and the last byte of an answer, and its size."""
    started = time.perf_counter()
    first, num_bytes = 0.0, 0
    with httpx.stream("GET", url, timeout=60) as response:
        response.raise_for_status()
        for chunk in response.iter_bytes():
            first = first or (time.perf_counter() - started) * 1000
            num_bytes += len(chunk)
    return first, (time.perf_counter() - started) * 1000, num_bytes


def start_site(stack: ExitStack, home: Path, num_vehicles: int) -> Site:
    """Start a site with a generated fleet and a champion."""
    mlflow_url = stack.enter_context(serve_mlflow(home))
    folder = home / "site"
    folder.mkdir()
    generator = [sys.executable, str(ROOT / "data" / "generate.py"), "--out", str(home / "csv")]
    subprocess.run([*generator, "--vehicles", str(num_vehicles)], check=True, stdout=subprocess.DEVNULL)
    site = stack.enter_context(running_site(folder, mlflow_url, home / "csv", VROOM_WEB_BENCHMARK="true"))
    site.promote_another()
    return site


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vehicles", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vroom-pages-")))
        site = start_site(stack, home, options.vehicles)
        browser = launch(stack.enter_context(sync_playwright()).chromium)
        stack.callback(browser.close)
        operator = operator_cookies(browser, site)
        for path in PAGES:
            open_page(browser, site, path, operator)  # the server's first time is not a reader's
        rounds = [[open_page(browser, site, path, operator) for path in PAGES] for _ in range(options.rounds)]
        load = os.getloadavg()[0]
        print(f"fleet of {options.vehicles:,}, medians of {options.rounds}, 1280 x 900, load {load:.1f}\n")
        print("| page | kB | requests | HTML there | first contentful paint | the second time |")
        print("|---|---|---|---|---|---|")
        for path, opened in zip(PAGES, zip(*rounds, strict=True), strict=True):
            name = "an empty page" if path == EMPTY else f"`{path}`"
            answer, paint, second = (
                statistics.median(times)
                for times in zip(*((o.answer_ms, o.paint_ms, o.second_paint_ms) for o in opened), strict=True)
            )
            size = max(o.num_bytes for o in opened) / 1000
            requests = max(o.num_requests for o in opened)
            print(
                f"| {name} | {size:.0f} | {requests} | {answer:.0f} ms | {paint:.0f} ms | {second:.0f} ms |"
            )
        print("\n| answer | kB | first byte | last byte |\n|---|---|---|---|")
        for path in ("/fleet/points", "/fleet.csv"):
            taken = sorted(timed(site.url + path) for _ in range(3))
            first, last, num_bytes = taken[1]
            print(f"| `{path}` | {num_bytes / 1000:.0f} | {first:.0f} ms | {last:.0f} ms |")


if __name__ == "__main__":
    main()
