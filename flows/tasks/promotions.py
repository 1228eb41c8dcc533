"""Tasks on the history of promotions and the model versions, and which failures are tried again."""

from asyncio import to_thread
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from prefect import State, Task, get_run_logger, task
from prefect.client.schemas.objects import TaskRun

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


def is_worth_repeating(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Return whether another try of a failed task may succeed: Prefect's ``retry_condition_fn``."""
    return not isinstance(state.data, REFUSALS)


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


@task(timeout_seconds=600)
async def delete_old_versions(settings: Settings) -> None:
    """Delete old model versions; if that fails, the next training tries again."""
    logger = get_run_logger()
    try:
        if deleted := await to_thread(_delete_old_versions, settings):
            logger.info("deleted old model versions %s", deleted)
    except (SourceStoreError, RegistryError) as exc:
        logger.warning("old model versions are not deleted: %s", exc)


def _delete_old_versions(settings: Settings) -> list[int]:
    with open_promotions(settings) as promotions:
        needed = {record.version for record in promotions.history()}
        if not needed:  # no promotion yet, or the history is lost: then any version may have been champion
            return []
        return promotions.registry.delete_old_versions(keep=settings.keep_model_versions, needed=needed)
