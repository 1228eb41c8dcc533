"""Choosing how to train, by out-of-fold error alone."""

from collections.abc import Sequence

import numpy as np

from vroom_model.dataset import Dataset
from vroom_model.folds import out_of_fold
from vroom_model.training.boosting import TrainingParams, fit_folds, predict_by_fold

GRID = tuple(
    TrainingParams(num_rounds=num_rounds, max_depth=max_depth, min_leaf_rows=min_leaf_rows)
    for num_rounds in (40, 60, 80)
    for max_depth, min_leaf_rows in ((3, 30), (4, 45))
)


def tune(dataset: Dataset, grid: Sequence[TrainingParams] = GRID, *, seed: int = 0) -> TrainingParams:
    """Return the parameters with the least out-of-fold error; of equals, the first.

    Parameters
    ----------
    dataset : Dataset
        The vehicles to learn from, and no others: measure the result on vehicles that were not among them.
    grid : sequence of TrainingParams
        The choices.
    seed : int, default 0
        Of every random choice.
    """
    errors = []
    for params in grid:
        boosters = fit_folds(dataset, params, seed=seed)
        raw = out_of_fold(predict_by_fold(boosters, dataset.features), dataset.folds)
        errors.append(np.abs(np.maximum(raw, 0.0) - dataset.labels).mean())
    return grid[int(np.argmin(errors))]
