"""A registry and a history of its own, and the models to register there; each model is trained once."""

import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.faults import proxy_that_refuses
from tests.snapshots import FrameSnapshot
from vroom_features.database.vehicles import SourceStore
from vroom_model.errors import RegistryError
from vroom_model.messages import ModelPromoted
from vroom_model.records import Outcome
from vroom_model.registry.promotion import PromotionService
from vroom_model.registry.registry import Registry
from vroom_model.training.boosting import TrainingParams
from vroom_model.training.register import register_candidate
from vroom_model.training.train import TrainedModel, train

AS_OF = datetime(2026, 1, 2, tzinfo=UTC)
FULL, MIDDLING, WEAK = TrainingParams(), TrainingParams(num_rounds=8), TrainingParams(num_rounds=2)
"""Each is better than the next."""
TAG = "model-versions/set-tag"
_FOLDER = tempfile.TemporaryDirectory(prefix="vroom-models-")
_MODELS: dict[tuple[Any, ...], TrainedModel] = {}


def trained_model(snapshot: FrameSnapshot, params: TrainingParams = FULL, **options: Any) -> TrainedModel:
    """Return a model that is trained once, however often it is asked for."""
    key = (snapshot.digest, params, *options.items())
    if key not in _MODELS:
        directory = Path(_FOLDER.name) / str(len(_MODELS))
        _MODELS[key] = train(snapshot, directory=directory, as_of=AS_OF, params=params, **options)
    return _MODELS[key]


@dataclass
class Champions:
    """A registry, a source database, a fleet to learn from, and the messages that were sent."""

    fleet: FrameSnapshot
    registry: Registry
    source: SourceStore
    folder: Path
    messages: list[ModelPromoted] = field(default_factory=list)
    _minutes: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    @property
    def service(self) -> PromotionService:
        """Return a service that another process would have, too."""
        return PromotionService(
            self.registry, self.source, publish=self.messages.append, cache_dir=self.folder / "cache"
        )

    @contextmanager
    def interrupted(self, *step: Any, **options: Any) -> Iterator[PromotionService]:  # as the proxy has them
        """Yield a service of another process, which MLflow refuses a step."""
        with (
            proxy_that_refuses(self.registry.address.url, *step, **options) as mlflow,
            Registry(mlflow, self.registry.model_name) as registry,
        ):
            yield PromotionService(registry, self.source, publish=self.messages.append)

    def open_record(self, version: int) -> None:
        """Interrupt a forced promotion right after its record was written."""
        with self.interrupted(TAG) as service, pytest.raises(RegistryError, match="need not be repeated"):
            service.promote(self.fleet, as_of=self.moment(), version=version, force_reason="a test")
        record, *_ = self.service.history()
        assert (record.version, record.is_closed) == (version, False)

    def register(self, params: TrainingParams = FULL, seed: int = 0) -> int:
        return register_candidate(self.registry, trained_model(self.fleet, params, seed=seed)).version.version

    def promote(self, version: int | None = None, *, force_reason: str | None = None) -> Outcome:
        moment = self.moment()
        return self.service.promote(self.fleet, as_of=moment, version=version, force_reason=force_reason)

    def promote_each(self, *params: TrainingParams) -> list[int]:
        """Register and promote models, each better than the one before; return their versions."""
        versions = []
        for each in params:
            versions.append(self.register(each))
            assert self.promote().promoted
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
