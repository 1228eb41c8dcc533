"""``/models``: the model that serves, the candidate, every version, and two of them compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from flask import Blueprint, Response, render_template, request

from vroom_features.addresses import ServiceAddress
from vroom_features.database.tables import PromotionRecord
from vroom_features.errors import VroomFeaturesError
from vroom_features.vehicle import COLUMNS
from vroom_model.errors import VroomModelError
from vroom_model.manifest import ModelManifest
from vroom_model.records import Decision, Matured, ModelVersion, MonitorReport
from vroom_model.registry.promotion import PromotionService, explains, last_made
from webapp.pages.operations import PROMOTE_VERSION, RELOAD, read_progress
from webapp.problems import ProblemError
from webapp.rendering.templates import stream_page
from webapp.services import services
from webapp.serving.current_model import current_model
from webapp.serving.store_state import current_manifest

NUM_RECORDS = 20
NUM_POINTS = 100
NUM_VERSIONS = 50
bp = Blueprint("models", __name__)


@dataclass(frozen=True, slots=True)
class History:
    """What the registry and the database say of models."""

    records: Sequence[PromotionRecord]
    """The last promotions and rollbacks."""
    versions: Sequence[tuple[ModelVersion, Decision | None]] = ()
    """The newest, each with the last decision about it."""
    champion: ModelVersion | None = None
    candidate: ModelVersion | None = None
    """None while it is the champion, too."""
    decision: Decision | None = None
    """Of the gate about the candidate."""
    drift: MonitorReport | None = None
    matured: tuple[Matured, ...] = ()
    moved_by_hand: int | None = None
    """The champion, if it is another one than the last record names."""
    snapshot_digest: str | None = None
    problem: str = ""
    """Why the registry cannot be read."""

    @property
    def disabled_actions(self) -> dict[str, str]:
        """Why an action cannot be started now, by its name."""
        made = last_made(self.records)
        has_earlier = made is not None and (made.previous is not None or self.moved_by_hand is not None)
        if has_earlier or self.problem:
            return {}
        return {"rollback": "There is no earlier champion to go back to."}

    @property
    def notes(self) -> dict[str, str]:
        """What an action would do again on unchanged data, by its name."""
        notes: dict[str, str] = {}
        if self.snapshot_digest is None:
            return notes
        for version in filter(None, (self.candidate, self.champion)):
            if version.tags.get("snapshot_digest") == self.snapshot_digest:
                notes["train"] = f"The data has not changed since model {version.version} was trained on it."
                break
        compared = (self.snapshot_digest, self.champion.version if self.champion else None)
        if self.decision and (self.decision.snapshot_digest, self.decision.champion_version) == compared:
            notes["promote"] = "The two were compared on this data already, with the result above."
        return notes


@bp.get("/models")
def show() -> Response:
    app = services()
    return stream_page(
        "models/show.html",
        problem=app.slot.problem,
        read_history=lambda: read_history(app.promotions, app.settings.offline_store),
        read_operations=lambda: read_progress("train", "promote", "rollback", "monitor"),
        promote_version=PROMOTE_VERSION,
        reload_action=RELOAD,
        mlflow=app.settings.mlflow,
        model_name=app.settings.model_name,
    )


def read_history(promotions: PromotionService, offline_store: ServiceAddress) -> History:
    records: Sequence[PromotionRecord] = []
    try:
        candidate = promotions.registry.candidate()
        records = promotions.history(limit=NUM_RECORDS)
        champion = promotions.registry.champion()
        versions = promotions.registry.versions(limit=NUM_VERSIONS)
        drift = MonitorReport.from_tag(champion, "monitor") if champion else None
        matured: tuple[Matured, ...] = ()
        if champion and drift and drift.matured:
            matured = promotions.registry.matured(champion)
    except (VroomModelError, VroomFeaturesError) as exc:
        return History(records, problem=str(exc))
    if candidate and champion and candidate.version == champion.version:
        candidate = None
    is_under_way = bool(records) and not records[0].is_closed
    is_by_hand = champion is not None and not (is_under_way or explains(last_made(records), champion))
    snapshot = current_manifest(offline_store)
    return History(
        records,
        versions=[(version, Decision.from_tag(version, "decision")) for version in versions],
        champion=champion,
        candidate=candidate,
        decision=Decision.from_tag(candidate, "decision") if candidate else None,
        drift=drift,
        matured=matured[-NUM_POINTS:],
        moved_by_hand=champion.version if champion and is_by_hand else None,
        snapshot_digest=snapshot.digest if snapshot else None,
    )


@bp.get("/models/diagnostics")
def diagnose() -> str:
    """Show where the champion errs, and how saved cars differ from those that it learned from."""
    model = current_model()
    drift, problem = None, ""
    try:
        champion = services().registry.champion()
        drift = MonitorReport.from_tag(champion, "monitor") if champion else None
    except VroomModelError as exc:  # the rest is the model's own, and needs no registry
        problem = str(exc)
    return render_template(
        "models/diagnostics.html", model=model, drift=drift, problem=problem, columns=COLUMNS
    )


class Compared(NamedTuple):
    """A version beside another: what its manifest says of it."""

    version: ModelVersion
    manifest: ModelManifest


@bp.get("/models/compare")
def compare() -> str:
    """Compare two versions, ``a`` and ``b``: their figures, what differs, and the gate's comparison."""
    numbers = [request.args.get(name, type=int) for name in ("a", "b")]
    if None in numbers:
        raise ProblemError(422, "Which versions?", "name two versions, as in /models/compare?a=3&b=2")
    registry = services().registry
    versions = [registry.version(number) for number in numbers if number is not None]
    first, second = (Compared(version, registry.manifest(version)) for version in versions)
    decisions = [Decision.from_tag(each.version, "decision") for each in (first, second)]
    pair = {first.version.version, second.version.version}
    made = [d for d in decisions if d and {d.candidate_version, d.champion_version} == pair and d.segments]
    return render_template(
        "models/compare.html",
        first=first,
        second=second,
        decision=made[0] if made else None,
        params=_differing(first.manifest.params, second.manifest.params),
    )


def _differing(ours: Mapping[str, object], theirs: Mapping[str, object]) -> dict[str, tuple[object, object]]:
    names = sorted({*ours, *theirs})
    return {name: (ours.get(name), theirs.get(name)) for name in names if ours.get(name) != theirs.get(name)}
