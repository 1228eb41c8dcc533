"""Snapshots in memory, from the CSV files of a fleet."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vroom_features.features import num_reservations, training_label
from vroom_features.offline.snapshots import Snapshot
from vroom_features.vehicle import UI_VEHICLE_ID_START
from vroom_features.view import VEHICLE_VIEW
from vroom_features.watch import Watch

SAMPLE = Path(__file__).parents[1] / "data"
CREATED_AT = datetime(2026, 1, 1, tzinfo=UTC)
WATCH = Watch(365, date(2023, 12, 31))


class FrameSnapshot(Snapshot):
    """A snapshot in memory that has a watch, and that a test can change."""

    @classmethod
    def of(cls, rows: pd.DataFrame, **known: Any) -> "FrameSnapshot":  # fields of a snapshot
        watch = {"watch_days": WATCH.days, "complete_through": WATCH.complete_through}
        return replace(cls.of_frame(rows, created_at=CREATED_AT), **watch | known)  # type: ignore[return-value]

    @property
    def frame(self) -> pd.DataFrame:
        return self.read()

    def changed(self, change: Callable[[pd.DataFrame], pd.DataFrame]) -> "FrameSnapshot":
        return self.of(change(self.frame))


def read_fleet(folder: Path = SAMPLE) -> FrameSnapshot:
    """Return the fleet in a folder's two CSV files as a snapshot."""
    vehicles = pd.read_csv(folder / "vehicles.csv").assign(source="csv", watch_start=WATCH.start)
    reservations = pd.read_csv(folder / "reservations.csv")
    reservations["created_at"] = pd.to_datetime(reservations["created_at"], utc=True)
    label = training_label(
        vehicles, reservations, watch_days=WATCH.days, complete_through=WATCH.complete_through
    )
    count = num_reservations(vehicles, reservations)
    features = pd.DataFrame(VEHICLE_VIEW.compute(vehicles))  # type: ignore[arg-type]  # a frame maps its columns
    kept = vehicles[[VEHICLE_VIEW.join_key, *VEHICLE_VIEW.attributes, "watch_start"]]
    return FrameSnapshot.of(pd.concat([kept, features, count, label], axis=1))


def with_booked_arrivals(fleet: FrameSnapshot, num_arrivals: int = 800) -> FrameSnapshot:
    """Return the fleet and vehicles of the web form: like its own, but watched for 90 days of a year."""
    rng = np.random.default_rng(0)
    arrivals = fleet.frame.sample(num_arrivals, replace=True, random_state=0)
    arrivals = arrivals.assign(
        vehicle_id=np.arange(UI_VEHICLE_ID_START, UI_VEHICLE_ID_START + num_arrivals),
        num_reservations=np.maximum(rng.binomial(arrivals["num_reservations"].astype(int), 90 / 365), 1),
        watch_start=WATCH.end - timedelta(days=90),
        training_label=np.nan,
    )
    return fleet.changed(lambda frame: pd.concat([frame, arrivals]))
