"""Make the previous champion serve again."""

from datetime import UTC, datetime

from prefect import State, flow, get_run_logger
from prefect.states import Completed

from flows.tasks.endings import ENDS, fails_in_a_sentence
from flows.tasks.promotions import library_task, open_promotions
from flows.tasks.reports import announce, report_outcome
from vroom_features.settings import Settings, read_settings
from vroom_model.records import Outcome


@library_task(timeout_s=600)
def roll_back(settings: Settings, reason: str, as_of: datetime) -> Outcome:
    """Move the alias back by one promotion; repeated with the same time it is the same rollback."""
    with open_promotions(settings) as promotions:
        outcome = promotions.rollback(as_of=as_of, reason=reason)
    get_run_logger().info(
        "wrote record %s: version %d is champion", outcome.record, outcome.decision.candidate_version
    )
    return outcome


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
