"""Fleets whose watch is ten days long, for tests of counts, labels and snapshots of the past."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from tests.factories import make_vehicle
from tests.vroom_features.files import vehicle_line, write_csvs
from vroom_features.database.vehicles import SourceStore
from vroom_features.ingest.seed import SeedReport, seed
from vroom_features.offline.snapshots import OfflineStore

L = 10
FIRST = [(1, day) for day in range(1, 11)]
"""Bookings of the first ten days of January, so a watch is ten days long and complete through the 10th."""


def at(day: int, hour: int = 12) -> datetime:
    """Return a moment of January 2023, or after it."""
    return datetime(2023, 1, 1, hour, tzinfo=UTC) + timedelta(days=day - 1)


def seed_days(
    source: SourceStore, folder: Path, ids: list[int], bookings: list[tuple[int, int]], **options: Any
) -> SeedReport:
    lines = [f"{vehicle_id},{at(day)}" for vehicle_id, day in bookings]
    return seed(source, write_csvs(folder, map(vehicle_line, ids), lines), **options)


def save(source: SourceStore, day: int, **changes: object) -> int:
    return source.save_vehicle(make_vehicle(**changes), saved_at=at(day)).vehicle.vehicle_id


def rows_of(offline: OfflineStore) -> dict[int, tuple[float | None, float | None]]:
    """Return count and label of each vehicle in the current snapshot."""
    return counts_in(offline.current().read())


def counts_in(frame: pd.DataFrame) -> dict[int, tuple[float | None, float | None]]:
    known = frame[["num_reservations", "training_label"]].astype(object)
    known = known.where(known.notna(), None)
    return dict(zip(frame["vehicle_id"].tolist(), map(tuple, known.to_numpy().tolist()), strict=True))
