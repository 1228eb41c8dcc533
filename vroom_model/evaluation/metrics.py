"""How good a model is on vehicles that its boosters never saw."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vroom_model.dataset import SEGMENTS, Dataset, TrainingSnapshot, load_dataset
from vroom_model.errors import BrokenModelError
from vroom_model.manifest import CalibrationPoint, FoldMetrics, Importance, SegmentMetrics
from vroom_model.serving.predictor import Forecasts, Predictor, with_range

Array = npt.NDArray[np.float64]
PredictFold = Callable[[int, npt.NDArray[Any]], Array]
"""Number of a fold and feature matrix in, raw forecasts of that fold's booster out: (n_vehicles,)."""
SHUFFLES = 10
NUM_POINTS = 10


def out_of_fold(by_fold: Array, folds: npt.NDArray[np.int64]) -> Array:
    """Return each vehicle's raw forecast by the booster that never saw its fold."""
    return by_fold[np.arange(len(folds)), folds]


def baseline_errors(dataset: Dataset) -> Array:
    """Return each vehicle's absolute error when forecast by the median of the other folds."""
    errors = np.empty(len(dataset))
    for fold in np.unique(dataset.folds):
        rows = dataset.folds == fold
        errors[rows] = np.abs(dataset.labels[rows] - np.median(dataset.labels[~rows]))
    return errors


def overall_metrics(forecasts: Forecasts, dataset: Dataset) -> dict[str, float]:
    """Return the figures of all vehicles together; ``*_error`` is better lower."""
    residual = forecasts.predicted_reservations - dataset.labels
    errors = np.abs(residual)
    return {
        "mae": float(errors.mean()),
        "mae_standard_error": float(errors.std() / np.sqrt(len(errors))),
        "rmse": float(np.sqrt(np.mean(residual**2))),
        "bias": float(residual.mean()),
        "baseline_mae": float(baseline_errors(dataset).mean()),
        "coverage": float(_held(forecasts, dataset).mean()),
        "mean_width": float((forecasts.high - forecasts.low).mean()),
        "mean_label": float(dataset.labels.mean()),
    }


def fold_metrics(
    forecasts: Forecasts, dataset: Dataset, features: Sequence[tuple[bool, ...]]
) -> tuple[FoldMetrics, ...]:
    """Return the figures of each fold, and the features its booster was let see."""
    errors = np.abs(forecasts.predicted_reservations - dataset.labels)
    held = _held(forecasts, dataset)
    return tuple(
        FoldMetrics(
            fold=fold,
            num_rows=int((dataset.folds == fold).sum()),
            mae=float(errors[dataset.folds == fold].mean()),
            coverage=float(held[dataset.folds == fold].mean()),
            features=tuple(name for name, shown in zip(dataset.inputs, seen, strict=True) if shown),
        )
        for fold, seen in enumerate(features)
    )


def segment_metrics(forecasts: Forecasts, dataset: Dataset) -> tuple[SegmentMetrics, ...]:
    """Return the figures of each price segment that has vehicles."""
    residual = forecasts.predicted_reservations - dataset.labels
    held = _held(forecasts, dataset)
    width = forecasts.high - forecasts.low
    segments = dataset.segments
    metrics = []
    for number, name in enumerate(SEGMENTS):
        rows = segments == number
        if rows.any():
            metrics.append(
                SegmentMetrics(
                    segment=name,
                    num_rows=int(rows.sum()),
                    mae=float(np.abs(residual[rows]).mean()),
                    bias=float(residual[rows].mean()),
                    coverage=float(held[rows].mean()),
                    mean_width=float(width[rows].mean()),
                )
            )
    return tuple(metrics)


def calibration(forecasts: Forecasts, dataset: Dataset) -> tuple[CalibrationPoint, ...]:
    """Return forecast against outcome for each tenth of the vehicles, from the lowest forecast up."""
    order = np.argsort(forecasts.predicted_reservations, kind="stable")
    points = []
    for rows in np.array_split(order, NUM_POINTS):
        labels = dataset.labels[rows]
        points.append(
            CalibrationPoint(
                forecast=float(forecasts.predicted_reservations[rows].mean()),
                outcome=float(labels.mean()),
                standard_error=float(labels.std() / np.sqrt(len(rows))),
                num_rows=len(rows),
            )
        )
    return tuple(points)


