"""Fitting fleets that are better not held in memory: batch by batch on this machine, or spread over Dask.

The folds are the same as everywhere.  No feature is muted: among so many vehicles a useless one does no harm.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import xgboost as xgb

from vroom_features.view import VEHICLE_VIEW
from vroom_model.dataset import Dataset, TrainingSnapshot, read_blocks
from vroom_model.training.boosting import FoldBooster, TrainingParams, booster_params


class OutOfFoldBlocks(xgb.DataIter):
    """The vehicles outside one fold, a block at a time; XGBoost keeps one byte of each feature.

    Parameters
    ----------
    snapshot : Snapshot
        Of the offline store.
    fold : int
        Left out.
    num_folds : int
        Of how many.
    inputs : sequence of str
        Names of the features.
    """

    def __init__(
        self, snapshot: TrainingSnapshot, fold: int, num_folds: int, *, inputs: Sequence[str]
    ) -> None:
        self._snapshot = snapshot
        self._inputs = inputs
        self._fold = fold
        self._num_folds = num_folds
        self._blocks: Iterator[Dataset] = iter(())
        super().__init__()

    def next(self, input_data: Callable[..., None]) -> bool:
        """Hand the next block over; False when there is none."""
        for block in self._blocks:
            kept = block.take(block.folds != self._fold)
            if len(kept):
                input_data(data=kept.features, label=kept.labels.astype(np.float32))
                return True
        return False

    def reset(self) -> None:
        """Begin again."""
        self._blocks = read_blocks(self._snapshot, inputs=self._inputs, num_folds=self._num_folds)


def stream_folds(
    snapshot: TrainingSnapshot,
    params: TrainingParams,
    *,
    inputs: Sequence[str] = VEHICLE_VIEW.inputs,
    seed: int,
) -> tuple[FoldBooster, ...]:
    """Fit one booster per fold, reading the snapshot in blocks.

    Parameters
    ----------
    snapshot : Snapshot
        Of the offline store; it is read a few times for each fold.
    params : TrainingParams
        How to train.
    inputs : sequence of str
        Names of the features.
    seed : int
        Of every random choice.
    """
    boosters = []
    for fold in range(params.num_folds):
        blocks = OutOfFoldBlocks(snapshot, fold, params.num_folds, inputs=inputs)
        matrix = xgb.QuantileDMatrix(blocks, nthread=params.num_threads)
        settings = booster_params(params, inputs=inputs, num_rows=matrix.num_row(), seed=seed)
        booster = xgb.train(settings, matrix, params.num_rounds)
        boosters.append(FoldBooster(booster, (True,) * len(inputs)))
    return tuple(boosters)
