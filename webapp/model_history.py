"""What the registry and the ledger know of models: the candidate, and who was champion when and why."""

from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from pydantic import ValidationError

from vroom_model.errors import VroomModelError
from vroom_model.ledger import Handover, Ledger
from vroom_model.records import Decision, MonitorReport, Record
from vroom_model.registry import ModelVersion, Registry

NUM_HANDOVERS = 20
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
    """The candidate if it is not champion, the last handovers, the last look for drift, and what is amiss."""

    candidate: Candidate | None
    handovers: list[Handover]
    watch: MonitorReport | None = None
    problem: str = ""

    @property
    def withheld(self) -> dict[str, str]:
        """Why an action cannot be started now, by its name."""
        has_earlier = bool(self.handovers) and self.handovers[0].back_to is not None
        return (
            {} if has_earlier or self.problem else {"rollback": "There is no earlier champion to go back to."}
        )


class ModelHistory:
    """Reads the registry and the ledger.

    Parameters
    ----------
    registry : Registry
        Versions and aliases.
    ledger : Ledger
        Who was champion when, and why.
    """

    def __init__(self, registry: Registry, ledger: Ledger) -> None:
        self._registry = registry
        self._ledger = ledger

    def read(self, *, champion: int | None) -> History:
        """Return what there is to tell beside the champion that serves."""
        handovers: list[Handover] = []
        try:
            handovers = self._ledger.entries(limit=NUM_HANDOVERS)
            found = self._registry.candidate()
            serving = self._registry.version(champion) if champion is not None else None
        except VroomModelError as exc:
            return History(None, handovers, problem=str(exc))
        waits = found is not None and found.version != champion
        watch = _noted(MonitorReport, serving, "monitor") if serving else None
        return History(_candidate(found) if found and waits else None, handovers, watch)


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
