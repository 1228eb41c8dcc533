"""Snapshots in memory, from the CSV files of a fleet."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from vroom_features.features import num_reservations, training_label
from vroom_features.vehicle import UI_VEHICLE_ID_START
from vroom_features.view import VEHICLE_VIEW
from vroom_features.watch import RecentBookings, Watch

SAMPLE = Path(__file__).parents[1] / "data"
BATCH_SIZE = 300
CREATED_AT = datetime(2026, 1, 1, tzinfo=UTC)
WATCH = Watch(365, date(2023, 12, 31))


@dataclass(frozen=True)
class FrameSnapshot:
    """What the offline store's snapshots offer, over a frame."""

    frame: pd.DataFrame
    view_name: str = VEHICLE_VIEW.name
    view_version: int = VEHICLE_VIEW.version
    created_at: datetime = CREATED_AT
    watch_days: int = WATCH.days
    complete_through: date = WATCH.complete_through
    recent: RecentBookings | None = None
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        content = pd.util.hash_pandas_object(self.frame, index=False).to_numpy().tobytes()
        object.__setattr__(self, "digest", hashlib.sha256(content).hexdigest())

    @property
    def id(self) -> str:
        return f"frame-{self.digest[:12]}"

    @property
    def num_rows(self) -> int:
        return len(self.frame)

    @property
    def num_labels(self) -> int:
        return int(self.frame[VEHICLE_VIEW.label].notna().sum())

    @property
    def watch(self) -> Watch:
        return Watch(self.watch_days, self.complete_through)

    def read(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        return self.frame if columns is None else self.frame[list(columns)]

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        yield from pa.Table.from_pandas(self.read(columns), preserve_index=False).to_batches(BATCH_SIZE)

    def changed(self, change: Callable[[pd.DataFrame], pd.DataFrame]) -> "FrameSnapshot":
        """Return the snapshot of a changed copy of the frame."""
        return replace(self, frame=change(self.frame.copy()).reset_index(drop=True))


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
    vehicles["watch_start"] = vehicles["watch_start"].dt.tz_localize(None)  # Arrow takes it without a warning
    kept = vehicles[[VEHICLE_VIEW.join_key, *VEHICLE_VIEW.attributes, "watch_start"]]
    return FrameSnapshot(pd.concat([kept, features, count, label], axis=1))


def with_booked_arrivals(fleet: FrameSnapshot, num_arrivals: int = 800) -> FrameSnapshot:
    """Return the fleet and vehicles of the web form: like its own, but watched for 90 days of a year."""
    rng = np.random.default_rng(0)
    arrivals = fleet.frame.sample(num_arrivals, replace=True, random_state=0)
    arrivals = arrivals.assign(
        vehicle_id=np.arange(UI_VEHICLE_ID_START, UI_VEHICLE_ID_START + num_arrivals),
        num_reservations=np.maximum(rng.binomial(arrivals["num_reservations"].astype(int), 90 / 365), 1),
        watch_start=(WATCH.end - timedelta(days=90)).replace(tzinfo=None),
        training_label=pd.NA,
    )
    return fleet.changed(lambda frame: pd.concat([frame, arrivals.astype(frame.dtypes.to_dict())]))
