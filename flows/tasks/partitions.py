"""Where partitions are computed: in this process, on its threads, or on a Dask cluster.

Each way runs the same function on the same ranges, so the result is the same, byte for byte.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from prefect import task
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows.tasks.cluster import check_cluster, dask_task_runner
from vroom_features.addresses import ServiceAddress
from vroom_features.materialize import Range, WrittenPart, make_ranges

FEW_RANGES = 3
"""So many are made sooner by the process that has the database open than by handing them out."""
DASK_MIN_RANGES = 8
"""Fewer stay on threads: to reach a cluster takes longer than to make them."""
MAX_TASKS = 256
"""A task run costs Prefect's server 20 ms, so a fleet of thousands of partitions goes out in batches."""
MAX_THREADS = 4


@task(name="make_partitions", retries=2, retry_delay_seconds=[1, 5])
def make_partitions(database: ServiceAddress, root: ServiceAddress, ranges: list[Range]) -> list[WrittenPart]:
    """Make the parts of some ranges; repeated, here or elsewhere, it writes the same files again."""
    return make_ranges(database, root, ranges)


class PartitionRunner:
    """Makes parts on a Prefect task runner: what ``materialize`` takes as ``map_ranges``.

    Parameters
    ----------
    dask_address : str
        As the setting ``VROOM_DASK_ADDRESS``; empty for threads alone.

    Raises
    ------
    ClusterError
        If Dask is asked for and not installed.
    """

    def __init__(self, dask_address: str) -> None:
        if dask_address:
            check_cluster(dask_address)
        self._dask_address = dask_address

    def __call__(
        self, database: ServiceAddress, root: ServiceAddress, ranges: Sequence[Range]
    ) -> Iterable[WrittenPart]:
        """Make the parts of many ranges, and none of a few, which leaves those to the caller."""
        if len(ranges) <= FEW_RANGES:
            return
        size = -(-len(ranges) // MAX_TASKS)
        database, root = _from_any_folder(database), _from_any_folder(root)
        batches = [list(ranges[start : start + size]) for start in range(0, len(ranges), size)]
        with self._task_runner(len(ranges)) as runner:
            futures = [
                runner.submit(make_partitions, {"database": database, "root": root, "ranges": batch})
                for batch in batches
            ]
            for future in futures:
                yield from future.result()

    def _task_runner(self, num_ranges: int) -> TaskRunner[Any]:  # each kind has futures of its own
        """Return what runs so many ranges; nothing starts before its first task."""
        if self._dask_address and num_ranges >= DASK_MIN_RANGES:
            return dask_task_runner(self._dask_address)
        return ThreadPoolTaskRunner(max_workers=min(MAX_THREADS, os.cpu_count() or 1))


def _from_any_folder(place: ServiceAddress) -> ServiceAddress:
    """Make the path of a SQLite file or of a folder absolute: workers may run in other folders."""
    scheme, separator, path = place.url.rpartition("sqlite:///")
    return place if "://" in path else ServiceAddress(f"{scheme}{separator}{Path(path).resolve()}")
