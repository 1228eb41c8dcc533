"""Means to train, register and promote, that remember the messages sent."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.snapshots import FrameSnapshot
from vroom_model.boosting import TrainingParams
from vroom_model.ledger import Ledger
from vroom_model.messages import ModelPromoted
from vroom_model.registration import Registered, register_candidate
from vroom_model.registry import Registry
from vroom_model.succession import Outcome, Succession
from vroom_model.training import TrainedModel, train

AS_OF = datetime(2026, 1, 2, tzinfo=UTC)


@dataclass
class Champions:
    """A registry, a ledger, and what happened with them."""

    registry: Registry
    ledger: Ledger
    folder: Path
    messages: list[ModelPromoted] = field(default_factory=list)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    @property
    def succession(self) -> Succession:
        """Return a succession that another process would have, too."""
        return self.with_publish(self.messages.append)

    def with_publish(self, publish: Callable[[ModelPromoted], None]) -> Succession:
        """Return a succession that tells this callable."""
        return Succession(self.registry, self.ledger, publish=publish, cache_dir=self.folder / "cache")

    def train(
        self, snapshot: FrameSnapshot, *, params: TrainingParams | None = None, seed: int = 0
    ) -> TrainedModel:
        """Train into a folder of its own."""
        directory = self.folder / f"bundle-{next(self._numbers)}"
        return train(snapshot, directory=directory, as_of=AS_OF, params=params, seed=seed)

    def register(
        self, snapshot: FrameSnapshot, *, params: TrainingParams | None = None, seed: int = 0
    ) -> int:
        """Train and register; return the version."""
        return self.register_trained(self.train(snapshot, params=params, seed=seed)).version.version

    def register_trained(self, trained: TrainedModel) -> Registered:
        """Register a model directory."""
        return register_candidate(self.registry, trained)

    def promote(
        self, snapshot: FrameSnapshot, version: int | None = None, *, force_reason: str | None = None
    ) -> Outcome:
        """Promote a version, or the candidate."""
        return self.succession.promote(
            snapshot, as_of=self.moment(), version=version, force_reason=force_reason
        )

    def moment(self) -> datetime:
        """Return a moment after the last one."""
        return AS_OF + timedelta(minutes=next(self._numbers))

    def champion(self) -> int:
        """Return the version that the alias points to now."""
        champion = self.registry.champion()
        assert champion is not None
        return champion.version
