"""Compare a candidate with the champion, and promote it if it is better."""

from datetime import UTC, datetime

from prefect import State, flow, get_run_logger
from prefect.states import Completed

from flows.tasks.endings import ENDS, fails_in_a_sentence
from flows.tasks.promotions import library_task, open_promotions
from flows.tasks.reports import Announced, announce, report_outcome
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.settings import Settings, read_settings
from vroom_model.evaluation.gate import PromotionRules
from vroom_model.records import Outcome


@library_task(timeout_s=600)
def compare_and_promote(
    settings: Settings, version: int | None, force_reason: str | None, as_of: datetime
) -> Outcome:
    """Decide and act; repeated with the same time it is the same promotion."""
    snapshot = OfflineStore(settings.offline_store).current()
    get_run_logger().info("read snapshot %s with %d labels", snapshot.id, snapshot.num_labels)
    rules = PromotionRules(
        min_gain=settings.promotion_min_gain,
        confidence=settings.promotion_confidence,
        segment_margin=settings.promotion_segment_margin,
        max_label_drop=settings.promotion_max_label_drop,
    )
    with open_promotions(settings) as promotions:
        outcome = promotions.promote(
            snapshot, as_of=as_of, version=version, force_reason=force_reason, rules=rules
        )
    get_run_logger().info(
        "compared version %d on %s vehicles; wrote %s",
        outcome.decision.candidate_version,
        outcome.decision.num_vehicles or "no",
        f"record {outcome.record}" if outcome.promoted else "no record",
    )
    return outcome


@flow(name="vroom_forecast_promotion", timeout_seconds=1800, **ENDS)
@fails_in_a_sentence
async def vroom_forecast_promotion(
    version: int | None = None, force: bool = False, reason: str = ""
) -> State[Outcome]:
    """Promote a version if it is better than the champion.

    Args:
        version: By default the candidate.
        force: Promote it whatever the comparison says. Broken files are still refused.
        reason: Why it is forced; required then, and kept with the decision.
    """
    settings = read_settings()
    force_reason = reason if force else None
    outcome = await compare_and_promote(settings, version, force_reason, datetime.now(UTC))
    message = await report_outcome(settings, outcome, title="Promotion", key="promotion")
    decision = outcome.decision
    if decision.candidate_version != decision.champion_version:  # that one is champion already
        numbers = decision.model_dump(mode="json", exclude_none=True)
        event: Announced = "promoted" if outcome.promoted else "refused"
        await announce(settings, event, message, decision.candidate_version, decision=numbers)
    return Completed(message=message, data=outcome)
