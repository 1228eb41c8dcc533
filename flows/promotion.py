"""Compare a candidate with the champion, and promote it if it is better."""

from asyncio import to_thread
from datetime import UTC, datetime

from prefect import State, flow, get_run_logger, task
from prefect.states import Completed

from flows.tasks.promotions import is_worth_repeating, open_promotions
from flows.tasks.reports import report_outcome
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.settings import Settings
from vroom_model.evaluation.gate import PromotionRules
from vroom_model.records import Outcome


@task(retries=2, retry_delay_seconds=[2, 10], timeout_seconds=600, retry_condition_fn=is_worth_repeating)
async def compare_and_promote(
    settings: Settings, version: int | None, force_reason: str | None, as_of: datetime
) -> Outcome:
    """Decide and act; repeated with the same time it is the same promotion."""
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

    Args:
        version: By default the candidate.
        force: Promote it whatever the comparison says. Broken files are still refused.
        reason: Why it is forced; required then, and kept with the decision.
    """
    settings = Settings()
    force_reason = reason if force else None
    outcome = await compare_and_promote(settings, version, force_reason, datetime.now(UTC))
    message = await report_outcome(settings, outcome, title="Promotion", key="promotion")
    get_run_logger().info(message)
    return Completed(message=message, data=outcome)
