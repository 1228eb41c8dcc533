"""What a model learns from: a snapshot as arrays, checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from vroom_features.view import VEHICLE_VIEW
from vroom_model.errors import TrainingDataError
from vroom_model.folds import NUM_FOLDS, fold_of

MIN_ROWS = 50
MIN_LABELS = 5
FEW_PHOTOS = 2
SEGMENTS = (
    "priced up to 10 % above market",
    "priced 10-30 % above market",
    "priced over 30 % above market, few photos",
    "priced over 30 % above market, many photos",
)


class TrainingSnapshot(Protocol):
    """What training asks of a snapshot of the offline store."""

    @property
    def id(self) -> str:
        """Name of the snapshot."""

    @property
    def digest(self) -> str:
        """Checksum of its content."""

    @property
    def num_rows(self) -> int:
        """Vehicles in it."""

    @property
    def created_at(self) -> datetime:
        """When it was made."""

    @property
    def view_name(self) -> str:
        """Name of the feature view it was computed with."""

    @property
    def view_version(self) -> int:
        """Version of that view."""

    def read(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return its rows."""


@dataclass(frozen=True)
class Dataset:
    """Fleet vehicles as arrays, in order of their ids.

    Parameters
    ----------
    vehicle_ids : ndarray of shape (n_vehicles,)
    features : ndarray of shape (n_vehicles, n_features), float32
        Columns as ``VEHICLE_VIEW.columns``.
    labels : ndarray of shape (n_vehicles,)
        Reservations counted.
    price_ratio : ndarray of shape (n_vehicles,)
        Owner's price over market price.
    folds : ndarray of shape (n_vehicles,)
        The fold of each vehicle.
    """

    vehicle_ids: npt.NDArray[np.int64]
    features: npt.NDArray[np.float32]
    labels: npt.NDArray[np.float64]
    price_ratio: npt.NDArray[np.float64]
    folds: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def segments(self) -> npt.NDArray[np.int64]:
        """Index into ``SEGMENTS`` of each vehicle, of shape (n_vehicles,)."""
        few = self.features[:, VEHICLE_VIEW.columns.index("num_images")] <= FEW_PHOTOS
        return np.select([self.price_ratio <= 1.1, self.price_ratio <= 1.3, few], [0, 1, 2], 3)


def load_dataset(snapshot: TrainingSnapshot, *, num_folds: int = NUM_FOLDS) -> Dataset:
    """Read a snapshot into arrays.

    Parameters
    ----------
    snapshot : Snapshot
        Of the offline store.
    num_folds : int, default 5
        Folds to divide the vehicles into.

    Raises
    ------
    TrainingDataError
        If it was computed with another feature view, or holds values that are not finite.
    """
    view = (snapshot.view_name, snapshot.view_version)
    if view != (VEHICLE_VIEW.name, VEHICLE_VIEW.version):
        raise TrainingDataError(
            f"snapshot {snapshot.id} holds feature view {view[0]}:{view[1]}, this program computes "
            f"{VEHICLE_VIEW.name}:{VEHICLE_VIEW.version}; materialize again"
        )
    wanted = [VEHICLE_VIEW.join_key, *VEHICLE_VIEW.columns, *VEHICLE_VIEW.attributes, VEHICLE_VIEW.label]
    frame = snapshot.read(wanted).sort_values(VEHICLE_VIEW.join_key)
    if missing := set(wanted) - set(frame.columns):
        raise TrainingDataError(f"snapshot {snapshot.id} lacks the columns {sorted(missing)}")
    vehicle_ids = frame[VEHICLE_VIEW.join_key].to_numpy(dtype=np.int64)
    numbers = frame[wanted[1:]].to_numpy(dtype=np.float64, na_value=np.nan)
    if not np.isfinite(numbers).all():
        broken = np.array(wanted[1:])[~np.isfinite(numbers).all(axis=0)]
        raise TrainingDataError(f"snapshot {snapshot.id} has missing or infinite values in {broken.tolist()}")
    num_features = len(VEHICLE_VIEW.columns)
    actual, recommended = numbers[:, num_features], numbers[:, num_features + 1]
    return Dataset(
        vehicle_ids=vehicle_ids,
        features=numbers[:, :num_features].astype(np.float32),
        labels=numbers[:, -1],
        price_ratio=actual / recommended,
        folds=fold_of(vehicle_ids, num_folds),
    )


def check_learnable(dataset: Dataset, *, num_folds: int = NUM_FOLDS) -> None:
    """Raise unless there is something to learn.

    Raises
    ------
    TrainingDataError
        If there are too few vehicles, a fold has none, labels hardly differ, or all prices sit alike.
    """
    if len(dataset) < MIN_ROWS:
        raise TrainingDataError(
            f"expected at least {MIN_ROWS} vehicles that were watched, got {len(dataset)}; seed more data"
        )
    if np.unique(dataset.vehicle_ids).size < len(dataset):
        raise TrainingDataError("some vehicle ids repeat; materialize again")
    sizes = np.bincount(dataset.folds, minlength=num_folds)
    if (sizes < MIN_LABELS).any():
        raise TrainingDataError(
            f"the {num_folds} folds hold {sizes.tolist()} vehicles; each needs {MIN_LABELS}"
        )
    if np.ptp(dataset.labels) == 0:
        raise TrainingDataError(
            f"every vehicle has {dataset.labels[0]:g} reservations; there is nothing to learn"
        )
    if np.ptp(dataset.features[:, VEHICLE_VIEW.columns.index("price_diff")]) == 0:
        raise TrainingDataError("every vehicle has the same price difference; a price cannot be learned from")
