"""Training the candidate: recorded as an MLflow run and registered as a version."""

import logging
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pandas as pd

from vroom_features.offline.snapshots import Snapshot
from vroom_model.dataset import as_snapshot
from vroom_model.errors import AlreadyExistsError, BaselineError, BrokenModelError
from vroom_model.manifest import ModelManifest
from vroom_model.records import ModelVersion
from vroom_model.registry.registry import Registry
from vroom_model.training.boosting import TrainingParams
from vroom_model.training.recording import BUNDLE, TrainingRun, open_run
from vroom_model.training.train import Engine, Fit, TrainedModel, train, training_digest

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Registered:
    """The version that has the model, and whether it is new or came of the same training before."""

    version: ModelVersion
    manifest: ModelManifest
    is_new: bool


def train_candidate(
    registry: Registry,
    snapshot: Snapshot | pd.DataFrame,
    *,
    as_of: datetime,
    params: TrainingParams | None = None,
    seed: int = 0,
    fit: Fit | None = None,
    tags: Mapping[str, str] | None = None,
    system_metrics: bool = False,
) -> Registered:
    """Train on a snapshot and make the result the candidate; unchanged inputs are not trained on again.

    Parameters
    ----------
    registry : Registry
    snapshot, as_of, params, seed, fit
        As ``train`` takes them.
    tags, system_metrics
        More tags of the run, such as what started it, and whether to record the load of the machine.

    Raises
    ------
    TrainingDataError, BaselineError, RegistryError
        The run has failed then, and its description says why.
    """
    snapshot = as_snapshot(snapshot, created_at=as_of)
    engine: Engine | None = "elsewhere" if fit else None
    digest = training_digest(snapshot, params=params, seed=seed, engine=engine)
    if again := _find_registered(registry, digest):
        return again
    name = _run_name(params or TrainingParams(), seed)
    with (
        open_run(registry, name, tags=tags, system_metrics=system_metrics) as run,
        tempfile.TemporaryDirectory(prefix="vroom-training-") as folder,
    ):
        directory = Path(folder) / "model"
        trained = train(snapshot, directory=directory, as_of=as_of, params=params, seed=seed, fit=fit)
        return _record_and_register(registry, run, trained)


def register_candidate(registry: Registry, trained: TrainedModel) -> Registered:
    """Record a trained model as a run, register it, and make it the candidate.

    The whole directory is uploaded, and a model card with its plots.

    Raises
    ------
    BaselineError
        If it is no better than the mean of the labels for every vehicle, by squared error, which is what
        boosters minimize.
    RegistryError
        If MLflow cannot be used.
    """
    manifest = trained.manifest
    if again := _find_registered(registry, manifest.training_digest, files=manifest.files):
        return again
    name = _run_name(TrainingParams.model_validate(manifest.params), manifest.seed)
    with open_run(registry, name) as run:
        return _record_and_register(registry, run, trained)


def _find_registered(
    registry: Registry, training_digest: str, *, files: Mapping[str, str] | None = None
) -> Registered | None:
    """Make the version that came of this training, with these files, the candidate, if one can be used."""
    for version in registry.versions(training_digest=training_digest):
        if not version.tags.get("complete"):
            continue
        with tempfile.TemporaryDirectory(prefix="vroom-model-") as name:
            try:
                directory = registry.download(version, Path(name))
                manifest = ModelManifest.read(directory, sha256=version.ref.manifest_sha256)
            except BrokenModelError as exc:
                logger.warning("version %s is skipped: %s", version.version, exc.problem)
                continue
        if files is not None and files != manifest.files:  # `fit` fitted other boosters
            continue
        registry.set_alias("candidate", version.version)
        return Registered(registry.version(version.version), manifest, is_new=False)
    return None


def _record_and_register(registry: Registry, run: TrainingRun, trained: TrainedModel) -> Registered:
    """Record a model in an open run, register it, and make it the candidate."""
    manifest = trained.manifest
    rmse, baseline_rmse = manifest.metrics["rmse"], manifest.metrics["baseline_rmse"]
    if rmse >= baseline_rmse:
        raise BaselineError(rmse, baseline_rmse)
    tags = _tags(trained)
    source, card = run.record(trained, tags)
    with suppress(AlreadyExistsError):
        registry.api.post("registered-models/create", {"name": registry.model_name})
    new_version = {
        "name": registry.model_name,
        "source": source,
        "run_id": run.id,
        "tags": [{"key": key, "value": value} for key, value in tags.items()],
        "description": card,
    }
    number = int(registry.api.post("model-versions/create", new_version)["model_version"]["version"])
    # A version without this tag is one whose registration was cut off.
    registry.set_tags(number, {"complete": "1"})
    registry.set_alias("candidate", number)
    return Registered(registry.version(number), manifest, is_new=True)


def _run_name(params: TrainingParams, seed: int) -> str:
    """Return the seed and the parameters that are not the usual ones.

    Examples
    --------
    >>> _run_name(TrainingParams(num_rounds=5), 0)
    'seed 0, num_rounds 5'
    """
    changed = params.model_dump(exclude_defaults=True)
    return ", ".join([f"seed {seed}", *(f"{name} {value:g}" for name, value in changed.items())])


def _tags(trained: TrainedModel) -> dict[str, str]:
    """Return the tags of run, logged model and version: what it is and what it was made from."""
    manifest = trained.manifest
    return {
        "manifest_sha256": trained.manifest_sha256,
        "bundle_path": BUNDLE,
        "training_digest": manifest.training_digest,
        "features": ",".join(manifest.view.columns),
        "snapshot_id": manifest.snapshot.id,
        "snapshot_digest": manifest.snapshot.digest,
        "view": f"{manifest.view.name}:{manifest.view.version}",
        "mae": f"{manifest.metrics['mae']:.4f}",
        "coverage": f"{manifest.metrics['coverage']:.4f}",
        **{f"sha256.{name}": sha256 for name, sha256 in manifest.files.items()},
        **{f"library.{name}": version for name, version in manifest.libraries.items()},
    }
