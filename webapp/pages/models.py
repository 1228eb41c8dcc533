"""``/models``: the model that serves, the candidate, and those that served before."""

from collections.abc import Sequence
from dataclasses import dataclass

from flask import Blueprint, Response

from vroom_features.database.tables import PromotionRecord
from vroom_features.errors import VroomFeaturesError
from vroom_model.errors import VroomModelError
from vroom_model.records import Decision, Matured, ModelVersion, MonitorReport
from vroom_model.registry.matured import read_matured
from vroom_model.registry.promotion import PromotionService, explains, last_made
from webapp.pages.operations import read_progress
from webapp.rendering.templates import stream_page
from webapp.services import services

NUM_RECORDS = 20
NUM_POINTS = 100
bp = Blueprint("models", __name__)


@dataclass(frozen=True, slots=True)
class History:
    """What the registry and the database say of models.

    Parameters
    ----------
    records : sequence of PromotionRecord
        The last promotions and rollbacks.
    candidate : ModelVersion or None
        None without one, or while it is the champion.
    decision : Decision or None
        Of the gate about the candidate; None before the comparison.
    drift : MonitorReport or None
        The last check of the champion.
    matured : tuple of Matured
        Real errors of the champion over time.
    moved_by_hand : int or None
        The champion, if it is another one than the last record names.
    problem : str
        Why the registry cannot be read.
    """

    records: Sequence[PromotionRecord]
    candidate: ModelVersion | None = None
    decision: Decision | None = None
    drift: MonitorReport | None = None
    matured: tuple[Matured, ...] = ()
    moved_by_hand: int | None = None
    problem: str = ""

    @property
    def disabled_actions(self) -> dict[str, str]:
        """Why an action cannot be started now, by its name."""
        made = last_made(self.records)
        has_earlier = made is not None and (made.previous is not None or self.moved_by_hand is not None)
        if has_earlier or self.problem:
            return {}
        return {"rollback": "There is no earlier champion to go back to."}


@bp.get("/models")
def show() -> Response:
    app = services()
    return stream_page(
        "models/show.html",
        problem=app.slot.problem,
        read_history=lambda: read_history(app.promotions),
        read_workers=lambda: app.heartbeat.workers() or [],
        read_operations=lambda: read_progress("train", "promote", "rollback", "monitor"),
        mlflow=app.settings.mlflow,
        model_name=app.settings.model_name,
    )


def read_history(promotions: PromotionService) -> History:
    records: Sequence[PromotionRecord] = []
    try:
        candidate = promotions.registry.candidate()
        records = promotions.history(limit=NUM_RECORDS)
        champion = promotions.registry.champion()
        drift = MonitorReport.from_tag(champion, "monitor") if champion else None
        matured: tuple[Matured, ...] = ()
        if champion and drift and drift.matured:
            matured = read_matured(promotions.registry, champion)
    except (VroomModelError, VroomFeaturesError) as exc:
        return History(records, problem=str(exc))
    if candidate and champion and candidate.version == champion.version:
        candidate = None
    is_under_way = bool(records) and not records[0].is_closed
    is_by_hand = champion is not None and not (is_under_way or explains(last_made(records), champion))
    return History(
        records,
        candidate=candidate,
        decision=Decision.from_tag(candidate, "decision") if candidate else None,
        drift=drift,
        matured=matured[-NUM_POINTS:],
        moved_by_hand=champion.version if champion and is_by_hand else None,
    )
