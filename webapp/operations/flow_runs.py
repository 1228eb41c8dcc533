"""What the web app shows of a flow's run."""

from dataclasses import dataclass
from datetime import datetime

ACTIVE = ("SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING")


@dataclass(frozen=True, slots=True)
class ModelLink:
    """Where MLflow shows a model, as the run itself wrote it down."""

    text: str
    url: str


@dataclass(frozen=True, slots=True)
class FlowRun:
    """A run of a flow.

    Parameters
    ----------
    id, name, flow : str
        Prefect's id, Prefect's name for it, and the flow's name.
    state, state_type : str
        As Prefect shows it, and its kind: ``COMPLETED``, ``FAILED``, ``RUNNING``, ...
    message : str
        What the run says of its outcome.
    started_at, ended_at : datetime, optional
        In UTC; None before.
    duration_s : float
        Time it ran, so far.
    url : str
        Its page in Prefect.
    models : tuple of ModelLink
        The MLflow runs of the model versions that it made or compared.
    """

    id: str
    name: str
    flow: str
    state: str
    state_type: str
    message: str
    started_at: datetime | None
    ended_at: datetime | None
    duration_s: float
    url: str
    models: tuple[ModelLink, ...] = ()

    @property
    def is_active(self) -> bool:
        """True until it has ended."""
        return self.state_type in ACTIVE


@dataclass(frozen=True, slots=True)
class Step:
    """A task or subflow of a run."""

    name: str
    state: str
    state_type: str
