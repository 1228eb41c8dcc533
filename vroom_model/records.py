"""Records about model versions: the gate's decisions and the monitor's reports, kept as JSON in tags.

The web app imports this module, so it imports neither pandas nor XGBoost.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from vroom_model.errors import BrokenModelError, ReasonError

MIN_ARRIVALS = 100
"""With fewer vehicles PSI is mostly chance: with ten bins and 100 vehicles, 0.09 of it on average."""

REASON_MAX = 500
"""Characters of a person's reason: even with all of them escaped, the decision fits into a tag of MLflow."""

MIN_MATURED = 30
"""The error of fewer vehicles is not judged."""

Verdict = Literal["too few", "steady", "some drift", "large drift"]


@dataclass(frozen=True, slots=True)
class ChampionRef:
    """A champion: its version, and what is needed to fetch and verify its files."""

    version: int
    run_id: str
    manifest_sha256: str
    bundle_path: str


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A registered model version; its tags hold checksums, lineage and the last decision about it."""

    version: int
    run_id: str
    created_at: datetime
    tags: Mapping[str, str]

    @property
    def ref(self) -> ChampionRef:
        """What is needed to fetch and verify its files; BrokenModelError without a checksum."""
        if (sha256 := self.tags.get("manifest_sha256")) is None:
            raise BrokenModelError(f"version {self.version}", "it lacks the tag manifest_sha256")
        return ChampionRef(self.version, self.run_id, sha256, self.tags.get("bundle_path", "bundle"))


class Record(BaseModel):
    """Base of the records; fields that a newer program added are ignored."""

    model_config = ConfigDict(frozen=True)

    @classmethod
    def from_tag(cls, version: ModelVersion, tag: str) -> Self | None:
        """Return the record in a tag of a version; None if there is none that can be read."""
        try:
            return cls.model_validate_json(version.tags[tag]) if tag in version.tags else None
        except ValidationError:
            return None


class SegmentGain(Record):
    """The errors of candidate and champion on the vehicles of one price segment."""

    segment: str
    num_vehicles: int
    candidate_mae: float
    champion_mae: float
    low: float
    high: float
    """95 % interval of the paired difference, candidate less champion."""

    @property
    def difference(self) -> float:
        """The candidate's error less the champion's."""
        return self.candidate_mae - self.champion_mae


class Decision(Record):
    """Whether to promote a version, and why, in a sentence and in numbers."""

    promote: bool
    reason: str
    candidate_version: int
    candidate_run_id: str | None = None
    """It identifies the version where a registry was lost and version numbers start again."""
    champion_version: int | None = None
    candidate_mae: float | None = None
    champion_mae: float | None = None
    gain: float | None = None
    gain_low: float | None = None
    num_vehicles: int | None = None
    num_left_out: int = 0
    """Vehicles under watch, which are not compared on."""
    next_matures: date | None = None
    """The day at which the first of these has an outcome."""
    snapshot_digest: str | None = None
    segments: tuple[SegmentGain, ...] = ()
    forced: bool = False

    @classmethod
    def uncompared(cls, version: int, run_id: str, reason: str, champion: int | None) -> Self:
        """Return the decision of a person for a version, without a comparison."""
        return cls(
            promote=True,
            reason=reason,
            candidate_version=version,
            candidate_run_id=run_id,
            champion_version=champion,
        )

    def overruled(self, reason: str) -> Self:
        """Return the decision to promote all the same, for the reason of a person."""
        name = f"version {self.candidate_version}"
        sentence = f"{name} is promoted by force: {reason} (the gate: {self.reason})"
        return self.model_copy(update={"promote": True, "forced": True, "reason": sentence})

    def tags(self, decided_at: datetime) -> dict[str, str]:
        """Return the tags of the version in the registry."""
        decision = self.model_dump_json(exclude_none=True)
        return {"decision": decision, "decision_reason": self.reason, "decided_at": decided_at.isoformat()}


class Outcome(Record):
    """The result of a promotion or a rollback."""

    decision: Decision
    record: int | None = None
    """Number of its record in the history; None if the champion stayed."""

    @property
    def promoted(self) -> bool:
        """Whether the champion changed."""
        return self.record is not None


def check_reason(reason: str | None) -> None:
    """Raise ReasonError if a person's reason is blank or too long; None is no reason and passes."""
    if reason is None:
        return
    if not reason.strip():
        raise ReasonError(
            "a forced promotion needs a written reason, which is kept with it: say why it overrules the gate"
        )
    if len(reason) > REASON_MAX:
        raise ReasonError(
            f"the reason has {len(reason):,} characters; say it in {REASON_MAX}, it is kept with the decision"
        )


