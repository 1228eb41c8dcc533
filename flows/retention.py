"""Keep MLflow from growing without end."""

from asyncio import to_thread

from prefect import get_run_logger, task

from vroom_features.settings import Settings
from vroom_model.errors import LedgerError, RegistryError
from vroom_model.retention import forget_old_versions


@task(timeout_seconds=600)
async def forget_old(settings: Settings) -> None:
    """Delete old model versions; where that fails the next training tries again."""
    logger = get_run_logger()
    try:
        if gone := await to_thread(_forget_old, settings):
            logger.info("old model versions deleted: %s", gone)
    except (LedgerError, RegistryError) as exc:
        logger.warning("old model versions stay for now: %s", exc)


def _forget_old(settings: Settings) -> list[int]:
    from flows.succession import open_succession  # noqa: PLC0415  # a deployment imports this file; a run pays

    with open_succession(settings) as succession:
        return forget_old_versions(succession.registry, succession.ledger, keep=settings.keep_model_versions)
