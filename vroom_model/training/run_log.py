"""Recording a trained model in MLflow: a run with its files, and a model version that points to them."""

import json
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from vroom_model.errors import AlreadyRecordedError, ModelNotFoundError, RegistryError
from vroom_model.manifest import SERVING_NAME, ModelManifest
from vroom_model.registry.mlflow_api import MlflowApi
from vroom_model.registry.registry import Registry
from vroom_model.training.model_card import write_card
from vroom_model.training.train import TrainedModel

BUNDLE = "bundle"
CARD = "card"
Entries = list[dict[str, object]]


def record(registry: Registry, trained: TrainedModel) -> int:
    """Log a run with everything about the model, register its directory, and return the version's number."""
    api, manifest = registry.api, trained.manifest
    at = int(manifest.trained_at.timestamp() * 1000)
    tags = _lineage(trained)
    run = _start(api, registry.model_name, tags, at)
    run_id, artifacts = run["run_id"], run["artifact_uri"]
    metrics = [{**entry, "timestamp": at, "step": 0} for entry in _entries(_metrics(manifest))]
    params = {name: str(value) for name, value in {**manifest.params, "seed": manifest.seed}.items()}
    features = {"features": ",".join(manifest.view.columns)}
    body = {"run_id": run_id, "metrics": metrics, "params": _entries(params), "tags": _entries(features)}
    api.put("runs/log-batch", body)
    with tempfile.TemporaryDirectory(prefix="vroom-card-") as name:
        card = write_card(manifest, Path(name))
        for path in Path(name).iterdir():
            api.upload(f"{artifacts}/{CARD}", path)
    for path in sorted(trained.directory.iterdir()):
        api.upload(f"{artifacts}/{BUNDLE}", path)
    with tempfile.TemporaryDirectory(prefix="vroom-mlmodel-") as name:
        path = Path(name) / "MLmodel"
        path.write_text(json.dumps(_description(manifest, run_id), indent=2))  # JSON is YAML too
        api.upload(f"{artifacts}/{BUNDLE}", path)
    api.put("runs/update", {"run_id": run_id, "status": "FINISHED", "end_time": at})
    version = {
        "name": registry.model_name,
        "source": f"{artifacts}/{BUNDLE}",
        "run_id": run_id,
        "tags": _entries(tags),
        "description": card,
    }
    number = int(_register(api, version)["version"])
    # A version without this mark is one whose recording was cut off.
    registry.set_tags(number, {"complete": "1"})
    return number


def _start(api: MlflowApi, name: str, tags: Mapping[str, str], at: int) -> dict[str, Any]:  # parsed JSON
    """Return MLflow's description of a new run in the model's experiment."""
    body = {
        "experiment_id": _experiment(api, name),
        "run_name": tags["training_digest"][:12],
        "start_time": at,
        "tags": _entries(tags),
    }
    info: dict[str, Any] = api.post("runs/create", body)["run"]["info"]
    return info


def _experiment(api: MlflowApi, name: str) -> str:
    """Return the id of the experiment of this name; another process may be making it too."""
    for _ in range(2):
        with suppress(ModelNotFoundError):
            found = api.get("experiments/get-by-name", experiment_name=name)
            return str(found["experiment"]["experiment_id"])
        with suppress(AlreadyRecordedError):
            return str(api.post("experiments/create", {"name": name})["experiment_id"])
    raise RegistryError(f"the experiment {name} exists and cannot be read; was it deleted in MLflow?")


def _register(api: MlflowApi, version: Mapping[str, object]) -> dict[str, Any]:  # parsed JSON
    """Return MLflow's description of a new version; the model is made with its first."""
    with suppress(AlreadyRecordedError):
        api.post("registered-models/create", {"name": version["name"]})
    made: dict[str, Any] = api.post("model-versions/create", version)["model_version"]
    return made


def _entries(values: Mapping[str, object]) -> Entries:
    return [{"key": key, "value": value} for key, value in values.items()]


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


def _description(manifest: ModelManifest, run_id: str) -> dict[str, object]:
    """Return MLflow's own description: the signature, and a flavor that ``mlflow.onnx`` can load."""
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
