"""Make the previous champion serve again."""

from asyncio import to_thread
from datetime import UTC, datetime

from prefect import State, flow, get_run_logger, task
from prefect.states import Completed, Failed

from flows.tasks.promotions import open_promotions
from flows.tasks.reports import report_outcome
from vroom_features.settings import Settings
from vroom_model.errors import BrokenModelError, RollbackError
from vroom_model.records import Outcome


@task(timeout_seconds=600)  # no retries: after a finished rollback, a second one goes back further
async def roll_back(settings: Settings, reason: str, as_of: datetime) -> Outcome:
    """Move the alias back by one promotion."""
    return await to_thread(_roll_back, settings, reason, as_of)


def _roll_back(settings: Settings, reason: str, as_of: datetime) -> Outcome:
    with open_promotions(settings) as promotions:
        return promotions.rollback(as_of=as_of, reason=reason)


@flow(name="vroom_forecast_rollback", timeout_seconds=900)
async def vroom_forecast_rollback(reason: str = "rolled back by hand") -> State[Outcome]:
    """Go back one promotion; run again, it goes back further, or finishes an interrupted one.

    The run fails if there is no champion to go back to.

    Args:
        reason: Why; it is kept with the decision.
    """
    settings = Settings()
    try:
        outcome = await roll_back(settings, reason, datetime.now(UTC))
    except (BrokenModelError, RollbackError) as exc:
        return Failed(message=str(exc), data=exc)
    get_run_logger().info(outcome.decision.reason)
    await report_outcome(settings, outcome, title="Rollback", key="rollback")
    return Completed(message=outcome.decision.reason, data=outcome)
