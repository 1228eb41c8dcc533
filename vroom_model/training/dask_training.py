"""Fitting on a Dask cluster; needs the extra ``dask``."""

import math
from collections.abc import Sequence
from dataclasses import replace

import dask.dataframe as dd
import numpy as np
import pandas as pd
from distributed import Client
from xgboost import dask as dxgb

from vroom_features.offline.snapshots import Snapshot
from vroom_features.view import VEHICLE_VIEW
from vroom_model.dataset import read_blocks
from vroom_model.training.boosting import FoldBooster, TrainingParams, booster_params


def fit_on_dask(
    client: Client,
    snapshot: Snapshot,
    params: TrainingParams,
    *,
    inputs: Sequence[str] = VEHICLE_VIEW.inputs,
    seed: int,
    max_label: float = math.inf,
) -> tuple[FoldBooster, ...]:
    """Fit one booster per fold, each worker reading parts of the snapshot.

    The workers must be able to read the offline store.  The same snapshot, parameters and seed give the same
    boosters, bit for bit, on the same number of workers and threads; other numbers add in another order and
    round otherwise.  If it fails, as when a worker is lost, the workers are restarted: XGBoost leaves the
    others waiting for the lost one, for minutes or for good, and another try would wait for them.
    """
    boosters = []
    for fold in range(params.num_folds):
        matrix = training_matrix(client, snapshot, fold, params.num_folds, inputs=inputs, max_label=max_label)
        place(client, matrix)
        num_rows = snapshot.num_labels * (params.num_folds - 1) // params.num_folds
        settings = booster_params(params, inputs=inputs, num_rows=num_rows, seed=seed)
        try:
            trained = dxgb.train(client, settings, matrix, num_boost_round=params.num_rounds)
        except Exception:
            left = matrix.worker_map.keys() & client.scheduler_info(n_workers=-1)["workers"].keys()
            client.restart_workers(list(left), raise_for_error=False)
            raise
        boosters.append(FoldBooster(trained["booster"], (True,) * len(inputs)))
    return tuple(boosters)


def training_matrix(
    client: Client,
    snapshot: Snapshot,
    fold: int,
    num_folds: int,
    *,
    inputs: Sequence[str],
    max_label: float = math.inf,
) -> dxgb.DaskQuantileDMatrix:
    """Return the vehicles outside one fold, read by whichever worker was free."""
    parts = [replace(snapshot, parts=(part,)) for part in snapshot.parts if part.num_labels]
    options = {"fold": fold, "num_folds": num_folds, "inputs": list(inputs), "max_label": max_label}
    rows = dd.from_map(read_part, parts, meta=_empty_frame(inputs), **options)  # type: ignore[no-untyped-call]  # Dask's own
    return dxgb.DaskQuantileDMatrix(client, rows[list(inputs)], rows[VEHICLE_VIEW.label])


def place(client: Client, matrix: dxgb.DaskQuantileDMatrix) -> None:
    """Assign the parts to the workers in the order of XGBoost's ranks, neighbours together.

    Dask's scheduler chooses who reads what, and XGBoost's sketches and sums depend on who has what.  A part
    that another worker has is sent over when the training begins.
    """
    parts = [part for owned in matrix.worker_map.values() for part in owned]
    parts.sort(key=lambda part: matrix.partition_order[part.key])
    workers = client.scheduler_info(n_workers=-1)["workers"]
    # XGBoost ranks workers by this text.
    ranked = sorted(workers, key=lambda address: f"[xgboost.dask-{workers[address]['name']}]:{address}")
    shares = np.array_split(np.arange(len(parts)), min(len(ranked), len(parts)))
    matrix.worker_map = {
        address: [parts[number] for number in share] for address, share in zip(ranked, shares, strict=False)
    }


def read_part(
    part: Snapshot, *, fold: int, num_folds: int, inputs: Sequence[str], max_label: float
) -> pd.DataFrame:
    """Return the vehicles of a part outside one fold; a worker runs it."""
    frames = [_empty_frame(inputs)]
    for block in read_blocks(part, inputs=inputs, num_folds=num_folds, max_label=max_label):
        kept = block.take(block.folds != fold)
        frame = pd.DataFrame(kept.features, columns=list(inputs))
        frames.append(frame.assign(**{VEHICLE_VIEW.label: kept.labels.astype(np.float32)}))
    return pd.concat(frames, ignore_index=True)


def _empty_frame(inputs: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(columns=[*inputs, VEHICLE_VIEW.label], dtype=np.float32)