def importances(predict_fold: PredictFold, dataset: Dataset, *, seed: int) -> tuple[Importance, ...]:
    """Return out-of-fold permutation importance, the most important feature first.

    Each feature is shuffled within each fold; the spread is the standard deviation over the shuffles.
    """
    rng = np.random.default_rng(seed)
    folds = [
        (int(fold), dataset.take(np.flatnonzero(dataset.folds == fold))) for fold in np.unique(dataset.folds)
    ]

    def error(column: int | None = None) -> float:
        """Return the mean absolute error with a column shuffled."""
        missed = 0.0
        for fold, part in folds:
            features = part.features
            if column is not None:
                features = features.copy()
                features[:, column] = rng.permutation(features[:, column])
            missed += float(np.abs(predict_fold(fold, features) - part.labels).sum())
        return missed / len(dataset)

    plain = error()
    found = []
    for column, name in enumerate(dataset.inputs):
        rises = np.array([error(column) for _ in range(SHUFFLES)]) - plain
        found.append(
            Importance(feature=name, mae_increase=float(rises.mean()), spread=float(rises.std(ddof=1)))
        )
    return tuple(sorted(found, key=lambda importance: -importance.mae_increase))


def _held(forecasts: Forecasts, dataset: Dataset) -> npt.NDArray[np.bool_]:
    return (dataset.labels >= forecasts.low) & (dataset.labels <= forecasts.high)


@dataclass(frozen=True)
class Evaluation:
    """A model version's out-of-fold scores on a snapshot's csv vehicles, one by one in order of their ids.

    Parameters
    ----------
    version : int
        Its number in the registry.
    snapshot_digest : str
        The vehicles it was scored on; evaluations of one digest can be compared.
    labels, forecast : ndarray of shape (n_vehicles,)
        What happened, and what the booster forecast that never saw the vehicle.
    segments : ndarray of shape (n_vehicles,)
        Index into ``SEGMENTS``.
    baseline_errors : ndarray of shape (n_vehicles,)
        Absolute errors of the median.
    trained_mean_label : float
        Mean outcome of the snapshot that it was trained on.
    metrics : mapping
        Overall figures, with ranges as they are served.
    num_left_out : int
        Booked vehicles from the web form that the snapshot holds beside these.
    """

    version: int
    snapshot_digest: str
    labels: Array
    forecast: Array
    segments: npt.NDArray[np.int64]
    baseline_errors: Array
    trained_mean_label: float
    metrics: Mapping[str, float]
    num_left_out: int = 0

    @property
    def errors(self) -> Array:
        """Absolute errors, of shape (n_vehicles,)."""
        return np.abs(self.forecast - self.labels)


def score(predictor: Predictor, snapshot: TrainingSnapshot) -> Evaluation:
    """Score a model version out of fold on the csv vehicles of a snapshot, older or newer than its own.

    Parameters
    ----------
    predictor : Predictor
        The version, loaded and verified.
    snapshot : Snapshot
        Of the offline store.

    Raises
    ------
    BrokenModelError
        If the version lacks figures that it must be judged by.
    """
    manifest = predictor.manifest
    if missing := manifest.missing_metrics:
        where = Path(f"version {predictor.version}")
        raise BrokenModelError(where, f"its manifest lacks metrics: {', '.join(missing)}")
    dataset = load_dataset(snapshot, inputs=manifest.view.columns, num_folds=manifest.num_folds)
    raw = out_of_fold(predictor.predict_by_fold(dataset.features), dataset.folds)
    forecasts = with_range(raw, manifest.interval)
    return Evaluation(
        version=predictor.version,
        snapshot_digest=snapshot.digest,
        labels=dataset.labels,
        forecast=forecasts.predicted_reservations,
        segments=dataset.segments,
        baseline_errors=baseline_errors(dataset),
        trained_mean_label=manifest.metrics["mean_label"],
        metrics=overall_metrics(forecasts, dataset),
        num_left_out=dataset.num_left_out,
    )
