"""How flows call the libraries: in a task, which is tried again where that may help."""

from asyncio import to_thread
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from prefect import Task, get_run_logger, task

from flows.tasks.partitions import ClusterError
from flows.tasks.reports import publish
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import (
    DataContractError,
    NoSnapshotError,
    SourceStoreError,
    UnreadableSnapshotError,
)
from vroom_features.settings import Settings
from vroom_model.errors import (
    BaselineError,
    BrokenModelError,
    ModelNotFoundError,
    ReasonError,
    RegistryError,
    RollbackError,
    TrainingDataError,
)
from vroom_model.registry.promotion import PromotionService
from vroom_model.registry.registry import Registry

REFUSALS = (
    BaselineError,
    BrokenModelError,
    ClusterError,
    DataContractError,
    ModelNotFoundError,
    NoSnapshotError,
    ReasonError,
    RollbackError,
    TrainingDataError,
    UnreadableSnapshotError,
)
"""A second try ends in the same error."""

P = ParamSpec("P")
T = TypeVar("T")


def library_task(
    *, timeout_s: float, retries: int = 2
) -> Callable[[Callable[P, T]], Task[P, Coroutine[Any, Any, T]]]:
    """Decorate a function so that it is a task, done on a thread: its flow sends heartbeats meanwhile."""

    def decorate(body: Callable[P, T]) -> Task[P, Coroutine[Any, Any, T]]:
        @task(
            retries=retries,
            retry_delay_seconds=[2.0, 10.0][:retries],
            timeout_seconds=timeout_s,
            retry_condition_fn=lambda _task, _run, state: not isinstance(state.data, REFUSALS),
        )
        @wraps(body)
        async def on_a_thread(*args: P.args, **kwargs: P.kwargs) -> T:
            return await to_thread(body, *args, **kwargs)

        return on_a_thread

    return decorate


@contextmanager
def open_promotions(settings: Settings) -> Iterator[PromotionService]:
    """Open the registry and the source database for the time of the block."""
    with (
        closing(SourceStore.open(settings.source_database)) as source,
        Registry(settings.mlflow, settings.model_name) as registry,
    ):
        yield PromotionService(
            registry,
            source,
            publish=lambda message: publish(settings, message),
            cache_dir=settings.home / "models",
        )


@library_task(timeout_s=600, retries=0)
def delete_old_versions(settings: Settings) -> None:
    """Delete old model versions; if that fails, the next training tries again."""
    logger = get_run_logger()
    try:
        with open_promotions(settings) as promotions:
            # Without history any version may have been champion: no promotion yet, or it is lost.
            if needed := {record.version for record in promotions.history()}:
                keep = settings.keep_model_versions
                if deleted := promotions.registry.delete_old_versions(keep=keep, needed=needed):
                    logger.info("deleted old model versions %s", deleted)
    except (SourceStoreError, RegistryError) as exc:
        logger.warning("old model versions are not deleted: %s", exc)
