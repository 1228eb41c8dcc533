"""Who is champion, who was, and who comes next: promotion and rollback, with everything written down.

A change of champion begins with the next epoch in the ledger, which decides; the note on the version, the
alias in MLflow and the message follow (``settlement``), and whoever looks next finishes what a crash cut off.
"""

import logging
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from vroom_model.dataset import TrainingSnapshot
from vroom_model.errors import (
    BrokenModelError,
    ForceReasonError,
    ModelNotFoundError,
    PromotionRaceError,
    RollbackError,
)
from vroom_model.evaluation import Evaluation, score
from vroom_model.ledger import Handover, Ledger
from vroom_model.messages import ModelPromoted
from vroom_model.predictor import Predictor
from vroom_model.promotion import PromotionRules, check_length, decide
from vroom_model.records import Decision
from vroom_model.registry import ModelVersion, Registry
from vroom_model.settlement import Settlement, is_of

logger = logging.getLogger(__name__)
ATTEMPTS = 8


class Outcome(BaseModel):
    """What a promotion or a rollback did."""

    model_config = ConfigDict(frozen=True)

    decision: Decision
    epoch: int | None = None
    """Of the handover, or None if the champion stayed."""

    @property
    def promoted(self) -> bool:
        """Whether the champion changed."""
        return self.epoch is not None


