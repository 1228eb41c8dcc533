"""How long a stranger waits: `python -m benchmarks.start [--install]`.

Starts the whole system in a folder of its own, as `make run` does, and prints when the page answers and when
it forecasts; beside it, in the same run, the Prefect server alone with a new database.  With `--install` it
first installs everything in a fresh clone with an empty package cache.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.processes import ROOT, running, wait_for
from flows.local.up import child_environment
from tests.processes import system_settings
from tests.promises.system import VEHICLE

GIVE_UP_S = 300


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--install", action="store_true", help="install from an empty package cache first")
    options = parser.parse_args()
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="vroom-") as name:
        installed = install(Path(name)) if options.install else None
        page, forecast = start(Path(name) / "system")
        reference = prefect_alone(Path(name) / "prefect")
    if installed is not None:
        print(f"install from an empty cache        {installed:7.1f} s")
        print(f"nothing to a forecasting page      {installed + forecast:7.1f} s   (promised: 60)")
    print(f"installed to a page                {page:7.1f} s")
    print(f"installed to a forecasting page    {forecast:7.1f} s")
    print(f"the Prefect server alone           {reference:7.1f} s   ({forecast / reference:.1f} x)")


def install(folder: Path) -> float:
    """Return how long `make install` takes in a fresh clone that finds no package on this machine."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder / "clone")], check=True)
    caches = {"UV_CACHE_DIR": str(folder / "uv"), "PIP_CACHE_DIR": str(folder / "pip")}
    began = time.perf_counter()
    subprocess.run(
        ["make", "--silent", "install", f"PYTHON={sys.base_prefix}/bin/python3"],
        cwd=folder / "clone",
        env=os.environ | caches,
        check=True,
    )
    return time.perf_counter() - began


def start(home: Path) -> tuple[float, float]:
    """Return when the page answered and when it forecast, in seconds from the start."""
    settings = system_settings(home)
    url = f"http://127.0.0.1:{settings.web_port}"
    began = time.perf_counter()
    with running(
        [sys.executable, "-m", "flows", "up"], child_environment(settings), home.with_suffix(".log")
    ):
        wait_for(f"{url}/", timeout_s=GIVE_UP_S)
        page = time.perf_counter() - began
        wait_for(f"{url}/predict", body=VEHICLE, timeout_s=GIVE_UP_S)
        return page, time.perf_counter() - began


def prefect_alone(home: Path) -> float:
    """Return when a Prefect server with a new database answered, in seconds from the start."""
    settings = system_settings(home)
    home.mkdir()
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(settings.prefect_port)]
    began = time.perf_counter()
    with running(command, child_environment(settings), home / "log"):
        wait_for(f"http://127.0.0.1:{settings.prefect_port}/api/health", timeout_s=GIVE_UP_S)
        return time.perf_counter() - began


if __name__ == "__main__":
    main()
