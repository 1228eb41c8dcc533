"""What the registry and the history know of models: the candidate, and who was champion when and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from pydantic import ValidationError

from vroom_features.database.tables import PromotionRecord
from vroom_features.errors import VroomFeaturesError
from vroom_model.errors import VroomModelError
from vroom_model.records import Decision, ModelVersion, MonitorReport, Record
from vroom_model.registry.promotion import PromotionService, explains, last_made

NUM_RECORDS = 20
Noted = TypeVar("Noted", bound=Record)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A version that waits, and what the gate said of it.

    Parameters
    ----------
    version : int
        Its number.
    created_at : datetime
        When it was registered.
    mae : str
        Its out-of-fold error, as recorded at training; empty when it is not known.
    snapshot_id, run_id : str
        What it learned from, and the MLflow run that recorded it.
    verdict : Decision or None
        None while it was not compared.
    """

    version: int
    created_at: datetime
    mae: str
    snapshot_id: str
    run_id: str
    verdict: Decision | None


@dataclass(frozen=True, slots=True)
class History:
    """The candidate if it is not champion, the last records, the last look for drift, and what is amiss.

    Parameters
    ----------
    moved_by_hand : int or None
        The champion, if it is another one than the last record says.
    """

    candidate: Candidate | None
    records: Sequence[PromotionRecord]
    watch: MonitorReport | None = None
    moved_by_hand: int | None = None
    problem: str = ""

    @property
    def disabled_actions(self) -> dict[str, str]:
        """Why an action cannot be started now, by its name."""
        made = last_made(self.records)
        has_earlier = made is not None and (made.previous is not None or self.moved_by_hand is not None)
        return (
            {} if has_earlier or self.problem else {"rollback": "There is no earlier champion to go back to."}
        )


class ModelHistory:
    """Reads the registry and the history of promotions.

    Parameters
    ----------
    promotions : PromotionService
        Versions and aliases; who was champion when, and why.
    """

    def __init__(self, promotions: PromotionService) -> None:
        self._promotions = promotions

    def read(self) -> History:
        """Return what there is to tell beside the champion that serves."""
        records: Sequence[PromotionRecord] = []
        try:
            candidate = self._promotions.registry.candidate()
            records = self._promotions.history(limit=NUM_RECORDS)
            champion = self._promotions.registry.champion()
        except (VroomModelError, VroomFeaturesError) as exc:
            return History(None, records, problem=str(exc))
        waits = candidate is not None and (champion is None or candidate.version != champion.version)
        is_under_way = bool(records) and not records[0].is_closed
        is_by_hand = champion is not None and not (is_under_way or explains(last_made(records), champion))
        return History(
            candidate=_candidate(candidate) if candidate and waits else None,
            records=records,
            watch=_noted(MonitorReport, champion, "monitor") if champion else None,
            moved_by_hand=champion.version if champion and is_by_hand else None,
        )


def _candidate(found: ModelVersion) -> Candidate:
    return Candidate(
        version=found.version,
        created_at=found.created_at,
        mae=found.tags.get("mae", ""),
        snapshot_id=found.tags.get("snapshot_id", ""),
        run_id=found.run_id,
        verdict=_noted(Decision, found, "decision"),
    )


def _noted(kind: type[Noted], version: ModelVersion, tag: str) -> Noted | None:
    """Return what is written on a version; None if nothing is, or another program wrote it otherwise."""
    try:
        return kind.model_validate_json(version.tags[tag]) if tag in version.tags else None
    except ValidationError:
        return None
