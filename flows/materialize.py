"""Seed the source database from the CSVs, then compute the features and write both stores."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.artifacts import acreate_markdown_artifact
from prefect.states import Completed, State

from flows.report import table
from vroom_features.ingest import SeedReport, seed
from vroom_features.materialize import MaterializeReport, materialize
from vroom_features.settings import Settings
from vroom_features.stores.offline import OfflineStore
from vroom_features.stores.online import OnlineStore
from vroom_features.stores.source import SourceStore

RETRY_DELAYS_S = [1, 5]


@task(retries=2, retry_delay_seconds=RETRY_DELAYS_S, timeout_seconds=1800)
def seed_source(database_url: str, data_dir: Path) -> SeedReport:
    """Bring the source database up to date with the CSVs; repeating it changes nothing."""
    source = SourceStore.open(database_url)
    try:
        return seed(source, data_dir)
    finally:
        source.close()


@task(retries=2, retry_delay_seconds=RETRY_DELAYS_S, timeout_seconds=3600)
def write_stores(settings: Settings, as_of: datetime) -> MaterializeReport:
    """Write the offline and the online store; repeating it writes the same."""
    source = SourceStore.open(settings.source_database)
    try:
        online = OnlineStore.connect(settings.redis)
        return materialize(source, OfflineStore(settings.offline_store), online, as_of=as_of)
    finally:
        source.close()


@flow(name="vroom_forecast_materialize", timeout_seconds=7200)
async def vroom_forecast_materialize(data_dir: str | None = None) -> State[Any]:
    """Seed, then materialize.

    Parameters
    ----------
    data_dir : str, optional
        Folder with ``vehicles.csv`` and ``reservations.csv``; by default the setting ``VROOM_DATA_DIR``.
    """
    settings = Settings()
    folder = Path(data_dir) if data_dir else settings.data_dir
    seeded = seed_source(settings.source_database, folder)
    written = write_stores(settings, datetime.now(UTC))
    report = {"read from": folder, **asdict(seeded), **asdict(written)}
    await acreate_markdown_artifact(table("Materialized", report), key="materialize")
    return Completed(message=f"{seeded}; {written}")
