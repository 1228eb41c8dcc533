"""Compare a candidate with the champion, and promote it if it is better."""

from asyncio import to_thread
from datetime import UTC, datetime

from prefect import State, flow, get_run_logger, task
from prefect.artifacts import acreate_markdown_artifact
from prefect.states import Completed

from flows.tasks.promotions import open_promotions
from flows.tasks.report import LEFT_OUT, left_out, link_model, table
from flows.tasks.retries import is_worth_repeating
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.settings import Settings
from vroom_model.evaluation.gate import PromotionRules
from vroom_model.records import Outcome


@task(retries=2, retry_delay_seconds=[2, 10], timeout_seconds=600, retry_condition_fn=is_worth_repeating)
async def compare_and_promote(
    settings: Settings, version: int | None, force_reason: str | None, as_of: datetime
) -> Outcome:
    """Decide and act; repeated with the same moment it is the same promotion."""
    return await to_thread(_compare_and_promote, settings, version, force_reason, as_of)


def _compare_and_promote(
    settings: Settings, version: int | None, force_reason: str | None, as_of: datetime
) -> Outcome:
    snapshot = OfflineStore(settings.offline_store).current()
    rules = PromotionRules(
        min_gain=settings.promotion_min_gain,
        confidence=settings.promotion_confidence,
        segment_margin=settings.promotion_segment_margin,
        max_label_drop=settings.promotion_max_label_drop,
    )
    with open_promotions(settings) as promotions:
        return promotions.promote(
            snapshot, as_of=as_of, version=version, force_reason=force_reason, rules=rules
        )


@flow(name="vroom_forecast_promotion", timeout_seconds=1800)
async def vroom_forecast_promotion(
    version: int | None = None, force: bool = False, reason: str = ""
) -> State[Outcome]:
    """Promote a version if it is better than the champion.

    Parameters
    ----------
    version : int, optional
        Which; by default the candidate.
    force : bool
        Promote it whatever the comparison says.  Broken files are refused still.
    reason : str
        Why it is forced; it must be given then, and is kept with the decision.

    Returns
    -------
    State
        Completed whether it was promoted or not, with the outcome as its data and the reason as its message.
    """
    settings = Settings()
    force_reason = reason if force else None
    outcome = await compare_and_promote(settings, version, force_reason, datetime.now(UTC))
    message = await report_outcome(settings, outcome, title="Promotion", key="promotion")
    get_run_logger().info(message)
    return Completed(message=message, data=outcome)


async def report_outcome(settings: Settings, outcome: Outcome, *, title: str, key: str) -> str:
    """Keep a decision as an artifact of the run, link the model it is about, and return it in a sentence."""
    decision = outcome.decision
    message = f"{decision.reason}{left_out(decision.num_left_out)}"
    numbers = decision.model_dump(exclude={"reason", "num_left_out"}, exclude_none=True)
    rows = {"promoted": outcome.promoted, "record": outcome.record, **numbers}
    if decision.num_vehicles is not None:
        rows[LEFT_OUT] = decision.num_left_out
    await acreate_markdown_artifact(f"{table(title, rows)}\n\n{message}", key=key)
    await link_model(settings, decision.candidate_version)
    return message
