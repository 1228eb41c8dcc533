"""Boosters by cross-fitting: booster k never saw fold k, neither to fit it nor to choose its features.

A fleet is fitted in memory, or in batches where it is large.  In batches no feature is masked: among so many
vehicles a useless one does no harm.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import xgboost as xgb
from pydantic import BaseModel, ConfigDict, Field

from vroom_features.offline.snapshots import Snapshot
from vroom_features.view import VEHICLE_VIEW
from vroom_model.dataset import PRICE, Dataset, read_blocks
from vroom_model.evaluation.metrics import rises_when_shuffled
from vroom_model.folds import NUM_FOLDS

Array = npt.NDArray[np.float64]
SHUFFLES = 8
SELECTION_MAX_ROWS = 50_000


class TrainingParams(BaseModel):
    """How a model is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_rounds: int = Field(default=60, ge=1, description="trees in a booster")
    max_depth: int = Field(default=4, ge=1, le=12, description="levels of a tree")
    learning_rate: float = Field(default=0.05, gt=0, le=1, description="share of each tree that is added")
    min_leaf_rows: int = Field(default=45, ge=1, description="vehicles in a leaf, at least")
    subsample: float = Field(default=0.5, gt=0, le=1, description="share of vehicles each tree sees")
    select_above_se: float = Field(
        default=2.0,
        description="a feature is masked unless shuffling it raises the error by this many standard errors",
    )
    num_folds: int = Field(default=NUM_FOLDS, ge=3, le=20, description="folds of the cross-fitting")
    coverage: float = Field(default=0.8, gt=0, lt=1, description="share of outcomes inside the range")
    num_threads: int = Field(default=1, ge=1, description="threads of XGBoost")


@dataclass(frozen=True)
class FoldBooster:
    """The booster of one fold."""

    booster: xgb.Booster
    features: tuple[bool, ...]
    """Which columns it was trained on; the others were masked with 0, so it never splits on them."""

    def predict(self, features: npt.NDArray[np.float32]) -> Array:
        """Return raw forecasts, of shape (n_vehicles,)."""
        return np.asarray(self.booster.inplace_predict(features), dtype=np.float64)


def predict_by_fold(boosters: tuple[FoldBooster, ...], features: npt.NDArray[np.float32]) -> Array:
    """Return every booster's raw forecast of every vehicle: (n_vehicles, n_folds)."""
    return np.column_stack([booster.predict(features) for booster in boosters])


def booster_params(
    params: TrainingParams, *, inputs: Sequence[str], num_rows: int, seed: int
) -> dict[str, Any]:
    """Return XGBoost's parameters for a booster of so many rows, in memory, in batches or on Dask."""
    constraints = tuple(-1 if name == PRICE else 0 for name in inputs)
    return {
        "objective": "reg:squarederror",
        "tree_method": "hist",
        "max_depth": params.max_depth,
        "eta": params.learning_rate,
        # Sums of the Hessian count sampled rows here; a tenth keeps small fleets learnable.
        "min_child_weight": max(1.0, params.subsample * min(params.min_leaf_rows, num_rows / 10)),
        "subsample": params.subsample,
        "monotone_constraints": str(constraints),
        "seed": seed,
        "nthread": params.num_threads,
        "verbosity": 0,
    }


def fit_folds(dataset: Dataset, params: TrainingParams, *, seed: int) -> tuple[FoldBooster, ...]:
    """Fit one booster per fold on the vehicles of all other folds."""
    chosen = _choose_features(dataset, params, seed=seed)
    return tuple(
        FoldBooster(_fit(dataset, dataset.folds != fold, chosen[fold], params, seed=seed), chosen[fold])
        for fold in range(params.num_folds)
    )


def _fit(
    dataset: Dataset,
    rows: npt.NDArray[np.bool_],
    features: tuple[bool, ...],
    params: TrainingParams,
    *,
    seed: int,
) -> xgb.Booster:
    masked = dataset.features[rows] * np.array(features, dtype=np.float32)
    return xgb.train(
        booster_params(params, inputs=dataset.inputs, num_rows=int(rows.sum()), seed=seed),
        xgb.DMatrix(masked, dataset.labels[rows], nthread=params.num_threads),
        params.num_rounds,
    )


def _choose_features(dataset: Dataset, params: TrainingParams, *, seed: int) -> list[tuple[bool, ...]]:
    """Choose, for each fold, the features that help vehicles of the other folds.

    A booster that saw neither fold j nor fold k measures how much fold j's error rises with a feature
    shuffled, which fold k's booster may know, and the other way round.  The price is never masked: people ask
    for its effect.
    """
    num_features = dataset.features.shape[1]
    if len(dataset) > SELECTION_MAX_ROWS:
        return [(True,) * num_features] * params.num_folds
    rng = np.random.default_rng(seed)
    rises: list[list[Array]] = [[] for _ in range(params.num_folds)]
    for one, other in itertools.combinations(range(params.num_folds), 2):
        rows = (dataset.folds != one) & (dataset.folds != other)
        booster = _fit(dataset, rows, (True,) * num_features, params, seed=seed)
        for scored, user in ((one, other), (other, one)):
            part = dataset.take(dataset.folds == scored)
            found = rises_when_shuffled(booster.inplace_predict, part, rng, SHUFFLES)
            rises[user].append(np.column_stack([each.mean(axis=0) for each in found]))
    chosen = []
    for rise in map(np.concatenate, rises):
        standard_error = rise.std(axis=0) / np.sqrt(len(rise))
        helps = rise.mean(axis=0) > params.select_above_se * standard_error
        chosen.append(tuple(bool(h) or name == PRICE for name, h in zip(dataset.inputs, helps, strict=True)))
    return chosen


class TrainingBatches(xgb.DataIter):
    """The vehicles outside one fold, batch by batch; XGBoost keeps one byte of each feature."""

    def __init__(self, fold: int, read: Callable[[], Iterator[Dataset]]) -> None:
        self._fold = fold
        self._read = read
        self._blocks: Iterator[Dataset] = iter(())
        super().__init__()

    def next(self, input_data: Callable[..., None]) -> bool:
        """Pass the next batch to XGBoost; False when there is none."""
        for block in self._blocks:
            kept = block.take(block.folds != self._fold)
            if len(kept):
                input_data(data=kept.features, label=kept.labels.astype(np.float32))
                return True
        return False

    def reset(self) -> None:
        """Start from the first batch."""
        self._blocks = self._read()


def stream_folds(
    snapshot: Snapshot,
    params: TrainingParams,
    *,
    inputs: Sequence[str] = VEHICLE_VIEW.inputs,
    seed: int,
    max_label: float = math.inf,
) -> tuple[FoldBooster, ...]:
    """Fit one booster per fold in batches; the snapshot is read a few times for each."""
    read = partial(read_blocks, snapshot, inputs=inputs, num_folds=params.num_folds, max_label=max_label)
    boosters = []
    for fold in range(params.num_folds):
        matrix = xgb.QuantileDMatrix(TrainingBatches(fold, read), nthread=params.num_threads)
        settings = booster_params(params, inputs=inputs, num_rows=matrix.num_row(), seed=seed)
        booster = xgb.train(settings, matrix, params.num_rounds)
        boosters.append(FoldBooster(booster, (True,) * len(inputs)))
    return tuple(boosters)
