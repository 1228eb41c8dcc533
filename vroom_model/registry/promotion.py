"""Promotion and rollback, with their history.

MLflow's alias says which version is champion.  The history in the source database says why: each change is
an open record there before the alias moves, and is closed afterwards, so that the next reader can finish a
change that a crash interrupted (docs/promotion.md).  An alias that no record explains was moved by hand.
"""

import logging
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sqlmodel import Session, col, select

from vroom_features.database.engine import promotion_lock, translated
from vroom_features.database.tables import PromotionRecord
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import LockTimeoutError
from vroom_model.errors import ModelNotFoundError, PromotionRaceError, RegistryError, RollbackError
from vroom_model.messages import ModelPromoted
from vroom_model.records import Decision, ModelVersion, Outcome, check_reason
from vroom_model.registry.model_cache import ModelCache
from vroom_model.registry.registry import Registry
from vroom_model.serving.predictor import Predictor

if TYPE_CHECKING:
    from vroom_features.offline.snapshots import Snapshot
    from vroom_model.evaluation.gate import PromotionRules

logger = logging.getLogger(__name__)
ATTEMPTS = 8
Kind = Literal["promotion", "rollback", "manual"]  # and later "abandoned"; older ones may be "adopted"
Publish = Callable[[ModelPromoted], None]
History = Sequence[PromotionRecord]
Choose = Callable[[ModelVersion | None, History], tuple[Decision, int | None]]  # and the record's `previous`
BY_HAND = "the alias was moved in MLflow, by no promotion or rollback"


