"""Training: a snapshot in, a model directory out."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import xgboost as xgb

from vroom_features.offline.snapshots import Snapshot
from vroom_features.vehicle import COLUMNS
from vroom_features.view import VEHICLE_VIEW
from vroom_model.dataset import Dataset, as_snapshot, check_learnable, label_limit, load_dataset
from vroom_model.evaluation.diagnostics import decile_edges, diagnostics
from vroom_model.evaluation.interval import fit_lines, out_of_fold_ranges
from vroom_model.evaluation.metrics import (
    calibration,
    fold_metrics,
    importances,
    overall_metrics,
    segment_metrics,
)
from vroom_model.folds import out_of_fold
from vroom_model.manifest import (
    SERVING_NAME,
    Histogram,
    InputRange,
    IntervalLines,
    ModelManifest,
    Probe,
    SnapshotRef,
    ViewRef,
    fold_file,
)
from vroom_model.serving.predictor import with_range
from vroom_model.training.boosting import (
    FoldBooster,
    TrainingParams,
    fit_folds,
    predict_by_fold,
    stream_folds,
)
from vroom_model.training.onnx_graph import write_graph
from vroom_model.trees import Ensemble

Engine = Literal["memory", "stream", "elsewhere"]
Fit = Callable[..., tuple[FoldBooster, ...]]
"""Fits one booster per fold; it takes the arguments of ``stream_folds``."""
STREAM_ABOVE_ROWS = 200_000
"""Larger fleets are fitted in batches."""
NUM_PROBES = 8


@dataclass(frozen=True)
class TrainedModel:
    """A model directory that training has written; the checksum of its manifest identifies all its files."""

    directory: Path
    manifest: ModelManifest
    manifest_sha256: str


def training_digest(
    snapshot: Snapshot,
    *,
    params: TrainingParams | None = None,
    inputs: Sequence[str] = VEHICLE_VIEW.inputs,
    seed: int = 0,
    engine: Engine | None = None,
) -> str:
    """Return the digest of a training's inputs: equal digests give equal models, byte for byte.

    Except from `fit`, which is not known: boosters from Dask differ with the number of its workers.
    """
    params = params or TrainingParams()
    made_from = {
        "snapshot": snapshot.digest,
        "watch_days": snapshot.watch_days,
        "features": ViewRef.of(VEHICLE_VIEW.select(inputs)).features,
        "params": params.model_dump(),
        "seed": seed,
        "engine": engine or _engine(snapshot.num_labels),
        "libraries": _libraries(),
    }
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def train(
    snapshot: Snapshot | pd.DataFrame,
    *,
    directory: Path | str,
    as_of: datetime,
    params: TrainingParams | None = None,
    inputs: Sequence[str] = VEHICLE_VIEW.inputs,
    seed: int = 0,
    fit: Fit | None = None,
) -> TrainedModel:
    """Train a model on the vehicles of a snapshot whose watch is over, and write its directory.

    Parameters
    ----------
    snapshot : Snapshot or DataFrame
        A frame as ``as_snapshot`` takes it.
    directory : Path or str
        Created if it is missing.
    as_of : datetime
        Time of the training, with a time zone; it goes into the manifest and changes nothing else.
    params : TrainingParams, optional
    inputs : sequence of str
        Names of the features; by default those of the view that are not retired.
    seed : int, default 0
    fit : callable, optional
        Fits the boosters elsewhere, such as ``fit_on_dask`` bound to its client.  By default a small fleet is
        fitted in memory and a large one in batches.

    Raises
    ------
    TrainingDataError, MissingColumnsError
        If the snapshot cannot be learned from; the message says why.
    """
    params, directory = params or TrainingParams(), Path(directory)
    snapshot = as_snapshot(snapshot, created_at=as_of)
    dataset = load_dataset(snapshot, inputs=inputs, num_folds=params.num_folds)
    check_learnable(dataset, num_folds=params.num_folds)
    max_label = label_limit(dataset)
    num_limited = int((dataset.labels > max_label).sum())
    dataset = dataset.limited(max_label)
    engine: Engine = "elsewhere" if fit else _engine(snapshot.num_labels)
    if fit:
        boosters = fit(snapshot, params, inputs=inputs, seed=seed, max_label=max_label)
    elif engine == "stream":
        boosters = stream_folds(snapshot, params, inputs=inputs, seed=seed, max_label=max_label)
    else:
        boosters = fit_folds(dataset, params, seed=seed)
    raw = out_of_fold(predict_by_fold(boosters, dataset.features), dataset.folds)
    ranges = out_of_fold_ranges(raw, dataset, coverage=params.coverage)
    lines = fit_lines(np.maximum(raw, 0.0), dataset.labels, coverage=params.coverage)

    directory.mkdir(parents=True, exist_ok=True)
    files = _write_files(boosters, directory, dataset.features.shape[1])
    manifest = ModelManifest(
        trained_at=as_of,
        training_digest=training_digest(snapshot, params=params, inputs=inputs, seed=seed, engine=engine),
        snapshot=SnapshotRef(
            id=snapshot.id,
            digest=snapshot.digest,
            num_rows=snapshot.num_labels,
            num_left_out=dataset.num_left_out,
            next_matures=dataset.next_matures,
            watch_days=snapshot.watch_days,
            complete_through=snapshot.complete_through,
            created_at=snapshot.created_at,
        ),
        view=ViewRef.of(VEHICLE_VIEW.select(inputs)),
        params=params.model_dump(),
        seed=seed,
        num_folds=params.num_folds,
        interval=lines,
        price_ratio=(float(dataset.price_ratio.min()), float(dataset.price_ratio.max())),
        mean_price_ratio=float(dataset.price_ratio.mean()),
        ranges=_ranges(dataset),
        metrics={**overall_metrics(ranges, dataset), "num_limited": float(num_limited)},
        folds=fold_metrics(ranges, dataset, [booster.features for booster in boosters]),
        segments=segment_metrics(ranges, dataset),
        calibration=calibration(ranges, dataset),
        diagnostics=diagnostics(ranges, dataset),
        feature_importances=importances([booster.predict for booster in boosters], dataset, seed=seed),
        reference=_reference(dataset),
        libraries=_libraries(),
        files=files,
        probes=_probes(boosters, dataset, lines),
    )
    return TrainedModel(directory, manifest, manifest.write(directory))


def _engine(num_labels: int) -> Engine:
    return "stream" if num_labels > STREAM_ABOVE_ROWS else "memory"


def _write_files(boosters: tuple[FoldBooster, ...], directory: Path, num_features: int) -> dict[str, str]:
    """Write the boosters and the serving graph; return the SHA-256 of each."""
    documents = {
        fold_file(fold): bytes(booster.booster.save_raw("json")) for fold, booster in enumerate(boosters)
    }
    for name, document in documents.items():
        (directory / name).write_bytes(document)
    write_graph(map(Ensemble.from_json, documents.values()), num_features, directory / SERVING_NAME)
    return {
        name: hashlib.sha256((directory / name).read_bytes()).hexdigest()
        for name in [SERVING_NAME, *documents]
    }


def _probes(boosters: tuple[FoldBooster, ...], dataset: Dataset, lines: IntervalLines) -> tuple[Probe, ...]:
    """Return vehicles from the cheapest to the dearest, with XGBoost's own forecasts of them."""
    order = np.argsort(dataset.price_ratio, kind="stable")
    rows = dataset.features[order[np.linspace(0, len(dataset) - 1, NUM_PROBES).astype(int)]]
    raw = predict_by_fold(boosters, rows).mean(axis=1)
    return tuple(
        Probe(
            features=dict(zip(dataset.inputs, row, strict=True)),
            forecast=forecast.predicted_reservations,
            low=forecast.low,
            high=forecast.high,
        )
        for row, forecast in zip(rows.tolist(), with_range(raw, lines), strict=True)
    )


def _ranges(dataset: Dataset) -> dict[str, InputRange]:
    """Return the ranges of the raw columns, also of those that are no features."""
    raw = dict(zip(dataset.inputs, dataset.features.T.astype(np.float64), strict=True))
    raw |= dict(zip(VEHICLE_VIEW.attributes, dataset.attributes.T, strict=True))
    return {
        name: InputRange(low=values.min(), high=values.max(), mean=values.mean())
        for name, values in raw.items()
        if name in COLUMNS
    }


def _reference(dataset: Dataset) -> dict[str, Histogram]:
    """Return a histogram of each feature between its deciles."""
    columns = zip(dataset.inputs, dataset.features.T.astype(np.float64), strict=True)
    return {name: Histogram.of(values, decile_edges(values)) for name, values in columns}


def _libraries() -> dict[str, str]:
    return {
        "xgboost": xgb.__version__,
        **{name: version(name) for name in ("numpy", "onnx", "scipy", "vroom-forecast")},
    }
