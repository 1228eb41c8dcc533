"""How good a model is on vehicles that its boosters never saw."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from vroom_features.offline.snapshots import Snapshot
from vroom_features.watch import CHANCE, RecentBookings, watch_scale
from vroom_model.dataset import Dataset, as_snapshot, label_limit, load_dataset
from vroom_model.errors import BrokenModelError
from vroom_model.folds import out_of_fold
from vroom_model.manifest import (
    CalibrationPoint,
    FoldMetrics,
    Importance,
    ModelManifest,
    SegmentMetrics,
)
from vroom_model.records import MIN_MATURED, Matured
from vroom_model.segments import SEGMENTS
from vroom_model.serving.predictor import Forecasts, Predictor, with_range

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.bool_] | slice
Predict = Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]]
"""Takes a feature matrix; returns the raw forecasts of a booster."""
SHUFFLES = 10
NUM_POINTS = 10
DEVIANCE_FLOOR = 0.01
"""Reservations; the deviance of a booked vehicle that was forecast 0 would be infinite."""


def baseline(dataset: Dataset, constant: Callable[[Array], Any]) -> Array:
    """Return each vehicle's forecast by one number: the mean, or the median, of the other folds' labels."""
    forecast = np.empty(len(dataset))
    for fold in np.unique(dataset.folds):
        rows = dataset.folds == fold
        forecast[rows] = constant(dataset.labels[~rows])
    return forecast


def deviance(labels: Array, forecast: Array) -> float:
    """Return the mean Poisson deviance of forecasts.

    Examples
    --------
    >>> round(deviance(np.array([0.0, 4.0]), np.array([1.0, 4.0])), 3)
    1.0
    """
    forecast = np.maximum(forecast, DEVIANCE_FLOOR)
    surprise = labels * np.log(np.where(labels > 0, labels, 1.0) / forecast)
    return float(2 * np.mean(surprise - labels + forecast))


def overall_metrics(forecasts: Forecasts, dataset: Dataset) -> dict[str, float]:
    """Return the figures of all vehicles together.

    Each measure has the baseline that is best by it: the median for the absolute error, the mean for the
    squared error and the deviance.
    """
    labels = dataset.labels
    residual = forecasts.predicted_reservations - labels
    median, mean = baseline(dataset, np.median), baseline(dataset, np.mean)
    figures = _figures(forecasts, dataset, slice(None))
    return {
        "mae": figures["mae"],
        "mae_standard_error": float(np.abs(residual).std() / np.sqrt(len(dataset))),
        "rmse": float(np.sqrt(np.mean(residual**2))),
        "deviance": deviance(labels, forecasts.predicted_reservations),
        "bias": figures["bias"],
        "baseline_mae": float(np.abs(median - labels).mean()),
        "baseline_rmse": float(np.sqrt(np.mean((mean - labels) ** 2))),
        "baseline_deviance": deviance(labels, mean),
        "coverage": figures["coverage"],
        "mean_width": figures["mean_width"],
        "mean_label": float(labels.mean()),
    }


def fold_metrics(
    forecasts: Forecasts, dataset: Dataset, features: Sequence[tuple[bool, ...]]
) -> tuple[FoldMetrics, ...]:
    """Return the figures of each fold, and the features that its booster was trained on."""
    return tuple(
        FoldMetrics(
            fold=fold,
            features=tuple(name for name, is_used in zip(dataset.inputs, used, strict=True) if is_used),
            **_figures(forecasts, dataset, dataset.folds == fold),
        )
        for fold, used in enumerate(features)
    )


def segment_metrics(forecasts: Forecasts, dataset: Dataset) -> tuple[SegmentMetrics, ...]:
    """Return the figures of each price segment that has vehicles."""
    by_segment = ((name, dataset.segments == number) for number, name in enumerate(SEGMENTS))
    return tuple(
        SegmentMetrics(segment=name, **_figures(forecasts, dataset, rows))
        for name, rows in by_segment
        if rows.any()
    )


def _figures(forecasts: Forecasts, dataset: Dataset, rows: Rows) -> dict[str, Any]:
    """Return the figures of some vehicles, as fields of the manifest."""
    labels, low, high = dataset.labels[rows], forecasts.low[rows], forecasts.high[rows]
    residual = forecasts.predicted_reservations[rows] - labels
    return {
        "num_rows": len(labels),
        "mae": float(np.abs(residual).mean()),
        "bias": float(residual.mean()),
        "coverage": float(((labels >= low) & (labels <= high)).mean()),
        "mean_width": float((high - low).mean()),
    }


def calibration(forecasts: Forecasts, dataset: Dataset) -> tuple[CalibrationPoint, ...]:
    """Return forecast against outcome for each tenth of the vehicles, from the lowest forecast up."""
    order = np.argsort(forecasts.predicted_reservations, kind="stable")
    return tuple(
        CalibrationPoint(
            forecast=float(forecasts.predicted_reservations[rows].mean()),
            outcome=float(dataset.labels[rows].mean()),
            standard_error=float(dataset.labels[rows].std() / np.sqrt(len(rows))),
            num_rows=len(rows),
        )
        for rows in np.array_split(order, NUM_POINTS)
    )


def importances(predict: Sequence[Predict], dataset: Dataset, *, seed: int) -> tuple[Importance, ...]:
    """Return out-of-fold permutation importance, the most important feature first.

    Each feature is shuffled within each fold, whose booster predicts it; the spread is the standard deviation
    over the shuffles.
    """
    rng = np.random.default_rng(seed)
    total = np.zeros((len(dataset.inputs), SHUFFLES))
    for fold, predict_fold in enumerate(predict):
        part = dataset.take(dataset.folds == fold)
        total += [rises.sum(axis=1) for rises in rises_when_shuffled(predict_fold, part, rng, SHUFFLES)]
    found = [
        Importance(feature=name, mae_increase=float(rises.mean()), spread=float(rises.std(ddof=1)))
        for name, rises in zip(dataset.inputs, total / len(dataset), strict=True)
    ]
    return tuple(sorted(found, key=lambda importance: -importance.mae_increase))


def rises_when_shuffled(
    predict: Predict, dataset: Dataset, rng: np.random.Generator, times: int
) -> Iterator[Array]:
    """Yield by how much each vehicle's absolute error rises with a feature shuffled: (times, n_vehicles)."""
    error = np.abs(predict(dataset.features) - dataset.labels)
    for column in range(len(dataset.inputs)):
        rises = np.empty((times, len(dataset)))
        for number in range(times):
            shuffled = dataset.features.copy()
            shuffled[:, column] = rng.permutation(shuffled[:, column])
            rises[number] = np.abs(predict(shuffled) - dataset.labels) - error
        yield rises


