"""What is written down about model versions: the gate's decisions and the monitor's reports.

They are kept as JSON in tags of the registry.  This module is light, so that readers need no copy of it.
"""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

MIN_ARRIVALS = 100
"""Below so many vehicles a drift index is mostly chance: with ten bins, 9/100 of it on average."""

Verdict = Literal["too few", "steady", "some drift", "large drift"]


class Record(BaseModel):
    """Base of the records; fields that a newer program added are ignored."""

    model_config = ConfigDict(frozen=True)


class Decision(Record):
    """Whether to promote, and why, in one sentence and in numbers."""

    promote: bool
    reason: str
    candidate_version: int
    candidate_run_id: str | None = None
    """MLflow's, which no other version has again: numbers begin anew where a registry was lost."""
    champion_version: int | None = None
    candidate_mae: float | None = None
    champion_mae: float | None = None
    gain: float | None = None
    gain_low: float | None = None
    num_vehicles: int | None = None
    num_left_out: int = 0
    """Booked vehicles from the web form, by which nothing is judged."""
    snapshot_digest: str | None = None
    forced: bool = False


class FeatureDrift(Record):
    """How far a feature of new arrivals lies from the training vehicles."""

    feature: str
    psi: float | None
    verdict: Verdict


class Outcomes(Record):
    """Out-of-fold forecasts against what happened, for the csv vehicles of a snapshot."""

    num_vehicles: int
    mean_forecast: float
    mean_outcome: float
    mae: float
    held: float


class MonitorReport(Record):
    """What watching a model found."""

    version: int
    as_of: datetime
    num_arrivals: int
    features: tuple[FeatureDrift, ...]
    outcomes: Outcomes | None
    """None in reports of a release that had none to compare."""
    num_left_out: int = 0
    """Booked vehicles from the web form, whose outcomes are not over."""

    @property
    def drifted(self) -> tuple[str, ...]:
        """Features with large drift."""
        return tuple(f.feature for f in self.features if f.verdict == "large drift")

    @property
    def summary(self) -> str:
        """What was found of drift, in one sentence."""
        if self.num_arrivals < MIN_ARRIVALS:
            return f"{self.num_arrivals} new arrivals are too few to judge drift by; it takes {MIN_ARRIVALS}"
        if self.drifted:
            return (
                f"new arrivals differ from the training vehicles in {', '.join(self.drifted)}; "
                "trust their forecasts less until the CSV files hold vehicles like them to learn from"
            )
        return f"{self.num_arrivals} new arrivals look like the training vehicles"
