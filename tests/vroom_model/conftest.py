"""A trained model of the sample fleet, and a registry of its own for each test."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.snapshots import FrameSnapshot, read_fleet
from tests.vroom_model.champions import Champions, trained_model
from vroom_features.database.vehicles import SourceStore
from vroom_model.registry.registry import Registry
from vroom_model.serving.predictor import Predictor
from vroom_model.training.train import TrainedModel


@pytest.fixture(scope="session")
def fleet() -> FrameSnapshot:
    return read_fleet()


@pytest.fixture(scope="session")
def trained(fleet: FrameSnapshot) -> TrainedModel:
    return trained_model(fleet)


@pytest.fixture(scope="session")
def predictor(trained: TrainedModel) -> Predictor:
    return Predictor.load(trained.directory, version=1, manifest_sha256=trained.manifest_sha256)


@pytest.fixture
def registry(mlflow_server: str) -> Iterator[Registry]:
    """Return a registered model without versions."""
    with Registry(mlflow_server, f"vroom-{uuid.uuid4().hex[:8]}") as registry:
        yield registry


@pytest.fixture
def champions(fleet: FrameSnapshot, registry: Registry, source: SourceStore, tmp_path: Path) -> Champions:
    return Champions(fleet, registry, source, tmp_path)