class Succession:
    """The champions of a registered model.

    Parameters
    ----------
    registry : Registry
        Versions and aliases.
    ledger : Ledger
        Epochs, in the source database.
    publish : callable
        Tells the web workers; called after the alias has moved, perhaps twice for one epoch.
    cache_dir : Path, optional
        Where downloaded models are kept; without it they are downloaded anew each time.
    """

    def __init__(
        self,
        registry: Registry,
        ledger: Ledger,
        *,
        publish: Callable[[ModelPromoted], None],
        cache_dir: Path | None = None,
    ) -> None:
        self.registry = registry
        self.ledger = ledger
        self._settlement = Settlement(registry, ledger, publish=publish)
        self._cache_dir = cache_dir

    def champion(self) -> ModelVersion | None:
        """Return the champion, after finishing what a crash may have cut off."""
        self._settlement.repair()
        return self.registry.champion()

    def history(self, *, limit: int = 50) -> list[Handover]:
        """Return the handovers, the last first."""
        return self.ledger.entries(limit=limit)

    def promote(
        self,
        snapshot: TrainingSnapshot,
        *,
        as_of: datetime,
        version: int | None = None,
        force_reason: str | None = None,
        rules: PromotionRules | None = None,
    ) -> Outcome:
        """Compare a version with the champion on a snapshot, and make it champion if it is better.

        Parameters
        ----------
        snapshot : Snapshot
            Both are scored on its csv vehicles, out of fold.
        as_of : datetime
            The moment of the decision, with a time zone; repeated with the same, it is the same promotion.
        version : int, optional
            Which; the candidate if not given.
        force_reason : str, optional
            Promote whatever the comparison says, for this written reason; broken files are refused still.
        rules : PromotionRules, optional
            What counts.

        Raises
        ------
        ModelNotFoundError
            If there is no such version, or no candidate.
        ForceReasonError, LongReasonError
            If ``force_reason`` says nothing, or too much.
        PromotionRaceError
            If others got in between each time.
        UnsettledError
            If it is decided and could not be carried out yet.
        """
        if force_reason is not None and not force_reason.strip():
            raise ForceReasonError
        check_length(force_reason or "")
        for _ in range(ATTEMPTS):
            head = self._settlement.repair()
            chosen = self._chosen(version)
            if (
                head is not None
                and head.decision
                and (head.version, head.decided_at) == (chosen.version, as_of)
            ):
                # This very promotion, repeated after a failure that came after its entry in the ledger.
                return Outcome(decision=Decision.model_validate_json(head.decision), epoch=head.epoch)
            decision = self._decide(chosen, head, snapshot, rules)
            decision = decision.model_copy(update={"candidate_run_id": chosen.run_id})
            # Without scores there was nothing to overrule: the files are broken, or it is champion already.
            if force_reason is not None and decision.candidate_mae is not None:
                decision = _forced(decision, force_reason.strip(), head)
            if not decision.promote:
                self._note(decision, as_of)
                return Outcome(decision=decision)
            entry = self.ledger.append(
                after=head,
                version=chosen.version,
                kind="promotion",
                reason=decision.reason,
                decision=decision.model_dump_json(exclude_none=True),
                decided_at=as_of,
                back_to=head.epoch if head else None,
                forced=decision.forced,
            )
            if entry is not None:
                self._settlement.settle(entry)
                return Outcome(decision=decision, epoch=entry.epoch)
        raise PromotionRaceError(f"other promotions got in between {ATTEMPTS} times; try again")

    def rollback(self, *, as_of: datetime, reason: str = "rolled back by hand") -> Outcome:
        """Make the champion before this one champion again; repeated, it goes back further.

        A rollback that finds another one unfinished finishes that one, and goes back no further.

        Raises
        ------
        RollbackError
            If there is no earlier champion, or its version is gone from the registry.
        BrokenModelError
            If its files cannot be trusted.
        LongReasonError
            If ``reason`` says too much.
        UnsettledError
            If it is decided and could not be carried out yet.
        """
        check_length(reason)
        for _ in range(ATTEMPTS):
            found = self.ledger.head()
            head = self._settlement.repair()
            if found and head and head.decision and _is_finished_rollback(found, head):
                return Outcome(decision=Decision.model_validate_json(head.decision), epoch=head.epoch)
            if head is None or head.back_to is None:
                raise RollbackError("there is no earlier champion to go back to")
            target = self.ledger.entry(head.back_to)
            try:
                restored = self._settlement.version_of(target)
                self.load(restored)
            except ModelNotFoundError as exc:
                raise RollbackError(
                    f"version {target.version}, champion before, is gone; promote another"
                ) from exc
            sentence = f"version {target.version} is champion again, instead of {head.version}: {reason}"
            decision = Decision(
                promote=True,
                reason=sentence,
                candidate_version=target.version,
                candidate_run_id=restored.run_id,
                champion_version=head.version,
            )
            entry = self.ledger.append(
                after=head,
                version=target.version,
                kind="rollback",
                reason=reason,
                decision=decision.model_dump_json(exclude_none=True),
                decided_at=as_of,
                back_to=target.back_to,
            )
            if entry is not None:
                self._settlement.settle(entry)
                return Outcome(decision=decision, epoch=entry.epoch)
        raise PromotionRaceError(f"other promotions got in between {ATTEMPTS} times; try again")

    def _chosen(self, version: int | None) -> ModelVersion:
        if version is not None:
            return self.registry.version(version)
        candidate = self.registry.candidate()
        if candidate is None:
            raise ModelNotFoundError(f"{self.registry.model_name} has no candidate; train one first")
        return candidate

    def _decide(
        self,
        chosen: ModelVersion,
        head: Handover | None,
        snapshot: TrainingSnapshot,
        rules: PromotionRules | None,
    ) -> Decision:
        if head is not None and head.version == chosen.version and is_of(head, chosen):
            return Decision(
                promote=False,
                reason=f"version {chosen.version} is champion already",
                candidate_version=chosen.version,
                champion_version=head.version,
            )
        try:
            candidate = score(self.load(chosen), snapshot)
        except BrokenModelError as exc:
            return Decision(
                promote=False,
                reason=f"version {chosen.version} cannot be used: {exc.problem}; train again",
                candidate_version=chosen.version,
                champion_version=head.version if head else None,
            )
        return decide(candidate, self._score_champion(head, snapshot), rules)

    def _score_champion(self, head: Handover | None, snapshot: TrainingSnapshot) -> Evaluation | None:
        """Return the champion's scores, or None if there is none that could serve."""
        if head is None:
            return None
        try:
            return score(self.load(self._settlement.version_of(head)), snapshot)
        except (ModelNotFoundError, BrokenModelError) as exc:
            logger.warning("champion cannot be scored version=%s: %s", head.version, exc)
            return None

    def load(self, version: ModelVersion) -> Predictor:
        """Return a version's predictor, its files verified."""
        with tempfile.TemporaryDirectory(prefix="vroom-model-") as name:
            directory = self.registry.download(version, self._cache_dir or Path(name))
            return Predictor.load(
                directory, version=version.version, manifest_sha256=version.ref.manifest_sha256
            )

    def _note(self, decision: Decision, as_of: datetime) -> None:
        """Keep a refusal on the version; the champion keeps the reason why it became one."""
        if decision.candidate_version == decision.champion_version:
            return
        self.registry.set_tags(
            decision.candidate_version,
            {
                "decision": decision.model_dump_json(exclude_none=True),
                "decision_reason": decision.reason,
                "decided_at": as_of.isoformat(),
            },
        )


def _is_finished_rollback(found: Handover, head: Handover) -> bool:
    """Tell whether the last handover is a rollback that was found unfinished, and is finished now."""
    return found.kind == "rollback" and not found.settled and head.epoch == found.epoch and head.settled


def _forced(decision: Decision, reason: str, head: Handover | None) -> Decision:
    """Return the decision overruled by a person."""
    sentence = (
        f"version {decision.candidate_version} is promoted by force: {reason} (the gate: {decision.reason})"
    )
    return decision.model_copy(
        update={
            "promote": True,
            "forced": True,
            "reason": sentence,
            "champion_version": head.version if head else None,
        }
    )
