"""The commands of the library and its stores: seed, materialize, audit, backup, restore, upgrade."""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from cyclopts.validators import Number
from rich.console import Console
from rich.progress import Progress

from vroom_features.addresses import ServiceAddress
from vroom_features.checks import check_database, check_redis, sqlite_address
from vroom_features.database import backup as backups
from vroom_features.database.mlflow_backup import DATABASE, back_up_mlflow, refuse_loss, restore_mlflow
from vroom_features.database.tables import SCHEMA_VERSION
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import SettingsError, SourceStoreError, VroomFeaturesError
from vroom_features.ingest.seed import seed as seed_database
from vroom_features.materialize import materialize as materialize_stores
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.online.store import OnlineStore
from vroom_features.online.sync import audit as audit_store
from vroom_features.settings import read_settings
from vroom_features.watch import end_of_past_day

STARTED = time.perf_counter()
app = App(
    name="vroom", version_flags=[], help="Seed the source database, write both stores, audit and back up."
)

Db = Annotated[str | None, Parameter(help="database file or URL; by default VROOM_DATABASE_URL")]
Offline = Annotated[
    str | None, Parameter(help="offline store, a folder or URL; by default VROOM_OFFLINE_URL")
]
RedisUrl = Annotated[str | None, Parameter(help="online store; empty for none; by default VROOM_REDIS_URL")]
Json = Annotated[bool, Parameter(name="--json", negative="", help="print one line of JSON")]