@dataclass(frozen=True)
class Evaluation:
    """A model version's out-of-fold scores on the vehicles of a snapshot that have a label, in order of ids.

    Everything is per watch of the snapshot, also for a model of another length of watch.
    """

    version: int
    snapshot_digest: str
    """Evaluations of one digest can be compared."""
    labels: Array
    """The outcomes, extreme ones limited."""
    forecast: Array
    """Each by the booster that never saw the vehicle."""
    segments: npt.NDArray[np.int64]
    """Index into ``SEGMENTS``."""
    baseline: Array
    """The forecast by the mean of the other folds."""
    trained_mean_label: float
    """Mean outcome of the vehicles that the version was trained on."""
    metrics: Mapping[str, float]
    """Overall figures, with ranges as they are served."""
    num_left_out: int = 0
    """Vehicles of the snapshot that are under watch."""
    next_matures: date | None = None
    """The day at which the first of these will have a label."""
    recent: RecentBookings | None = None
    matured: Matured | None = None
    """None for a model of an earlier release, which did not know its watch."""

    @property
    def errors(self) -> Array:
        """Absolute errors, of shape (n_vehicles,)."""
        return np.abs(self.forecast - self.labels)


def score(predictor: Predictor, snapshot: Snapshot | pd.DataFrame) -> Evaluation:
    """Score a model version out of fold on the vehicles that have a label.

    Parameters
    ----------
    predictor : Predictor
    snapshot : Snapshot or DataFrame
        Of any age; a frame as ``as_snapshot`` takes it.

    Raises
    ------
    BrokenModelError
        If its manifest lacks metrics that are needed to judge it.
    """
    snapshot = as_snapshot(snapshot)
    manifest = predictor.manifest
    if missing := manifest.missing_metrics:
        problem = f"its manifest lacks metrics: {', '.join(missing)}"
        raise BrokenModelError(f"version {predictor.version}", problem)
    dataset = load_dataset(snapshot, inputs=manifest.view.columns, num_folds=manifest.num_folds)
    dataset = dataset.limited(label_limit(dataset))
    by_fold = predictor.predict_by_fold(dataset.features)
    raw = out_of_fold(by_fold, dataset.folds)
    scale = watch_scale(manifest.snapshot.watch, snapshot.watch)
    forecasts = with_range(raw, manifest.interval).times(scale)
    return Evaluation(
        version=predictor.version,
        snapshot_digest=snapshot.digest,
        labels=dataset.labels,
        forecast=forecasts.predicted_reservations,
        segments=dataset.segments,
        baseline=baseline(dataset, np.mean),
        trained_mean_label=manifest.metrics["mean_label"] * scale,
        metrics=overall_metrics(forecasts, dataset),
        num_left_out=dataset.num_left_out,
        next_matures=dataset.next_matures,
        recent=snapshot.recent,
        matured=_matured(manifest, snapshot, dataset, by_fold),
    )


def _matured(manifest: ModelManifest, snapshot: Snapshot, dataset: Dataset, by_fold: Array) -> Matured | None:
    """Score the forecasts of all boosters on vehicles whose watch was not over when they were trained."""
    trained, now = manifest.snapshot.watch, snapshot.watch
    if trained is None or now is None:
        return None
    rows = ~np.asarray(trained.is_over(pd.to_datetime(dataset.watch_starts, utc=True)))
    known = {"complete_through": now.complete_through, "num_vehicles": int(rows.sum())}
    if rows.sum() < MIN_MATURED:
        return Matured(**known)
    forecasts = with_range(by_fold[rows].mean(axis=1), manifest.interval)
    labels = dataset.labels[rows] / watch_scale(trained, now)
    figures = _figures(forecasts, replace(dataset.take(rows), labels=labels), slice(None))
    spread = np.abs(forecasts.predicted_reservations - labels).std() / np.sqrt(len(labels))
    chance = CHANCE * np.hypot(spread, manifest.metrics["mae_standard_error"])
    return Matured(
        **known,
        **{name: figures[name] for name in ("mae", "bias", "coverage")},
        is_worse=bool(figures["mae"] > manifest.metrics["mae"] + chance),
    )
