"""The Dask cluster of ``VROOM_DASK_ADDRESS``: one that runs, or one to start on this machine.

Importing this module needs the extra ``dask``.
"""

import os
from collections.abc import Sequence
from typing import Any

from distributed import Client
from prefect_dask.task_runners import DaskTaskRunner

from vroom_features.offline.snapshots import Snapshot
from vroom_model.training.boosting import FoldBooster, TrainingParams
from vroom_model.training.dask_training import fit_on_dask


def num_local_workers(address: str) -> int | None:
    """Return how many workers to start on this machine, or None for the address of a scheduler.

    Examples
    --------
    >>> num_local_workers("local:4")
    4
    >>> num_local_workers("tcp://10.0.0.5:8786") is None
    True
    """
    name, _, workers = address.partition(":")
    return int(workers or os.cpu_count() or 1) if name == "local" else None


def dask_task_runner(address: str) -> DaskTaskRunner:
    """Return a task runner on the cluster, which it connects to, or starts, with its first task."""
    if (workers := num_local_workers(address)) is None:
        return DaskTaskRunner(address=address)
    return DaskTaskRunner(cluster_kwargs=_on_this_machine(workers))


def fit_on_cluster(
    address: str,
    snapshot: Snapshot,
    params: TrainingParams,
    *,
    inputs: Sequence[str],
    seed: int,
    max_label: float,
) -> tuple[FoldBooster, ...]:
    """Fit one booster per fold on the cluster; a local one is started for it."""
    workers = num_local_workers(address)
    cluster = {"address": address} if workers is None else _on_this_machine(workers)
    with Client(**cluster) as client:  # type: ignore[no-untyped-call]  # Dask's own
        return fit_on_dask(client, snapshot, params, inputs=inputs, seed=seed, max_label=max_label)


def _on_this_machine(workers: int) -> dict[str, Any]:  # as LocalCluster takes them
    return {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
