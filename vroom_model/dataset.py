"""The data set that a model is trained and evaluated on: the vehicles of a snapshot whose watch is over.

A vehicle under watch has bookings of a few weeks where others have those of a year.  That count is no label,
so these vehicles are left out.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from vroom_features.errors import MissingColumnsError
from vroom_features.offline.snapshots import Snapshot
from vroom_features.view import VEHICLE_VIEW
from vroom_model.errors import TrainingDataError
from vroom_model.folds import NUM_FOLDS, fold_of, in_sample
from vroom_model.segments import segment_of

KEY = VEHICLE_VIEW.join_key
SAMPLE_MAX_ROWS = 500_000
"""A model is evaluated on at most so many vehicles: more change no figure noticeably."""
MIN_ROWS = 30
MIN_LABELS = 2
"""In a fold."""
MIN_RATIO_SPREAD = 0.01
LIMIT_TIMES, LIMIT_QUANTILE = 5, 0.99
"""More reservations than five times those of the 99th of 100 booked vehicles count as that."""
PRICE, NUM_IMAGES = "price_diff", "num_images"
"""Forecasts never rise with the first; segments depend on the second."""
WATCH_START = "watch_start"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Dataset:
    """The vehicles of a snapshot that have a label: arrays with one row a vehicle, in order of their ids."""

    vehicle_ids: npt.NDArray[np.int64]
    inputs: tuple[str, ...]
    """Names of the features."""
    features: npt.NDArray[np.float32]
    """Columns as ``inputs``."""
    labels: npt.NDArray[np.float64]
    """Reservations in the watch."""
    attributes: npt.NDArray[np.float64]
    """Columns as the view's attributes."""
    price_ratio: npt.NDArray[np.float64]
    """Owner's price over market price."""
    segments: npt.NDArray[np.int64]
    """Index into ``SEGMENTS``."""
    folds: npt.NDArray[np.int64]
    watch_starts: npt.NDArray[np.datetime64]
    """In UTC."""
    num_left_out: int = 0
    """Vehicles of the snapshot that are under watch."""
    next_matures: date | None = None
    """The day at which the first of these will have a label."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> "Dataset":
        """Return some of the vehicles."""
        arrays = {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        taken: dict[str, Any] = {name: array[rows] for name, array in arrays.items()}
        return replace(self, **taken)

    def limited(self, max_label: float) -> "Dataset":
        """Return the vehicles with labels of at most ``max_label``."""
        return replace(self, labels=np.minimum(self.labels, max_label))


def as_snapshot(data: "Snapshot | pd.DataFrame", *, created_at: datetime = EPOCH) -> Snapshot:
    """Return a snapshot as it is, and a DataFrame as a snapshot in memory.

    Parameters
    ----------
    data : Snapshot or DataFrame of shape (n_vehicles, ...)
        A frame has ``training_label``, ``vehicle_id`` as a column or the index, and the raw columns or, as
        that of `Snapshot.read`, the features.  Its length of watch is not known.
    created_at : datetime
        For a frame.

    Raises
    ------
    MissingColumnsError
        If a column is missing.
    """
    if not isinstance(data, pd.DataFrame):
        return data
    rows = data.reset_index() if data.index.name == KEY and KEY not in data else data
    if not set(VEHICLE_VIEW.columns) <= set(rows):
        rows = rows.assign(**VEHICLE_VIEW.transform(rows))
    if WATCH_START not in rows:
        rows = rows.assign(**{WATCH_START: np.datetime64("NaT", "us")})
    names = [KEY, *VEHICLE_VIEW.columns, *VEHICLE_VIEW.attributes, WATCH_START, VEHICLE_VIEW.label]
    if missing := set(names) - set(rows):
        raise MissingColumnsError(
            missing, map(str, rows), "; vroom_features.training_label computes the label"
        )
    return Snapshot.of_frame(rows[names], created_at=created_at)


def load_dataset(
    snapshot: Snapshot,
    *,
    inputs: Sequence[str] = VEHICLE_VIEW.inputs,
    num_folds: int = NUM_FOLDS,
    max_rows: int = SAMPLE_MAX_ROWS,
) -> Dataset:
    """Read the vehicles of a snapshot that have a label into arrays, at most about ``max_rows`` of them.

    A larger fleet is sampled by a stable hash of the vehicle id: the same vehicles every time.

    Raises
    ------
    TrainingDataError
        If the snapshot has another feature view, lacks columns, has values that are not finite, or has no
        label.
    """
    num_left_out = snapshot.num_rows - snapshot.num_labels
    next_matures = _next_matures(snapshot) if num_left_out else None
    if not snapshot.num_labels:
        when = f" (the next watch is over on {next_matures})" if next_matures else ""
        raise TrainingDataError(
            f"snapshot {snapshot.id} has 0 vehicles to learn from and {num_left_out:,} under watch{when}; "
            "seed the CSV files and materialize first"
        )
    share = min(1.0, max_rows / snapshot.num_labels)
    frames = [frame[in_sample(frame[KEY], share)] for frame in _read_frames(snapshot, inputs)]
    frame = pd.concat(frames).sort_values(KEY, kind="stable")
    dataset = _dataset(frame, inputs, num_folds, snapshot.id)
    return replace(dataset, num_left_out=num_left_out, next_matures=next_matures)


def _next_matures(snapshot: Snapshot) -> date | None:
    """Return the day at which the next vehicle under watch will have a label."""
    watch, starts = snapshot.watch, []
    for batch in snapshot.batches([WATCH_START, VEHICLE_VIEW.label]):
        frame = batch.to_pandas()
        starts.append(frame.loc[frame[VEHICLE_VIEW.label].isna(), WATCH_START].min())
    first = pd.Series(starts).min()
    return None if watch is None or pd.isna(first) else watch.over_on(first)


def read_blocks(
    snapshot: Snapshot,
    *,
    inputs: Sequence[str] = VEHICLE_VIEW.inputs,
    num_folds: int = NUM_FOLDS,
    max_label: float = math.inf,
) -> Iterator[Dataset]:
    """Yield the vehicles of a snapshot that have a label part by part, checked as ``load_dataset`` does."""
    for frame in _read_frames(snapshot, inputs):
        yield _dataset(frame, inputs, num_folds, snapshot.id).limited(max_label)


def _read_frames(snapshot: Snapshot, inputs: Sequence[str]) -> Iterator[pd.DataFrame]:
    view = (snapshot.view_name, snapshot.view_version)
    if view != (VEHICLE_VIEW.name, VEHICLE_VIEW.version):
        raise TrainingDataError(
            f"snapshot {snapshot.id} has feature view {view[0]}:{view[1]}, this program computes "
            f"{VEHICLE_VIEW.name}:{VEHICLE_VIEW.version}; materialize again"
        )
    names = (KEY, *inputs, NUM_IMAGES, *VEHICLE_VIEW.attributes, VEHICLE_VIEW.label, WATCH_START)
    columns = list(dict.fromkeys(names))  # each once
    try:
        for batch in snapshot.batches(columns):
            frame = batch.to_pandas()[columns]
            yield frame[frame[VEHICLE_VIEW.label].notna()]
    except (KeyError, pa.ArrowInvalid) as exc:
        raise TrainingDataError(f"snapshot {snapshot.id} lacks columns: {exc}") from exc


def _dataset(frame: pd.DataFrame, inputs: Sequence[str], num_folds: int, snapshot_id: str) -> Dataset:
    numbers = frame.drop(columns=[KEY, WATCH_START]).astype(np.float64)
    if broken := [name for name in numbers if not np.isfinite(numbers[name]).all()]:
        raise TrainingDataError(f"snapshot {snapshot_id} has missing or infinite values in {broken}")
    price_ratio = (numbers["actual_price"] / numbers["recommended_price"]).to_numpy()
    vehicle_ids = frame[KEY].to_numpy()
    if len(beyond := vehicle_ids[~np.isfinite(price_ratio)]):
        raise TrainingDataError(
            f"vehicle {beyond[0]} of snapshot {snapshot_id} has a market price too small to compare its own "
            "price with; correct its recommended_price and materialize again"
        )
    return Dataset(
        vehicle_ids=vehicle_ids,
        inputs=tuple(inputs),
        features=numbers[list(inputs)].to_numpy(np.float32),
        labels=numbers[VEHICLE_VIEW.label].to_numpy(),
        attributes=numbers[list(VEHICLE_VIEW.attributes)].to_numpy(),
        price_ratio=price_ratio,
        segments=segment_of(price_ratio, numbers[NUM_IMAGES].to_numpy()),
        folds=fold_of(vehicle_ids, num_folds),
        watch_starts=frame[WATCH_START].dt.tz_localize(None).to_numpy("datetime64[us]"),
    )


def check_learnable(dataset: Dataset, *, num_folds: int = NUM_FOLDS) -> None:
    """Raise TrainingDataError if there are too few vehicles, or all labels or all prices are alike."""
    if len(dataset) < MIN_ROWS:
        raise TrainingDataError(
            f"expected at least {MIN_ROWS} vehicles whose watch is over, got {len(dataset)} "
            f"({dataset.num_left_out:,} under watch are left out); seed more data"
        )
    if np.unique(dataset.vehicle_ids).size < len(dataset):
        raise TrainingDataError("some vehicle ids repeat; materialize again")
    sizes = np.bincount(dataset.folds, minlength=num_folds)
    if (sizes < MIN_LABELS).any():
        raise TrainingDataError(
            f"the {num_folds} folds have {sizes.tolist()} vehicles; each needs {MIN_LABELS}"
        )
    if np.ptp(dataset.labels) == 0:
        raise TrainingDataError(
            f"every vehicle has {dataset.labels[0]:g} reservations; there is nothing to learn"
        )
    if PRICE in dataset.inputs and np.ptp(dataset.features[:, dataset.inputs.index(PRICE)]) == 0:
        raise TrainingDataError("every vehicle has the same price difference; a price cannot be learned from")
    if np.ptp(dataset.price_ratio) < MIN_RATIO_SPREAD:
        raise TrainingDataError(
            f"every vehicle is priced at {dataset.price_ratio[0]:.0%} of its market price; "
            "the effect of another price cannot be learned from them"
        )


def label_limit(dataset: Dataset) -> float:
    """Return the largest label that is not extreme.

    One vehicle of 5,000 reservations among others of 10 would raise forecasts of vehicles like it by 100, and
    decide every squared error.  What is above the limit counts as the limit.
    """
    booked = dataset.labels[dataset.labels > 0]
    if len(booked) < 2:
        return math.inf
    # "lower", so that the largest of a few does not set its own limit.
    return LIMIT_TIMES * float(np.quantile(booked, LIMIT_QUANTILE, method="lower"))
