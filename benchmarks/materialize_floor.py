"""The least that seeding and materializing can take: the same rows through the bare drivers.

Nothing is checked, compared, computed, hashed or remembered.  The rows that a run wrote are read first; the
JSON says how long that took, and `benchmarks.materialize` takes the rest, from Python's start, as the floor.
Beside the floor stands what most would write in its place: pandas, without an index, a key or a check.
"""

import json
import os
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import redis
from pyarrow import csv

TABLES = (
    "CREATE TABLE vehicles (vehicle_id INTEGER PRIMARY KEY, technology INTEGER, actual_price REAL,"
    " recommended_price REAL, num_images INTEGER, street_parked INTEGER, description INTEGER)",
    "CREATE TABLE reservations (vehicle_id INTEGER, created_at INTEGER)",
)
QUERIES = (
    "SELECT vehicle_id, technology, actual_price, recommended_price, num_images, street_parked, description,"
    " source, row_version FROM vehicles ORDER BY vehicle_id",
    "SELECT vehicle_id, COUNT(*), MAX(created_at) FROM reservations GROUP BY vehicle_id",
)


def seed(data: Path, database: Path) -> None:
    """Read both files and write both tables, with the index that counting needs."""
    moments = csv.ConvertOptions(column_types={"created_at": pa.timestamp("us")})
    with closing(sqlite3.connect(database)) as connection:
        for pragma in ("page_size=16384", "journal_mode=WAL", "synchronous=FULL"):
            connection.execute(f"PRAGMA {pragma}")
        for table in TABLES:
            connection.execute(table)
        for name, options in (("vehicles", None), ("reservations", moments)):
            for batch in csv.open_csv(data / f"{name}.csv", convert_options=options):
                columns = [_plain(column).to_pylist() for column in batch.columns]
                marks = ", ".join("?" * len(columns))
                connection.executemany(f"INSERT INTO {name} VALUES ({marks})", zip(*columns, strict=True))
        connection.execute("CREATE INDEX booked ON reservations (vehicle_id, created_at)")
        connection.commit()


def _plain(column: pa.Array) -> pa.Array:
    """Return moments as the numbers that SQLite holds."""
    return column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column


def seed_by_pandas(data: Path, database: Path) -> None:
    """Read both files and write both tables, as pandas does it by itself."""
    import pandas as pd  # noqa: PLC0415 - what it takes to import is pandas' own

    with closing(sqlite3.connect(database)) as connection:
        for name, moments in (("vehicles", None), ("reservations", ["created_at"])):
            table = pd.read_csv(data / f"{name}.csv", parse_dates=moments)
            table.to_sql(name, connection, index=False)
        connection.commit()


def materialize(
    database: Path, parts: list[pa.Table], rows: dict[bytes, dict[bytes, bytes]], url: str, out: Path
) -> None:
    """Read what a run reads and write what it wrote."""
    with closing(sqlite3.connect(database)) as connection:
        for query in QUERIES:
            for _ in connection.execute(query):
                pass
    out.mkdir()
    for number, part in enumerate(parts):
        with (out / f"{number}.parquet").open("wb") as file:
            pq.write_table(part, file, compression="lz4")
            file.flush()
            os.fsync(file.fileno())
    with redis.Redis.from_url(url) as client, client.pipeline(transaction=False) as pipeline:
        for key, values in rows.items():
            pipeline.hset(b"floor:" + key, mapping=values)  # type: ignore[arg-type]  # bytes are fine
            pipeline.execute()


def main(what: str, *arguments: str) -> None:
    """Run one of the two, and print how long the preparation took."""
    started, cpu = time.perf_counter(), time.process_time()
    preparation = 0.0, 0.0
    if what == "seed":
        seed(*map(Path, arguments))
    elif what == "pandas":
        seed_by_pandas(*map(Path, arguments))
    else:
        database, offline, url, out = arguments
        root = Path(offline)
        current = json.loads((root / "current.json").read_text())["snapshot"]
        manifest = json.loads((root / "snapshots" / f"{current}.json").read_text())
        parts = [pq.read_table(root / part["file"]) for part in manifest["parts"]]
        with redis.Redis.from_url(url) as client:
            rows = {key: client.hgetall(key) for key in client.scan_iter("*:rows")}
        preparation = time.perf_counter() - started, time.process_time() - cpu
        materialize(Path(database), parts, rows, url, Path(out))
        with redis.Redis.from_url(url) as client:
            client.delete(*(b"floor:" + key for key in rows))
    sys.stdout.write(json.dumps({"preparation_wall_s": preparation[0], "preparation_cpu_s": preparation[1]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
