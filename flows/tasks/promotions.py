"""Open the history of promotions, and keep MLflow from growing without end."""

from asyncio import to_thread
from collections.abc import Iterator
from contextlib import closing, contextmanager

from prefect import get_run_logger, task

from flows.tasks.messages import publish
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import SourceStoreError
from vroom_features.settings import Settings
from vroom_model.errors import RegistryError
from vroom_model.registry.promotion import PromotionService
from vroom_model.registry.registry import Registry
from vroom_model.registry.retention import delete_old_versions


@contextmanager
def open_promotions(settings: Settings) -> Iterator[PromotionService]:
    """Open the registry, the source database and the way to the web workers."""
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
async def delete_old(settings: Settings) -> None:
    """Delete old model versions; where that fails the next training tries again."""
    logger = get_run_logger()
    try:
        if gone := await to_thread(_forget_old, settings):
            logger.info("old model versions deleted: %s", gone)
    except (SourceStoreError, RegistryError) as exc:
        logger.warning("old model versions stay for now: %s", exc)


def _forget_old(settings: Settings) -> list[int]:
    with open_promotions(settings) as promotions:
        return delete_old_versions(promotions, keep=settings.keep_model_versions)