class PromotionService:
    """The champions of a registered model.

    Parameters
    ----------
    registry : Registry
    source : SourceStore
        It has the history.
    publish : callable
        Sends the message to the web workers after the alias has moved, perhaps twice for one change.
    cache_dir : Path or str, optional
        Folder that keeps downloaded models.
    """

    def __init__(
        self,
        registry: Registry,
        source: SourceStore,
        *,
        publish: Publish,
        cache_dir: Path | str | None = None,
    ) -> None:
        self.registry = registry
        self._source = source
        self._lock = partial(promotion_lock, source.engine, source.address)
        self._publish = publish
        self._cache_dir = cache_dir

    def history(self, *, limit: int | None = None) -> History:
        """Return the records, the latest first."""
        ours = col(PromotionRecord.model_name) == self.registry.model_name
        query = select(PromotionRecord).where(ours).order_by(col(PromotionRecord.number).desc()).limit(limit)
        with translated(self._source.address), Session(self._source.engine) as session:
            return session.exec(query).all()

    def promote(
        self,
        snapshot: "Snapshot",
        *,
        as_of: datetime,
        version: int | None = None,
        force_reason: str | None = None,
        rules: "PromotionRules | None" = None,
    ) -> Outcome:
        """Compare a version with the champion on a snapshot, and make it champion if it is better.

        Parameters
        ----------
        snapshot : Snapshot
        as_of : datetime
            Time of the decision, with a time zone; a call with the same time is the same promotion.
        version : int, optional
            By default the candidate; ModelNotFoundError if there is none.
        force_reason : str, optional
            Promote whatever the comparison says, for this reason; broken files are still refused.
        rules : PromotionRules, optional
        """
        from vroom_model.evaluation.gate import compare  # noqa: PLC0415 - 68 MB and 0.3 s, in each web worker

        check_reason(force_reason)

        def choose(champion: ModelVersion | None, history: History) -> tuple[Decision, int | None]:
            chosen = self.registry.version(version) if version else self.registry.candidate()
            if chosen is None:
                raise ModelNotFoundError(f"{self.registry.model_name} has no candidate; train one first")
            decision = compare(chosen, champion, snapshot, load=self.load, rules=rules)
            # Without scores there is nothing to overrule: the files are broken, or it is champion already.
            if force_reason and decision.candidate_mae is not None:
                decision = decision.overruled(force_reason.strip())
            return decision, made.number if (made := last_made(history)) else None

        return self._change("promotion", choose, as_of, version)

    def rollback(self, *, as_of: datetime, reason: str = "rolled back by hand") -> Outcome:
        """Make the previous champion champion again; a second call goes back further.

        If an earlier rollback was interrupted, it is finished instead.  RollbackError or BrokenModelError if
        there is no earlier champion that can be used.
        """
        check_reason(reason if reason.strip() else None)

        def choose(_champion: ModelVersion | None, history: History) -> tuple[Decision, int | None]:
            made = last_made(history)
            target = next((old for old in history if made and old.number == made.previous), None)
            if made is None or target is None:
                raise RollbackError("there is no earlier champion to go back to")
            restored = self.registry.find(target.version, target.run_id)
            if restored is None:
                raise RollbackError(f"version {target.version}, champion before, is gone; promote another")
            self.load(restored)
            why = f"version {target.version} is champion again, instead of {made.version}: {reason}"
            return Decision.uncompared(restored.version, restored.run_id, why, made.version), target.previous

        return self._change("rollback", choose, as_of)

    def finish(self) -> None:
        """Finish an interrupted change, unless its process still runs; web workers call it periodically."""
        if any(not record.is_closed for record in self.history(limit=1)):
            with suppress(LockTimeoutError), self._lock(timeout_s=0):
                self._finish()

    def load(self, version: ModelVersion) -> Predictor:
        """Return the predictor of a version, its files verified."""
        ref = version.ref
        with tempfile.TemporaryDirectory(prefix="vroom-model-") as name:
            cache = ModelCache(self.registry.api, self._cache_dir or name)
            read = partial(Predictor.load, version=ref.version, manifest_sha256=ref.manifest_sha256)
            return cache.load(ref, read)

    def _change(self, kind: Kind, choose: Choose, as_of: datetime, version: int | None = None) -> Outcome:
        """Decide without the lock, then make the change with it if nothing changed in between."""
        for _ in range(ATTEMPTS):
            with self._lock():
                champion, history, finished = self._read(as_of)
            for old in history:
                is_repeated = old.decided_at == as_of and version in {None, old.version}
                if old.kind == kind and (is_repeated or (kind == "rollback" and old.number == finished)):
                    decision = Decision.model_validate_json(old.decision or "")
                    return Outcome(decision=decision, record=old.number)
            decision, previous = choose(champion, history)
            if not decision.promote:
                if decision.candidate_version != decision.champion_version:  # the champion keeps its own
                    self.registry.set_tags(decision.candidate_version, decision.tags(as_of))
                return Outcome(decision=decision)
            with self._lock():
                champion_now, history_now, _ = self._read(as_of)
                if len(history_now) == len(history) and bool(champion_now) == bool(champion):
                    record = self._add(history, kind, decision, previous, as_of)
                    self._carry_out(record)
                    return Outcome(decision=decision, record=record.number)
        raise PromotionRaceError(f"others changed the champion in between {ATTEMPTS} times; try again")

    def _read(self, as_of: datetime) -> tuple[ModelVersion | None, History, int | None]:
        """Return champion, history, and the number of the interrupted record that was finished, if any."""
        finished = self._finish()
        champion, history = self.registry.champion(), self.history()
        made = last_made(history)
        if champion and not explains(made, champion):
            before, previous = (made.version, made.number) if made else (None, None)
            decision = Decision.uncompared(champion.version, champion.run_id, BY_HAND, before)
            history = [self._add(history, "manual", decision, previous, as_of), *history]
        return champion, history, finished

    def _finish(self) -> int | None:
        """Finish an open record and return its number, or abandon it if the alias was moved by hand."""
        history = self.history()
        if not history or history[0].is_closed:
            return None
        record, *earlier = history
        champion, before = self.registry.champion(), last_made(earlier)
        is_untouched = champion is None or champion.version in {record.version, before and before.version}
        if is_untouched and self.registry.find(record.version, record.run_id):
            logger.warning("finishing an interrupted change version=%s", record.version)
            self._carry_out(record)
            return record.number
        logger.warning("abandoning a change, the alias was moved by hand version=%s", record.version)
        record.kind, record.is_closed = "abandoned", True
        self._save(record)
        return None

    def _carry_out(self, record: PromotionRecord) -> None:
        """Tag the version, move the alias, close the record, publish the message; it can be repeated."""
        try:
            if record.decision:
                tags = Decision.model_validate_json(record.decision).tags(record.decided_at)
                self.registry.set_tags(record.version, tags)
            self.registry.set_alias("champion", record.version)
        except RegistryError as exc:
            decided = f"version {record.version} becomes champion by itself and need not be repeated"
            raise RegistryError(f"{decided}; for now {exc}") from exc
        record.is_closed = True
        self._save(record)
        last = last_made(self.history())
        if last and last.number != record.number:  # this process lost the lock, and moved the alias too late
            return self._carry_out(last)
        logger.info("champion moved version=%s", record.version)
        name, number = record.model_name, record.number
        self._publish(ModelPromoted(model_name=name, version=record.version, epoch=number))

    def _add(
        self, history: History, kind: Kind, decision: Decision, previous: int | None, as_of: datetime
    ) -> PromotionRecord:
        record = PromotionRecord(
            model_name=self.registry.model_name,
            number=history[0].number + 1 if history else 1,
            version=decision.candidate_version,
            kind=kind,
            reason=decision.reason,
            decision=decision.model_dump_json(exclude_none=True),
            forced=decision.forced,
            decided_at=as_of.astimezone(UTC),
            previous=previous,
            is_closed=kind == "manual",
        )
        self._save(record)
        return record

    def _save(self, record: PromotionRecord) -> None:
        """Insert or update; an error if another process took the number after the lock was lost."""
        engine = self._source.engine.execution_options(vroom_writes=True)
        with translated(self._source.address), Session(engine, expire_on_commit=False) as session:
            session.add(record)
            session.commit()


def last_made(history: History) -> PromotionRecord | None:
    """Return the record that made the champion, or the last one if there is none now."""
    return next((record for record in history if record.kind != "abandoned"), None)


def explains(record: PromotionRecord | None, version: ModelVersion) -> bool:
    """Return whether a record is about this version, not one that had its number before."""
    known = (record.version, record.run_id or version.run_id) if record else None
    return known == (version.version, version.run_id)
