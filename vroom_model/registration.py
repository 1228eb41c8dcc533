"""Recording a trained model in MLflow: the one import of mlflow."""

import logging
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema

from vroom_model.boosting import TrainingParams
from vroom_model.card import write_card
from vroom_model.dataset import TrainingSnapshot
from vroom_model.errors import BaselineError, BrokenModelError, RegistryError
from vroom_model.manifest import SERVING_NAME, ModelManifest
from vroom_model.registry import ModelVersion, Registry
from vroom_model.training import Engine, Fit, TrainedModel, train, training_digest

logger = logging.getLogger(__name__)
BUNDLE = "bundle"
CARD = "card"


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
    if existing := find_training(registry, manifest.training_digest):
        registry.set_alias("candidate", existing.version)
        return Registered(registry.version(existing.version), manifest, is_new=False)
    try:
        number = _record(registry, trained)
    except MlflowException as exc:
        raise RegistryError(f"MLflow at {registry.tracking_uri} cannot be used: {exc}") from exc
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
    with tempfile.TemporaryDirectory(prefix="vroom-training-") as name:
        if existing := find_training(registry, digest):
            registry.set_alias("candidate", existing.version)
            directory = registry.download(existing, Path(name))
            manifest = ModelManifest.read(directory, sha256=existing.ref.manifest_sha256)
            return Registered(registry.version(existing.version), manifest, is_new=False)
        trained = train(snapshot, directory=Path(name), as_of=as_of, params=params, seed=seed, fit=fit)
        return register_candidate(registry, trained)


def find_training(registry: Registry, training_digest: str) -> ModelVersion | None:
    """Return the version that came of this very training, if there is one whose files are whole."""
    for version in registry.versions(training_digest=training_digest):
        if version.tags.get("complete") and _is_whole(registry, version):
            return version
    return None


def _is_whole(registry: Registry, version: ModelVersion) -> bool:
    """Tell whether a version can still be used; if not, the same training makes another."""
    with tempfile.TemporaryDirectory(prefix="vroom-model-") as name:
        try:
            registry.download(version, Path(name))
        except BrokenModelError as exc:
            logger.warning("version %s is passed over: %s", version.version, exc.problem)
            return False
    return True


def _record(registry: Registry, trained: TrainedModel) -> int:
    """Log a run with everything about the model, register its directory, and return the version's number."""
    client = MlflowClient(tracking_uri=registry.tracking_uri, registry_uri=registry.tracking_uri)
    manifest = trained.manifest
    at = int(manifest.trained_at.timestamp() * 1000)
    tags = _lineage(trained)
    run = client.create_run(
        _experiment(client, registry.model_name),
        start_time=at,
        tags=tags,
        run_name=tags["training_digest"][:12],
    )
    run_id = run.info.run_id
    client.log_batch(
        run_id,
        metrics=[Metric(name, value, at, 0) for name, value in _metrics(manifest).items()],
        params=[
            Param(name, str(value)) for name, value in {**manifest.params, "seed": manifest.seed}.items()
        ],
        tags=[RunTag("features", ",".join(manifest.view.columns))],
    )
    client.log_artifacts(run_id, str(trained.directory), BUNDLE)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "MLmodel"
        _describe(manifest, run_id).save(path)
        client.log_artifact(run_id, str(path), BUNDLE)
    with tempfile.TemporaryDirectory() as name:
        card = write_card(manifest, Path(name))
        client.log_artifacts(run_id, name, CARD)
    client.set_terminated(run_id)
    _ensure_model(client, registry.model_name)
    version = client.create_model_version(
        registry.model_name,
        source=f"{run.info.artifact_uri}/{BUNDLE}",
        run_id=run_id,
        tags=tags,
        description=card,
        await_creation_for=0,
    )
    # A version without this mark is one whose recording was cut off.
    registry.note(int(version.version), {"complete": "1"})
    return int(version.version)


def _lineage(trained: TrainedModel) -> dict[str, str]:
    """Return the tags that say what a version is and what it was made from."""
    manifest = trained.manifest
    return {
        "manifest_sha256": trained.manifest_sha256,
        "bundle_path": BUNDLE,
        "training_digest": manifest.training_digest,
        "snapshot_id": manifest.snapshot.id,
        "snapshot_digest": manifest.snapshot.digest,
        "view": f"{manifest.view.name}:{manifest.view.version}",
        "mae": f"{manifest.metrics['mae']:.4f}",
        **{f"sha256.{name}": sha256 for name, sha256 in manifest.files.items()},
        **{f"library.{name}": version for name, version in manifest.libraries.items()},
    }


def _metrics(manifest: ModelManifest) -> dict[str, float]:
    """Return the overall metrics, and those of each fold and segment."""
    metrics = dict(manifest.metrics)
    for fold in manifest.folds:
        metrics |= {f"fold_{fold.fold}/mae": fold.mae, f"fold_{fold.fold}/coverage": fold.coverage}
    for number, segment in enumerate(manifest.segments):
        for name in ("mae", "bias", "coverage", "mean_width"):
            metrics[f"segment_{number}/{name}"] = getattr(segment, name)
    for importance in manifest.feature_importances:
        metrics[f"importance/{importance.feature}"] = importance.mae_increase
    return metrics


def _describe(manifest: ModelManifest, run_id: str) -> Model:
    """Return MLflow's own description: the signature, and a flavor that ``mlflow.onnx`` can load."""
    inputs = Schema([ColSpec(DataType.double, name) for name in manifest.view.columns])
    outputs = Schema([ColSpec(DataType.double, f"fold_{fold}") for fold in range(manifest.num_folds)])
    model = Model(
        artifact_path=BUNDLE,
        run_id=run_id,
        signature=ModelSignature(inputs=inputs, outputs=outputs),
        utc_time_created=manifest.trained_at.isoformat(),
    )
    model.add_flavor(
        "onnx",
        onnx_version=manifest.libraries["onnx"],
        data=SERVING_NAME,
        providers=["CPUExecutionProvider"],
        onnx_session_options=None,
    )
    return model


def _experiment(client: MlflowClient, name: str) -> str:
    """Return the id of the experiment of this name; another process may be making it too."""
    for _ in range(2):
        if experiment := client.get_experiment_by_name(name):
            return str(experiment.experiment_id)
        try:
            return str(client.create_experiment(name))
        except MlflowException as exc:
            if exc.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
    raise RegistryError(f"the experiment {name} exists and cannot be read; was it deleted in MLflow?")


def _ensure_model(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except MlflowException as exc:
        if exc.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
