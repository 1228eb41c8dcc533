"""Fitting on a Dask cluster; needs the extra ``dask``."""

from collections.abc import Iterator
from dataclasses import replace

import dask.dataframe as dd
import numpy as np
import pandas as pd
from distributed import Client
from xgboost import dask as dxgb

from vroom_features.stores.offline import Snapshot
from vroom_features.view import VEHICLE_VIEW
from vroom_model.boosting import FoldBooster, TrainingParams, booster_params
from vroom_model.dataset import Dataset, read_blocks
from vroom_model.streaming import EVERY_FEATURE

COLUMNS = [*VEHICLE_VIEW.columns, VEHICLE_VIEW.label]
META = pd.DataFrame({name: pd.Series(dtype=np.float32) for name in COLUMNS})


def fit_on_dask(
    client: Client, snapshot: Snapshot, params: TrainingParams, *, seed: int
) -> tuple[FoldBooster, ...]:
    """Fit one booster per fold, each worker reading its own parts of the snapshot.

    Parameters
    ----------
    client : distributed.Client
        Of a cluster whose workers reach the offline store.
    snapshot : Snapshot
        Of the offline store.
    params : TrainingParams
        How to train.
    seed : int
        Of every random choice.
    """
    parts = [replace(snapshot, parts=(part,)) for part in snapshot.parts if part.num_rows]
    boosters = []
    for fold in range(params.num_folds):
        rows = dd.from_map(  # type: ignore[no-untyped-call]  # Dask's own
            read_part, parts, fold=fold, num_folds=params.num_folds, meta=META
        )
        matrix = dxgb.DaskQuantileDMatrix(client, rows[list(VEHICLE_VIEW.columns)], rows[VEHICLE_VIEW.label])
        num_rows = snapshot.num_rows * (params.num_folds - 1) // params.num_folds
        settings = booster_params(params, num_rows=num_rows, seed=seed)
        trained = dxgb.train(client, settings, matrix, num_boost_round=params.num_rounds)
        boosters.append(FoldBooster(trained["booster"], EVERY_FEATURE))
    return tuple(boosters)


def read_part(part: Snapshot, *, fold: int, num_folds: int) -> pd.DataFrame:
    """Return the vehicles of a part outside one fold: what a worker runs."""
    blocks: Iterator[Dataset] = read_blocks(part, num_folds=num_folds)
    frames = []
    for block in blocks:
        kept = block.take(block.folds != fold)
        frame = pd.DataFrame(kept.features, columns=list(VEHICLE_VIEW.columns))
        frames.append(frame.assign(**{VEHICLE_VIEW.label: kept.labels.astype(np.float32)}))
    return pd.concat(frames, ignore_index=True) if frames else META