class FeatureDrift(Record):
    """How much a feature of new arrivals differs from that of the training vehicles."""

    feature: str
    psi: float | None
    verdict: Verdict
    counts: tuple[int, ...] = ()
    """Of the arrivals in the bins of the training's histogram; reports of earlier releases have none."""


class Outcomes(Record):
    """Out-of-fold forecasts against outcomes, for the vehicles of a snapshot whose watch is over."""

    num_vehicles: int
    mean_forecast: float
    mean_outcome: float
    mae: float
    held: float
    """Share of outcomes inside the forecast's range."""


class Matured(Record):
    """Forecasts as they were served against outcomes, for vehicles whose watch ended since the training.

    The figures are per watch of the model, and None for fewer than ``MIN_MATURED`` vehicles.
    """

    complete_through: date
    """D, at which these outcomes were known."""
    num_vehicles: int
    mae: float | None = None
    bias: float | None = None
    coverage: float | None = None
    """Share of outcomes inside the forecast's range."""
    is_worse: bool = False
    """Whether the error is above that of the training, out of fold, by more than chance."""

    @property
    def summary(self) -> str:
        """The error in one sentence."""
        matured = f"{self.num_vehicles:,} matured since the training"
        if self.mae is None:
            return f"{matured}, too few to judge its real error by; it takes {MIN_MATURED}"
        judged = ", worse than in training, so train again" if self.is_worse else ""
        return f"real error {self.mae:.3f} on {matured}{judged}"


class MonitorReport(Record):
    """Drift and outcomes of a model, as the monitor flow found them."""

    version: int
    as_of: datetime
    num_arrivals: int
    features: tuple[FeatureDrift, ...]
    outcomes: Outcomes | None
    """None in reports of earlier releases, where a fleet had none."""
    num_left_out: int = 0
    """Vehicles under watch, whose outcomes are not complete."""
    next_matures: date | None = None
    """The day at which the first of these has an outcome."""
    lost_bookings: str | None = None
    """By how much bookings fell lately, if it is more than chance."""
    matured: Matured | None = None
    """None in reports about models of earlier releases, which did not know their watch."""

    @property
    def drifted(self) -> tuple[str, ...]:
        """Features with large drift."""
        return tuple(f.feature for f in self.features if f.verdict == "large drift")

    @property
    def has_drifted(self) -> bool:
        """Whether vehicles, bookings or the real error are off by much more than chance."""
        return bool(self.drifted or self.lost_bookings or (self.matured and self.matured.is_worse))

    @property
    def summary(self) -> str:
        """The fall of bookings, if there is one, the drift and the real error, in one sentence."""
        parts = [self._drift]
        if self.lost_bookings:
            check = "demand fell, or bookings are missing, so check reservations.csv and seed again"
            parts.insert(0, f"{self.lost_bookings}: {check}")
        if self.matured:
            parts.append(self.matured.summary)
        return "; ".join(parts)

    @property
    def _drift(self) -> str:
        if self.num_arrivals < MIN_ARRIVALS:
            return f"{self.num_arrivals} saved cars are too few to judge drift by; it takes {MIN_ARRIVALS}"
        if self.drifted:
            return (
                f"saved cars differ from the training data in {', '.join(self.drifted)}; "
                "trust their forecasts less until the CSV files hold cars like them to learn from"
            )
        return f"{self.num_arrivals} saved cars look like the training data"
