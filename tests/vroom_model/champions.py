"""A registry and a history of its own, and the models to register there; each model is trained once."""

import itertools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.snapshots import FrameSnapshot
from tests.vroom_model.processes import TAG, proxy_that_refuses
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
FULL, MIDDLING, WEAK = TrainingParams(), TrainingParams(num_rounds=8), TrainingParams(num_rounds=2)
"""Each is better than the next."""
_FOLDER = tempfile.TemporaryDirectory(prefix="vroom-models-")
_MODELS: dict[tuple[str, TrainingParams, int], TrainedModel] = {}


def trained_model(snapshot: FrameSnapshot, params: TrainingParams = FULL, seed: int = 0) -> TrainedModel:
    key = (snapshot.digest, params, seed)
    if key not in _MODELS:
        directory = Path(_FOLDER.name) / str(len(_MODELS))
        _MODELS[key] = train(snapshot, directory=directory, as_of=AS_OF, params=params, seed=seed)
    return _MODELS[key]


@dataclass
class Champions:
    """A registry, a source database, and the messages that were sent."""

    registry: Registry
    source: SourceStore
    folder: Path
    messages: list[ModelPromoted] = field(default_factory=list)
    _minutes: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    @property
    def service(self) -> PromotionService:
        """Return a service that another process would have, too."""
        return self.with_publish(self.messages.append)

    def with_publish(self, publish: Callable[[ModelPromoted], None]) -> PromotionService:
        return PromotionService(self.registry, self.source, publish=publish, cache_dir=self.folder / "cache")

    def through(self, url: str) -> PromotionService:
        """Return a service that speaks to MLflow at another address."""
        registry = Registry(url, self.registry.model_name)
        return PromotionService(registry, self.source, publish=self.messages.append)

    def open_record(self, snapshot: FrameSnapshot, version: int) -> PromotionRecord:
        """Interrupt a forced promotion right after its record was written, and return that."""
        with (
            proxy_that_refuses(self.registry.address.url, TAG) as mlflow,
            pytest.raises(RegistryError, match="need not be repeated"),
        ):
            self.through(mlflow).promote(
                snapshot, as_of=self.moment(), version=version, force_reason="a test"
            )
        record, *_ = self.service.history()
        assert (record.version, record.is_closed) == (version, False)
        return record

    def register(self, snapshot: FrameSnapshot, params: TrainingParams = FULL, seed: int = 0) -> int:
        return self.register_trained(trained_model(snapshot, params, seed)).version.version

    def register_trained(self, trained: TrainedModel) -> Registered:
        return register_candidate(self.registry, trained)

    def promote(
        self, snapshot: FrameSnapshot, version: int | None = None, *, force_reason: str | None = None
    ) -> Outcome:
        return self.service.promote(snapshot, as_of=self.moment(), version=version, force_reason=force_reason)

    def promote_each(self, snapshot: FrameSnapshot, *params: TrainingParams) -> list[int]:
        """Register and promote models, each better than the one before; return their versions."""
        versions = []
        for each in params:
            versions.append(self.register(snapshot, each))
            assert self.promote(snapshot).promoted
        return versions

    def rollback(self, reason: str = "a drill") -> Outcome:
        return self.service.rollback(as_of=self.moment(), reason=reason)

    def moment(self) -> datetime:
        """Return a time after the last one."""
        return AS_OF + timedelta(minutes=next(self._minutes))

    def champion(self) -> int:
        champion = self.registry.champion()
        assert champion is not None
        return champion.version
