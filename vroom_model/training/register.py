"""Logging a trained model as an MLflow run, and registering it as the candidate."""

import json
import logging
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from vroom_features.offline.snapshots import Snapshot
from vroom_model.errors import (
    AlreadyExistsError,
    BaselineError,
    BrokenModelError,
    ModelNotFoundError,
    RegistryError,
)
from vroom_model.manifest import SERVING_NAME, ModelManifest
from vroom_model.records import ModelVersion
from vroom_model.registry.mlflow_api import MlflowApi
from vroom_model.registry.registry import Registry
from vroom_model.training.boosting import TrainingParams
from vroom_model.training.model_card import write_card
from vroom_model.training.train import Engine, Fit, TrainedModel, train, training_digest

logger = logging.getLogger(__name__)
BUNDLE = "bundle"
CARD = "card"


@dataclass(frozen=True, slots=True)
class Registered:
    """The version that has the model, and whether it is new or came of the same training before."""

    version: ModelVersion
    manifest: ModelManifest
    is_new: bool


def train_candidate(
    registry: Registry,
    snapshot: Snapshot,
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
    snapshot, as_of, params, seed, fit
        As ``train`` takes them.

    Raises
    ------
    TrainingDataError, BaselineError, RegistryError
        As ``train`` and ``register_candidate`` do.
    """
    engine: Engine | None = "elsewhere" if fit else None
    digest = training_digest(snapshot, params=params, seed=seed, engine=engine)
    if again := _find_registered(registry, digest):
        return again
    with tempfile.TemporaryDirectory(prefix="vroom-training-") as name:
        trained = train(snapshot, directory=Path(name), as_of=as_of, params=params, seed=seed, fit=fit)
        return register_candidate(registry, trained)


def register_candidate(registry: Registry, trained: TrainedModel) -> Registered:
    """Log a run with a trained model, register it, and make it the candidate.

    Parameters
    ----------
    registry : Registry
    trained : TrainedModel
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
    rmse, baseline_rmse = manifest.metrics["rmse"], manifest.metrics["baseline_rmse"]
    if rmse >= baseline_rmse:
        raise BaselineError(rmse, baseline_rmse)
    if again := _find_registered(registry, manifest.training_digest):
        return again
    number = _log_and_register(registry, trained)
    registry.set_alias("candidate", number)
    return Registered(registry.version(number), manifest, is_new=True)


def _find_registered(registry: Registry, training_digest: str) -> Registered | None:
    """Make the version that came of this very training the candidate, if there is a usable one."""
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
        registry.set_alias("candidate", version.version)
        return Registered(registry.version(version.version), manifest, is_new=False)
    return None


def _log_and_register(registry: Registry, trained: TrainedModel) -> int:
    """Log a run with everything about the model, and return the number of the version made of it."""
    api, manifest = registry.api, trained.manifest
    at = int(manifest.trained_at.timestamp() * 1000)
    tags = _tags(trained)
    new_run = {
        "experiment_id": _experiment(api, registry.model_name),
        "run_name": manifest.training_digest[:12],
        "start_time": at,
        "tags": _entries(tags),
    }
    run = api.post("runs/create", new_run)["run"]["info"]
    run_id, artifacts = run["run_id"], run["artifact_uri"]
    batch = {
        "run_id": run_id,
        "metrics": [{**entry, "timestamp": at, "step": 0} for entry in _entries(_metrics(manifest))],
        "params": _entries(
            {name: str(value) for name, value in {**manifest.params, "seed": manifest.seed}.items()}
        ),
        "tags": _entries({"features": ",".join(manifest.view.columns)}),
    }
    api.put("runs/log-batch", batch)
    with tempfile.TemporaryDirectory(prefix="vroom-artifacts-") as name:
        card, bundle = Path(name) / CARD, Path(name) / BUNDLE
        card.mkdir()
        bundle.mkdir()
        description = write_card(manifest, card)
        (bundle / "MLmodel").write_text(json.dumps(_mlmodel(manifest, run_id), indent=2))  # JSON is YAML too
        for folder, paths in ((CARD, card), (BUNDLE, trained.directory), (BUNDLE, bundle)):
            for path in sorted(paths.iterdir()):
                api.upload(f"{artifacts}/{folder}", path)
    api.put("runs/update", {"run_id": run_id, "status": "FINISHED", "end_time": at})
    with suppress(AlreadyExistsError):
        api.post("registered-models/create", {"name": registry.model_name})
    new_version = {
        "name": registry.model_name,
        "source": f"{artifacts}/{BUNDLE}",
        "run_id": run_id,
        "tags": _entries(tags),
        "description": description,
    }
    number = int(api.post("model-versions/create", new_version)["model_version"]["version"])
    # A version without this tag is one whose registration was cut off.
    registry.set_tags(number, {"complete": "1"})
    return number


def _experiment(api: MlflowApi, name: str) -> str:
    """Return the id of the experiment of this name; another process may be creating it too."""
    for _ in range(2):
        with suppress(ModelNotFoundError):
            found = api.get("experiments/get-by-name", experiment_name=name)
            return str(found["experiment"]["experiment_id"])
        with suppress(AlreadyExistsError):
            return str(api.post("experiments/create", {"name": name})["experiment_id"])
    raise RegistryError(f"the experiment {name} exists and cannot be read; was it deleted in MLflow?")


def _entries(values: Mapping[str, object]) -> list[dict[str, object]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def _tags(trained: TrainedModel) -> dict[str, str]:
    """Return the tags of run and version: what the model is and what it was made from."""
    manifest = trained.manifest
    return {
        "manifest_sha256": trained.manifest_sha256,
        "bundle_path": BUNDLE,
        "training_digest": manifest.training_digest,
        "snapshot_id": manifest.snapshot.id,
        "snapshot_digest": manifest.snapshot.digest,
        "view": f"{manifest.view.name}:{manifest.view.version}",
        "mae": f"{manifest.metrics['mae']:.4f}",
        "coverage": f"{manifest.metrics['coverage']:.4f}",
        **{f"sha256.{name}": sha256 for name, sha256 in manifest.files.items()},
        **{f"library.{name}": version for name, version in manifest.libraries.items()},
    }


def _metrics(manifest: ModelManifest) -> dict[str, float]:
    metrics = dict(manifest.metrics)
    for fold in manifest.folds:
        metrics |= {f"fold_{fold.fold}/mae": fold.mae, f"fold_{fold.fold}/coverage": fold.coverage}
    for number, segment in enumerate(manifest.segments):
        for name in ("mae", "bias", "coverage", "mean_width"):
            metrics[f"segment_{number}/{name}"] = getattr(segment, name)
    for importance in manifest.feature_importances:
        metrics[f"importance/{importance.feature}"] = importance.mae_increase
    return metrics


def _mlmodel(manifest: ModelManifest, run_id: str) -> dict[str, object]:
    """Return MLflow's description of the model: the signature, and a flavor that ``mlflow.onnx`` can load."""
    outputs = [f"fold_{fold}" for fold in range(manifest.num_folds)]
    return {
        "artifact_path": BUNDLE,
        "run_id": run_id,
        "utc_time_created": manifest.trained_at.isoformat(),
        "signature": {"inputs": _schema(manifest.view.columns), "outputs": _schema(outputs), "params": None},
        "flavors": {
            "onnx": {
                "onnx_version": manifest.libraries["onnx"],
                "data": SERVING_NAME,
                "providers": ["CPUExecutionProvider"],
                "onnx_session_options": None,
            }
        },
    }


def _schema(names: Iterable[str]) -> str:
    return json.dumps([{"type": "double", "name": name, "required": True} for name in names])
