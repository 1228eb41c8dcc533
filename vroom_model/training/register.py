"""Making a trained model the candidate: what is refused, what is there already, what is new."""

import logging
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from vroom_model.dataset import TrainingSnapshot
from vroom_model.errors import BaselineError, BrokenModelError
from vroom_model.manifest import ModelManifest
from vroom_model.records import ModelVersion
from vroom_model.registry.registry import Registry
from vroom_model.training.boosting import TrainingParams
from vroom_model.training.run_log import record
from vroom_model.training.train import Engine, Fit, TrainedModel, train, training_digest

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Registered:
    """What registration did.

    Parameters
    ----------
    version : ModelVersion
        The version that holds the model.
    manifest : ModelManifest
        What it was made from and how good it is.
    is_new : bool
        False when the same training had been registered before: that version is the candidate again.
    """

    version: ModelVersion
    manifest: ModelManifest
    is_new: bool


def register_candidate(registry: Registry, trained: TrainedModel) -> Registered:
    """Record a trained model and make it the candidate.

    Parameters
    ----------
    registry : Registry
        Where.
    trained : TrainedModel
        The model directory; it is uploaded whole, a model card with its plots beside it.

    Raises
    ------
    BaselineError
        If it does not beat the median.
    RegistryError
        If MLflow cannot be used.
    """
    manifest = trained.manifest
    if manifest.metrics["mae"] >= manifest.metrics["baseline_mae"]:
        raise BaselineError(manifest.metrics["mae"], manifest.metrics["baseline_mae"])
    if again := _registered_before(registry, manifest.training_digest):
        return again
    number = record(registry, trained)
    registry.set_alias("candidate", number)
    return Registered(registry.version(number), manifest, is_new=True)


def train_candidate(
    registry: Registry,
    snapshot: TrainingSnapshot,
    *,
    as_of: datetime,
    params: TrainingParams | None = None,
    seed: int = 0,
    fit: Fit | None = None,
) -> Registered:
    """Train on a snapshot and make the result the candidate; unchanged inputs are not trained on again.

    Parameters
    ----------
    registry : Registry
        Where.
    snapshot, as_of, params, seed, fit
        As ``train`` takes them.

    Raises
    ------
    TrainingDataError, BaselineError, RegistryError
        As ``train`` and ``register_candidate`` do.
    """
    engine: Engine | None = "elsewhere" if fit else None
    digest = training_digest(snapshot, params=params, seed=seed, engine=engine)
    if again := _registered_before(registry, digest):
        return again
    with tempfile.TemporaryDirectory(prefix="vroom-training-") as name:
        trained = train(snapshot, directory=Path(name), as_of=as_of, params=params, seed=seed, fit=fit)
        return register_candidate(registry, trained)


def _registered_before(registry: Registry, training_digest: str) -> Registered | None:
    """Make the version that came of this very training the candidate, if there is one with whole files."""
    for version in registry.versions(training_digest=training_digest):
        if version.tags.get("complete") and (manifest := _whole(registry, version)):
            registry.set_alias("candidate", version.version)
            return Registered(registry.version(version.version), manifest, is_new=False)
    return None


def _whole(registry: Registry, version: ModelVersion) -> ModelManifest | None:
    """Return the manifest of a version that can still be used; if none, the same training makes another."""
    with tempfile.TemporaryDirectory(prefix="vroom-model-") as name:
        try:
            directory = registry.download(version, Path(name))
            return ModelManifest.read(directory, sha256=version.ref.manifest_sha256)
        except BrokenModelError as exc:
            logger.warning("version %s is passed over: %s", version.version, exc.problem)
            return None
