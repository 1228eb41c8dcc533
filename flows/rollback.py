"""Make the previous champion serve again."""

from asyncio import to_thread
from datetime import UTC, datetime

from prefect import State, flow, task
from prefect.states import Completed

from flows.tasks.endings import ENDS, fails_in_a_sentence
from flows.tasks.promotions import is_worth_repeating, open_promotions
from flows.tasks.reports import announce, report_outcome
from vroom_features.settings import Settings, read_settings
from vroom_model.records import Outcome


@task(retries=2, retry_delay_seconds=[2, 10], timeout_seconds=600, retry_condition_fn=is_worth_repeating)
async def roll_back(settings: Settings, reason: str, as_of: datetime) -> Outcome:
    """Move the alias back by one promotion; repeated with the same time it is the same rollback."""
    return await to_thread(_roll_back, settings, reason, as_of)


def _roll_back(settings: Settings, reason: str, as_of: datetime) -> Outcome:
    with open_promotions(settings) as promotions:
        return promotions.rollback(as_of=as_of, reason=reason)


@flow(name="vroom_forecast_rollback", timeout_seconds=900, **ENDS)
@fails_in_a_sentence
async def vroom_forecast_rollback(reason: str = "rolled back by hand") -> State[Outcome]:
    """Go back one promotion; run again, it goes back further, or finishes an interrupted one.

    The run fails if there is no champion to go back to.

    Args:
        reason: Why; it is kept with the decision.
    """
    settings = read_settings()
    outcome = await roll_back(settings, reason, datetime.now(UTC))
    message = await report_outcome(settings, outcome, title="Rollback", key="rollback")
    version = outcome.decision.candidate_version
    await announce(settings, "rolled-back", message, version, instead_of=outcome.decision.champion_version)
    return Completed(message=message, data=outcome)
