"""Means to train, register and promote, that remember the messages sent."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.snapshots import FrameSnapshot
from tests.vroom_model.killing import TAG, SteppingProxy
from vroom_features.database.tables import PromotionRecord
from vroom_features.database.vehicles import SourceStore
from vroom_model.errors import RegistryError
from vroom_model.messages import ModelPromoted
from vroom_model.records import Outcome
from vroom_model.registry.promotion import PromotionService
from vroom_model.registry.registry import Registry
from vroom_model.training.boosting import TrainingParams
from vroom_model.training.register import Registered, register_candidate
from vroom_model.training.train import TrainedModel, train

AS_OF = datetime(2026, 1, 2, tzinfo=UTC)


@dataclass
class Champions:
    """A registry, a source database, and what happened with them."""

    registry: Registry
    source: SourceStore
    folder: Path
    messages: list[ModelPromoted] = field(default_factory=list)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    @property
    def service(self) -> PromotionService:
        """Return a service that another process would have, too."""
        return self.with_publish(self.messages.append)

    def with_publish(self, publish: Callable[[ModelPromoted], None]) -> PromotionService:
        """Return a service that tells this callable."""
        return PromotionService(self.registry, self.source, publish=publish, cache_dir=self.folder / "cache")

    def through(self, url: str) -> PromotionService:
        """Return a service that speaks to MLflow at another address."""
        registry = Registry(url, self.registry.model_name)
        return PromotionService(registry, self.source, publish=self.messages.append)

    def open_record(self, snapshot: FrameSnapshot, version: int) -> PromotionRecord:
        """Have a promotion by force end right after its record was written, and return that."""
        proxy = SteppingProxy(self.registry.address.url, step=TAG)
        try:
            with pytest.raises(RegistryError, match="need not be repeated"):
                self.through(proxy.url).promote(
                    snapshot, as_of=self.moment(), version=version, force_reason="a test"
                )
        finally:
            proxy.close()
        record, *_ = self.service.history()
        assert (record.version, record.is_closed) == (version, False)
        return record

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
        return self.service.promote(snapshot, as_of=self.moment(), version=version, force_reason=force_reason)

    def moment(self) -> datetime:
        """Return a moment after the last one."""
        return AS_OF + timedelta(minutes=next(self._numbers))

    def champion(self) -> int:
        """Return the version that the alias points to now."""
        champion = self.registry.champion()
        assert champion is not None
        return champion.version
