"""What is written down about model versions: the gate's decisions and the monitor's reports.

They are kept as JSON in tags of the registry.  This module is light, so that readers need no copy of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from vroom_model.errors import BrokenModelError, ForceReasonError, LongReasonError

MIN_ARRIVALS = 100
"""Below so many vehicles a drift index is mostly chance: with ten bins, 9/100 of it on average."""

REASON_MAX = 500
"""Characters of a person's reason: the decision's JSON fits MLflow's tag with all of them escaped."""

Verdict = Literal["too few", "steady", "some drift", "large drift"]


@dataclass(frozen=True, slots=True)
class ChampionRef:
    """Which model version is champion, and what its manifest must hash to."""

    version: int
    run_id: str
    manifest_sha256: str
    bundle_path: str


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A registered model version.

    Parameters
    ----------
    version : int
        Its number.
    run_id : str
        The MLflow run that recorded it.
    created_at : datetime
        When it was registered (UTC).
    tags : mapping
        What is written on it: checksums, lineage, and the last decision about it.
    aliases : tuple of str
        Names that point to it.
    """

    version: int
    run_id: str
    created_at: datetime
    tags: Mapping[str, str]
    aliases: tuple[str, ...]

    @property
    def ref(self) -> ChampionRef:
        """What is needed to fetch and verify its files; BrokenModelError if its checksum is not known."""
        try:
            sha256 = self.tags["manifest_sha256"]
        except KeyError as exc:
            where = Path(f"run {self.run_id}")
            raise BrokenModelError(where, f"version {self.version} lacks the tag manifest_sha256") from exc
        return ChampionRef(self.version, self.run_id, sha256, self.tags.get("bundle_path", "bundle"))


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

    @classmethod
    def uncompared(cls, version: int, run_id: str, reason: str, champion: int | None) -> Self:
        """Return a person's decision for a version, which compares nothing."""
        return cls(
            promote=True,
            reason=reason,
            candidate_version=version,
            candidate_run_id=run_id,
            champion_version=champion,
        )

    def overruled(self, reason: str) -> Self:
        """Return the decision to promote all the same, for a person's reason."""
        name = f"version {self.candidate_version}"
        sentence = f"{name} is promoted by force: {reason} (the gate: {self.reason})"
        return self.model_copy(update={"promote": True, "forced": True, "reason": sentence})

    def tags(self, decided_at: datetime) -> dict[str, str]:
        """Return what is written on the version in the registry."""
        kept = self.model_dump_json(exclude_none=True)
        return {"decision": kept, "decision_reason": self.reason, "decided_at": decided_at.isoformat()}


class Outcome(Record):
    """What a promotion or a rollback did."""

    decision: Decision
    record: int | None = None
    """Number of its record in the history, or None if the champion stayed."""

    @property
    def promoted(self) -> bool:
        """Whether the champion changed."""
        return self.record is not None


def check_reason(reason: str | None) -> None:
    """Raise ForceReasonError or LongReasonError if a person's reason says nothing, or more than is kept."""
    if reason is not None and not reason.strip():
        raise ForceReasonError
    if len(reason or "") > REASON_MAX:
        raise LongReasonError(length=len(reason or ""), longest=REASON_MAX)


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
