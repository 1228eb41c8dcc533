"""What the registry and the ledger know of models: the candidate, and who was champion when and why."""

from dataclasses import dataclass
from datetime import datetime

from flask import current_app
from pydantic import BaseModel, ValidationError

from vroom_model.errors import VroomModelError
from vroom_model.ledger import Handover, Ledger
from vroom_model.registry import ModelVersion, Registry
from webapp.services import services

REGISTRY_TIMEOUT_S = 3.0
NUM_HANDOVERS = 20
KEY = "vroom-model-history"


class Verdict(BaseModel):
    """The gate's last decision about a version, as the registry keeps it."""

    promote: bool
    reason: str
    champion_version: int | None = None
    candidate_mae: float | None = None
    champion_mae: float | None = None
    gain: float | None = None
    gain_low: float | None = None
    num_vehicles: int | None = None
    forced: bool = False


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
    snapshot_id : str
        What it learned from.
    verdict : Verdict or None
        None while it was not compared.
    """

    version: int
    created_at: datetime
    mae: str
    snapshot_id: str
    verdict: Verdict | None


@dataclass(frozen=True, slots=True)
class History:
    """The candidate if it is not champion, the last handovers, and what could not be read."""

    candidate: Candidate | None
    handovers: list[Handover]
    problem: str = ""


class ModelHistory:
    """Reads the registry and the ledger."""

    def __init__(self) -> None:
        app = services()
        settings = app.settings
        self._registry = Registry(settings.mlflow, settings.model_name, timeout_s=REGISTRY_TIMEOUT_S)
        self._ledger = Ledger(app.source.engine, settings.model_name)

    @classmethod
    def of_app(cls) -> "ModelHistory":
        """Return the one of the app that handles this request."""
        extensions = current_app.extensions
        if KEY not in extensions:
            extensions[KEY] = cls()
        found: ModelHistory = extensions[KEY]
        return found

    def read(self, *, champion: int | None) -> History:
        """Return what there is to tell beside the champion that serves."""
        handovers: list[Handover] = []
        try:
            handovers = self._ledger.entries(limit=NUM_HANDOVERS)
            found = self._registry.candidate()
        except VroomModelError as exc:
            return History(None, handovers, str(exc))
        waits = found is not None and found.version != champion
        return History(_candidate(found) if found and waits else None, handovers)


def _candidate(found: ModelVersion) -> Candidate:
    try:
        verdict = Verdict.model_validate_json(found.tags["decision"]) if "decision" in found.tags else None
    except ValidationError:  # written by another version of the program: the page says "not compared"
        verdict = None
    return Candidate(
        version=found.version,
        created_at=found.created_at,
        mae=found.tags.get("mae", ""),
        snapshot_id=found.tags.get("snapshot_id", ""),
        verdict=verdict,
    )