@app.command
def seed(
    *,
    data_dir: Annotated[Path | None, Parameter(help="folder of the two CSV files")] = None,
    db: Db = None,
    max_bad_share: Annotated[
        float | None,
        Parameter(
            help="refuse a file with more bad rows; by default VROOM_MAX_BAD_SHARE",
            validator=Number(gte=0, lte=1),
        ),
    ] = None,
    allow_removals: Annotated[
        bool, Parameter(negative="", help="remove whatever the files lack, however much it is")
    ] = False,
    complete_through: Annotated[
        date | None,
        Parameter(help="day through which bookings are complete; by default that of the last one"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write vehicles.csv and reservations.csv to the database."""
    settings = read_settings()
    with closing(SourceStore.open(_database(db))) as source, _progress() as progress:
        report = seed_database(
            source,
            data_dir or settings.data_dir,
            max_bad_share=settings.max_bad_share if max_bad_share is None else max_bad_share,
            max_removed_vehicle_share=settings.max_removed_vehicle_share,
            max_removed_reservation_share=settings.max_removed_reservation_share,
            allow_removals=allow_removals,
            watch_days=settings.watch_days or None,
            complete_through=complete_through,
            now=datetime.now(UTC),
            progress=progress,
        )
    state = "unchanged, the database was up to date" if report.is_unchanged else "done"
    if report.has_new_length:
        state += "; a watch has another length, so materialize and train a new model"
    _print("seed", state, asdict(report), as_json=as_json)


@app.command
def materialize(
    *,
    db: Db = None,
    offline: Offline = None,
    redis_url: RedisUrl = None,
    partition_vehicles: Annotated[
        int | None,
        Parameter(help="vehicles at a time; by default VROOM_PARTITION_VEHICLES", validator=Number(gte=1)),
    ] = None,
    keep_snapshots: Annotated[
        int | None,
        Parameter(help="snapshots that stay; by default VROOM_KEEP_SNAPSHOTS", validator=Number(gte=1)),
    ] = None,
    as_of: Annotated[
        date | None, Parameter(help="a past day (UTC): make its snapshot and leave the current one as it is")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compute the features; write the fleet to the offline store and new arrivals to the online store."""
    settings = read_settings()
    now = datetime.now(UTC)
    moment = end_of_past_day(as_of, now) if as_of else None
    with closing(_existing_source(db)) as source:
        report = materialize_stores(
            source,
            OfflineStore(offline or settings.offline_store),
            None if moment else _online(redis_url),
            now=now,
            as_of=moment,
            partition_vehicles=partition_vehicles or settings.partition_vehicles,
            keep_snapshots=keep_snapshots or settings.keep_snapshots,
        )
    if as_of:
        state = f"done, the snapshot of the end of {as_of}"
    elif report.is_unchanged:
        state = "unchanged, the stores were up to date"
    elif report.num_online is None:
        state = "done, the offline store alone: no Redis was given"
    elif report.num_online_missing:
        state = f"done, but {report.num_online_missing} new arrivals are missing in Redis"
    else:
        state = "done"
    _print("materialize", state, asdict(report), as_json=as_json)


@app.command
def audit(*, db: Db = None, redis_url: RedisUrl = None, as_json: Json = False) -> int:
    """Compare every online row with the pure functions on the database; exit with 1 if any differs."""
    online = _online(redis_url)
    if online is None:
        raise VroomFeaturesError("audit needs the online store; give --redis-url")
    with closing(_existing_source(db)) as source:
        report = audit_store(source, online, as_of=datetime.now(UTC))
    state = "clean" if report.is_clean else "rows differ; run materialize and audit again"
    _print("audit", state, asdict(report), as_json=as_json)
    return 0 if report.is_clean else 1


@app.command
def backup(
    *,
    to: Annotated[Path, Parameter(help="file to make; it must not exist")],
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Copy the source database while it is in use, and with it the embedded MLflow, unless --db is given."""
    mlflow, part = _embedded_mlflow(db), _mlflow_part(to)
    state = backups.back_up(_database(db), to)
    if mlflow is not None and (mlflow / DATABASE).is_file():
        try:
            back_up_mlflow(mlflow, part)
        except BaseException:
            to.unlink()  # both parts or none
            raise
    report = asdict(state) | {"mlflow": str(part) if part.exists() else "not in this backup"}
    _print("backup", f"{to} is made and read back", report, as_json=as_json)


@app.command
def restore(
    *,
    origin: Annotated[Path, Parameter(name="--from", help="file that backup made")],
    db: Db = None,
    force: Annotated[bool, Parameter(negative="", help="lose changes that the backup lacks")] = False,
    as_json: Json = False,
) -> None:
    """Replace the database by a backup; then run materialize, which fills both stores again."""
    part = _mlflow_part(origin)
    mlflow = _embedded_mlflow(db) if part.exists() else None
    if mlflow is not None:
        refuse_loss(part, mlflow, force=force)
    state = backups.restore(_database(db), origin, force=force)
    if mlflow is not None:
        restore_mlflow(part, mlflow)
    report = asdict(state) | {"mlflow": str(part) if mlflow else "not restored"}
    _print("restore", "done, now run materialize", report, as_json=as_json)


@app.command
def upgrade(*, db: Db = None, as_json: Json = False) -> None:
    """Upgrade the database's schema, as every program does that opens it."""
    SourceStore.open(_database(db)).close()
    _print("upgrade", "done", {"schema_version": SCHEMA_VERSION}, as_json=as_json)


def _database(db: str | None) -> ServiceAddress:
    """Return the address of a database; a path is a SQLite file."""
    if db is None:
        return read_settings().source_database
    with _refused("--db"):
        return check_database(ServiceAddress(db) if "://" in db else sqlite_address(db))


def _existing_source(db: str | None) -> SourceStore:
    """Open a database that exists; only a seed makes one."""
    address = _database(db)
    path = backups.sqlite_path(address)
    if path is not None and not path.is_file():
        raise SourceStoreError(f"there is no database {path}; seed it first")
    return SourceStore.open(address)


def _embedded_mlflow(db: str | None) -> Path | None:
    """Return the folder of the MLflow that `make run` starts; None if MLflow or the database is another."""
    settings = read_settings()
    return None if db is not None or settings.mlflow_uri else settings.home / "mlflow"


def _mlflow_part(backup: Path) -> Path:
    """Return the file of MLflow's part of a backup."""
    return backup.with_name(f"{backup.name}.mlflow.tar")


def _online(url: str | None) -> OnlineStore | None:
    """Return the online store; None for an empty URL."""
    if url == "":
        return None
    with _refused("--redis-url"):
        address = read_settings().redis if url is None else check_redis(ServiceAddress(url))
    return OnlineStore.connect(address, read_settings().redis_prefix)


@contextmanager
def _refused(option: str) -> Iterator[None]:
    """Name the option in the error of its value."""
    try:
        yield
    except ValueError as exc:
        raise VroomFeaturesError(f"{option}: {exc}") from exc


@contextmanager
def _progress() -> Iterator[Any]:
    """Yield a function that draws the progress of a step on a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    with Progress(console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def show(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step, total=total)
            bars.update(tasks[step], completed=done)

        yield show


def _print(command: str, state: str, report: dict[str, Any], *, as_json: bool) -> None:
    """Print the report of a command, for a program or for people."""
    seconds = round(time.perf_counter() - STARTED, 3)
    if as_json:
        line = json.dumps({"command": command, "state": state, **report, "seconds": seconds})
        sys.stdout.write(f"{line}\n")
        return
    rows = "\n".join(
        f"  {name.replace('_', ' '):<26}{'; '.join(value) if isinstance(value, tuple) else value}"
        for name, value in report.items()
        if value != ()
    )
    sys.stdout.write(f"{command}: {state} ({seconds} s)\n{rows}\n")


def main() -> None:
    """Run a command; an error is one line, and files that it writes are readable by their owner alone."""
    os.umask(0o077)
    try:
        sys.exit(app(sys.argv[1:]))
    except SettingsError as exc:
        sys.stderr.write(f"{exc}\n")
        sys.exit(2)
    except VroomFeaturesError as exc:
        sys.stderr.write(f"error: {exc}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
