"""Where partitions are computed: in this process, on its threads, or on a Dask cluster.

Each way runs the same function on the same ranges, so the result is the same, byte for byte.
"""

import os
import re
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

from prefect import get_run_logger, task
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from vroom_features.addresses import ServiceAddress
from vroom_features.materialize import Range, make_ranges
from vroom_features.offline.files import Part

FEW_RANGES = 3
"""The process that has the database open computes so many faster than threads do."""
DASK_MIN_RANGES = 8
"""Fewer are computed on threads: connecting to a cluster takes longer."""
MAX_TASKS = 256
"""A task run costs Prefect's server 20 ms, so thousands of partitions are submitted in batches."""
MAX_THREADS = 4
DASK_ADDRESS = re.compile(r"local(:[1-9]\d*)?|.*://.*")


class ClusterError(RuntimeError):
    """The Dask cluster cannot be used; the message says what to do."""


def load_dask(address: str) -> ModuleType:
    """Return the module ``dask_cluster``; ClusterError without the extra, or if the address is wrong."""
    try:
        from flows.tasks import dask_cluster  # noqa: PLC0415 - an extra; 1.4 s and 110 MB
    except ImportError as exc:
        raise ClusterError(
            f"VROOM_DASK_ADDRESS is {address!r} and prefect_dask is not installed;"
            " install the extra: pip install '.[dask]'"
        ) from exc
    if not DASK_ADDRESS.fullmatch(address):
        raise ClusterError(
            f"expected VROOM_DASK_ADDRESS as tcp://host:8786, local or local:4, got {address!r}"
        )
    return dask_cluster


@task(name="make_partitions", retries=2, retry_delay_seconds=[1, 5])
def make_partitions(database: ServiceAddress, root: ServiceAddress, ranges: list[Range]) -> list[Part]:
    """Compute the parts of some ranges; a repeated task writes the same files again."""
    written = make_ranges(database, root, ranges)
    get_run_logger().info("wrote %d parts", len(written))
    return written


class PartitionRunner:
    """Computes parts on a Prefect task runner; ``materialize`` takes it as ``map_ranges``.

    An empty address means threads alone; ClusterError if Dask is set and cannot be used.
    """

    def __init__(self, dask_address: str) -> None:
        if dask_address:
            load_dask(dask_address)
        self._dask_address = dask_address

    def __call__(
        self, database: ServiceAddress, root: ServiceAddress, ranges: Sequence[Range]
    ) -> Iterable[Part]:
        """Compute the parts of many ranges, and none of a few: those are left to the caller."""
        if len(ranges) <= FEW_RANGES:
            return
        size = -(-len(ranges) // MAX_TASKS)
        places = {"database": database, "root": root}
        batches = [list(ranges[start : start + size]) for start in range(0, len(ranges), size)]
        with self._task_runner(len(ranges)) as runner:
            futures = [runner.submit(make_partitions, {**places, "ranges": batch}) for batch in batches]
            for future in futures:
                yield from future.result()

    def _task_runner(self, num_ranges: int) -> TaskRunner[Any]:  # each kind has its own futures
        if self._dask_address and num_ranges >= DASK_MIN_RANGES:
            runner: TaskRunner[Any] = load_dask(self._dask_address).dask_task_runner(self._dask_address)
            return runner
        return ThreadPoolTaskRunner(max_workers=min(MAX_THREADS, os.cpu_count() or 1))
