"""How fast a large fleet is listed: `python -m benchmarks.listing [--vehicles N N] [--database-url URL]`.

Generates the fleets, seeds a database with each, and asks the app for parts of the JSON list and for pages as
a browser would, without HTTP.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from flask.testing import FlaskClient

from vroom_features.database.vehicles import SourceStore
from vroom_features.ingest.seed import seed
from vroom_features.settings import Settings
from webapp.app import create_app

GENERATOR = Path(__file__).parents[1] / "data" / "generate.py"
REPEATS = 7


def paths(num_vehicles: int) -> dict[str, str]:
    """Return what is asked for."""
    last = num_vehicles // 50
    return {
        "first page": "/vehicles",
        "last page": f"/vehicles?page={last}",
        "fleet only": "/vehicles?kind=fleet",
        "new arrivals": "/vehicles?kind=new",
        "by price": "/vehicles?sort=actual_price&descending=true",
        "by price, last page": f"/vehicles?sort=actual_price&page={last}",
        "by bookings": "/vehicles?sort=num_reservations&descending=true",
        "search by id": "/vehicles?search=12",
        "page: new arrivals": "/arrivals",
        "page: fleet": "/fleet",
        "page: fleet by price": "/fleet?sort=actual_price&order=desc",
        "page: fleet by bookings": "/fleet?sort=num_reservations&order=desc",
    }


def milliseconds(client: FlaskClient, path: str) -> float:
    """Return the median time of an answer."""
    seen = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        response = client.get(path)
        seen.append((time.perf_counter() - began) * 1000)
        if response.status_code != 200:
            raise RuntimeError(f"{path}: {response.status}")
    return statistics.median(seen)


def unchanged_milliseconds(client: FlaskClient, path: str) -> float:
    """Return the time of a 304."""
    known = {"If-None-Match": client.get(path).headers["ETag"]}
    began = time.perf_counter()
    response = client.get(path, headers=known)
    if response.status_code != 304:
        raise RuntimeError(f"{path}: {response.status}")
    return (time.perf_counter() - began) * 1000


def measure(num_vehicles: int, database_url: str) -> dict[str, float]:
    """Return milliseconds by what was asked for."""
    with tempfile.TemporaryDirectory(prefix="vroom-benchmark-") as name:
        folder = Path(name)
        command = [sys.executable, str(GENERATOR), "--out", str(folder), "--vehicles", str(num_vehicles)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        url = database_url or f"sqlite:///{folder / 'vroom.db'}"
        source = SourceStore.open(url)
        seed(source, folder)
        source.close()
        nobody = "127.0.0.1:9"  # the list needs neither Redis nor MLflow
        settings = Settings(
            _env_file=None,
            home=folder / "home",
            database_url=url,
            redis_url=f"redis://{nobody}/0",
            mlflow_uri=f"http://{nobody}",
        )
        app = create_app(settings)
        client = app.test_client()
        found = {label: milliseconds(client, path) for label, path in paths(num_vehicles).items()}
        found["by bookings, unchanged (304)"] = unchanged_milliseconds(
            client, "/vehicles?sort=num_reservations&descending=true"
        )
        app.extensions["vroom"].close()
        return found


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--vehicles", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--database-url", default="", help="an empty PostgreSQL database; without it SQLite")
    options = parser.parse_args()
    os.environ["VROOM_LOG_FORMAT"] = "json"
    tables = {number: measure(number, options.database_url) for number in options.vehicles}
    print(f"{'ms, median of ' + str(REPEATS):<34}" + "".join(f"{number:>14,}" for number in tables))
    for label in next(iter(tables.values())):
        print(f"{label:<34}" + "".join(f"{table[label]:14.1f}" for table in tables.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
