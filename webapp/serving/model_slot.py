"""The model that answers: one reference, exchanged whole."""

import threading
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vroom_model.records import ChampionRef
    from vroom_model.serving.predictor import Predictor


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that serves, and since when.  A request reads it once and uses nothing else."""

    predictor: "Predictor"
    ref: "ChampionRef"
    since: datetime

    @property
    def version(self) -> int:
        """The registered version."""
        return self.ref.version


class ModelSlot:
    """Hold the serving model of this worker.

    Assigning a reference is atomic in Python, so readers need no lock: they see the old model or the new one.
    """

    def __init__(self) -> None:
        self.current: LoadedModel | None = None
        self.problem: str | None = None
        """Why the champion is not the model that serves; None while all is well."""
        self.settled = threading.Event()
        """Set once the first attempt to find a model has ended, whatever its outcome."""

    def swap(self, served: LoadedModel) -> LoadedModel | None:
        """Let this model answer from now on, and return the one before."""
        previous, self.current = self.current, served
        self.problem = None
        return previous
