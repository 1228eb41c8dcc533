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

import adbc_driver_manager as adbc
import adbc_driver_sqlite
import pyarrow as pa
import pyarrow.parquet as pq
import redis
from pyarrow import csv

TABLES = (
    "CREATE TABLE vehicles (vehicle_id INTEGER PRIMARY KEY, technology INTEGER, actual_price REAL,"
    " recommended_price REAL, num_images INTEGER, street_parked INTEGER, description INTEGER)",
    "CREATE TABLE reservations (id INTEGER PRIMARY KEY, vehicle_id INTEGER, created_at INTEGER)",
)
QUERIES = (
    "SELECT vehicle_id, technology, actual_price, recommended_price, num_images, street_parked, description,"
    " source, row_version FROM vehicles ORDER BY vehicle_id",
    "SELECT vehicle_id, COUNT(*), MAX(created_at) FROM reservations GROUP BY vehicle_id",
)
BATCH_ROWS = "65536"


def seed(data: Path, database: Path) -> None:
    """Read both files and write both tables, with the index that counting needs."""
    with adbc_driver_sqlite.connect(str(database)) as opened, adbc.AdbcConnection(opened) as connection:
        for pragma in ("page_size=16384", "journal_mode=WAL", "synchronous=FULL"):
            execute(connection, f"PRAGMA {pragma}")
        connection.set_autocommit(False)
        for table in TABLES:
            execute(connection, table)
        append(connection, "vehicles", csv.open_csv(data / "vehicles.csv"))
        moments = csv.ConvertOptions(column_types={"created_at": pa.timestamp("us")})
        append(connection, "reservations", csv.open_csv(data / "reservations.csv", convert_options=moments))
        execute(connection, "CREATE INDEX booked ON reservations (vehicle_id, created_at)")
        connection.commit()


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
    with adbc_driver_sqlite.connect(str(database)) as opened, adbc.AdbcConnection(opened) as connection:
        for query in QUERIES:
            with adbc.AdbcStatement(connection) as statement:
                statement.set_options(**{"adbc.sqlite.query.batch_rows": BATCH_ROWS})
                statement.set_sql_query(query)
                stream, _ = statement.execute_query()
                with pa.RecordBatchReader.from_stream(stream) as reader:
                    for _ in reader:
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


def execute(connection: adbc.AdbcConnection, sql: str) -> None:
    """Run a statement."""
    with adbc.AdbcStatement(connection) as statement:
        statement.set_sql_query(sql)
        statement.execute_update()


def append(connection: adbc.AdbcConnection, table: str, rows: csv.CSVStreamingReader) -> None:
    """Add rows to a table."""
    target = {"adbc.ingest.target_table": table, "adbc.ingest.mode": "adbc.ingest.mode.append"}
    with adbc.AdbcStatement(connection) as statement:
        statement.set_options(**target)
        statement.bind_stream(rows)
        statement.execute_update()


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
