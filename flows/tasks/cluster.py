"""The Dask cluster that ``VROOM_DASK_ADDRESS`` names: one that runs, or one to start on this machine."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Client
    from prefect_dask.task_runners import DaskTaskRunner

LOCAL = re.compile(r"local(?::(?P<workers>[1-9]\d*))?")


class ClusterError(RuntimeError):
    """The cluster cannot be used; the message says what to do."""


def check_cluster(address: str) -> None:
    """Raise unless this program can speak to a Dask cluster.

    Raises
    ------
    ClusterError
        If the extra is missing, or the address is none.
    """
    try:
        import prefect_dask  # noqa: F401, PLC0415  # an extra, and a second to import
    except ImportError as exc:
        raise ClusterError(
            f"VROOM_DASK_ADDRESS is {address!r} and prefect_dask is not installed;"
            " install the extra: pip install '.[dask]'"
        ) from exc
    if not LOCAL.fullmatch(address) and "://" not in address:
        raise ClusterError(
            f"expected VROOM_DASK_ADDRESS as tcp://host:8786, local or local:4, got {address!r}"
        )


def local_workers(address: str) -> int | None:
    """Return how many workers to start on this machine, or None for the address of a scheduler.

    Examples
    --------
    >>> local_workers("local:4")
    4
    >>> local_workers("tcp://10.0.0.5:8786") is None
    True
    """
    if (local := LOCAL.fullmatch(address)) is None:
        return None
    return int(local["workers"] or os.cpu_count() or 1)


def dask_task_runner(address: str) -> "DaskTaskRunner":
    """Return a task runner on the cluster; it connects, or starts it, at its first task."""
    from prefect_dask.task_runners import DaskTaskRunner  # noqa: PLC0415  # as above

    if (workers := local_workers(address)) is None:
        return DaskTaskRunner(address=address)
    return DaskTaskRunner(cluster_kwargs=_on_this_machine(workers))


@contextmanager
def dask_client(address: str) -> Iterator["Client"]:
    """Connect to the cluster for the time of the block, starting it where it is a local one."""
    from distributed import Client, LocalCluster  # noqa: PLC0415  # as above

    if (workers := local_workers(address)) is None:
        with Client(address) as client:  # type: ignore[no-untyped-call]  # Dask's own
            yield client
        return
    with (
        LocalCluster(**_on_this_machine(workers)) as cluster,  # type: ignore[no-untyped-call]  # as above
        Client(cluster) as client,  # type: ignore[no-untyped-call]  # as above
    ):
        yield client


def _on_this_machine(workers: int) -> dict[str, Any]:  # as LocalCluster takes them
    """Return a cluster of processes with one thread each, without a page of its own."""
    return {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
