"""A training as MLflow shows it: a run, its data set, its logged model, its card and plots.

MLflow's own client records it.  None of the client's global state is used, for a notebook may have a run of
its own open.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow.pyfunc
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LifecycleStage,
    LoggedModelOutput,
    Metric,
    Param,
    RunTag,
)
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.models.model import MLMODEL_FILE_NAME
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking.context.registry import resolve_tags
from mlflow.types.schema import AnyType, ColSpec, DataType, Schema
from mlflow.utils import mlflow_tags
from mlflow.utils.git_utils import get_git_commit

from vroom_features.addresses import ServiceAddress
from vroom_features.vehicle import COLUMNS
from vroom_features.view import VEHICLE_VIEW
from vroom_model.errors import RegistryError
from vroom_model.manifest import ModelManifest
from vroom_model.registry.registry import Registry
from vroom_model.segments import metric_name
from vroom_model.serving import pyfunc
from vroom_model.serving.predictor import FORECAST_COLUMNS
from vroom_model.training.model_card import write_card
from vroom_model.training.train import TrainedModel

BUNDLE, CARD = "bundle", "card"
"""Folders of a run's artifacts: what web workers fetch, and what people read."""
CREDENTIALS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
DIGEST_LENGTH = 32
"""MLflow takes no digest of a data set of more than 36 characters."""


@dataclass(frozen=True)
class TrainingRun:
    """An open run of MLflow."""

    address: ServiceAddress
    client: mlflow.MlflowClient
    experiment_id: str
    id: str

    def record(self, trained: TrainedModel, tags: Mapping[str, str]) -> tuple[str, str]:
        """Record everything about a model, and return the address of its files and the card."""
        manifest = trained.manifest
        params = {name: str(value) for name, value in _params(manifest).items()}
        dataset = _dataset(manifest)
        context = InputTag(mlflow_tags.MLFLOW_DATASET_CONTEXT, "training")
        with _translated(self.address), TemporaryDirectory(prefix="vroom-artifacts-") as name:
            self.client.log_inputs(self.id, [DatasetInput(dataset, [context])])
            model = self.client.create_logged_model(
                self.experiment_id, "vroom-forecast", source_run_id=self.id, tags=dict(tags), params=params
            )
            now = _now()
            self.client.log_batch(
                self.id,
                [
                    Metric(name, value, now, 0, model.model_id, dataset.name, dataset.digest, self.id)
                    for name, value in _metrics(manifest).items()
                ],
                [Param(name, value) for name, value in params.items()],
                [RunTag(name, value) for name, value in tags.items()],
            )
            self.client.log_outputs(self.id, [LoggedModelOutput(model.model_id, 0)])
            folder = Path(name)
            (folder / CARD).mkdir()
            card = write_card(manifest, folder / CARD)
            self.client.log_artifacts(self.id, str(folder / CARD), CARD)
            (folder / "model").mkdir()
            described = Model(model.artifact_location, self.id, model_id=model.model_id)
            _describe(manifest, described, folder / "model")
            for part in (trained.directory, folder / "model"):
                self.client.log_artifacts(self.id, str(part), BUNDLE)
                self.client.log_model_artifacts(model.model_id, str(part))
            self.client.finalize_logged_model(model.model_id, "READY")
            return f"{self.client.get_run(self.id).info.artifact_uri}/{BUNDLE}", card


@contextmanager
def open_run(
    registry: Registry,
    name: str,
    *,
    tags: Mapping[str, str] | None = None,
    system_metrics: bool = False,
) -> Iterator[TrainingRun]:
    """Open a run for the time of the block; after an error it has failed, and its description is the reason.

    It is in the experiment of the model's name, with the client's tags (user, source and commit) and these.
    ``system_metrics`` records the load of processor, memory, disk and network.
    """
    address, experiment = registry.address, registry.model_name
    client = mlflow.MlflowClient(str(address))  # it repeats the address in errors
    with _credentials(address):
        with _translated(address):
            experiment_id = _experiment(client, experiment)
            known = resolve_tags(dict(tags or {}))
            if commit := known.get(mlflow_tags.MLFLOW_GIT_COMMIT) or get_git_commit(__file__):
                known[mlflow_tags.MLFLOW_GIT_COMMIT] = commit
            run_id = client.create_run(experiment_id, tags=known, run_name=name).info.run_id
        run = TrainingRun(address, client, experiment_id, str(run_id))
        try:
            with _system_metrics(run.id, address) if system_metrics else nullcontext():
                yield run
        except BaseException as exc:
            with suppress(MlflowException, OSError, RegistryError):
                client.set_tag(run.id, mlflow_tags.MLFLOW_RUN_NOTE, str(exc))
                _end(registry, run.id, "FAILED")
            raise
    _end(registry, run.id, "FINISHED")


def _experiment(client: mlflow.MlflowClient, name: str) -> str:
    """Return the id of the experiment of this name; another process may be creating it too."""
    with suppress(MlflowException):
        return client.create_experiment(name)
    found = client.get_experiment_by_name(name)
    if found is None:
        raise RegistryError(f"the experiment {name} can neither be made nor read in MLflow")
    if found.lifecycle_stage == LifecycleStage.DELETED:
        raise RegistryError(
            f"the experiment {name} was deleted in MLflow, with the runs of its models;"
            f" restore it: mlflow experiments restore --experiment-id {found.experiment_id}"
        )
    return str(found.experiment_id)


def _end(registry: Registry, run_id: str, status: str) -> None:
    """End a run; MLflow's client would print links to it."""
    registry.api.put("runs/update", {"run_id": run_id, "status": status, "end_time": _now()})


def _now() -> int:
    return int(time.time() * 1000)


@contextmanager
def _system_metrics(run_id: str, address: ServiceAddress) -> Iterator[None]:
    monitor: Any = SystemMetricsMonitor(run_id, tracking_uri=str(address))  # type: ignore[no-untyped-call]
    monitor.start()
    try:
        yield
    finally:  # without this a run that is shorter than MLflow's interval would have none
        monitor.collect_metrics()
        monitor.publish_metrics(monitor.aggregate_metrics())
        monitor.finish()


@contextmanager
def _credentials(address: ServiceAddress) -> Iterator[None]:
    """Put user and password where the client takes them from."""
    before = {name: os.environ.get(name) for name in CREDENTIALS}
    os.environ |= dict(zip(CREDENTIALS, address.credentials or (), strict=False))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _translated(address: ServiceAddress) -> Iterator[None]:
    try:
        yield
    except (MlflowException, OSError) as exc:
        raise RegistryError(f"MLflow at {address} cannot be used: {exc}") from exc


def _describe(manifest: ModelManifest, described: Model, folder: Path) -> None:
    """Write what MLflow loads a model directory by, and what it takes and returns."""
    sources = VEHICLE_VIEW.select(manifest.view.columns).sources
    # MLflow refuses whole numbers for a double, and prices in a CSV may be whole.
    number = AnyType()  # type: ignore[no-untyped-call]
    inputs = [ColSpec(DataType.long if COLUMNS[name].is_whole else number, name) for name in sources]
    outputs = [ColSpec(DataType.double, name) for name in FORECAST_COLUMNS]
    described.signature = ModelSignature(Schema([*inputs]), Schema([*outputs]))
    mlflow.pyfunc.add_to_model(described, loader_module=pyfunc.__name__)
    described.save(folder / MLMODEL_FILE_NAME)
    (folder / "requirements.txt").write_text(f"vroom-forecast=={manifest.libraries['vroom-forecast']}\n")


def _dataset(manifest: ModelManifest) -> Dataset:
    """Return MLflow's description of the snapshot."""
    snapshot, view = manifest.snapshot, manifest.view
    columns = (*view.columns, *VEHICLE_VIEW.attributes, VEHICLE_VIEW.label)
    schema = Schema([ColSpec(DataType.double, name) for name in columns])
    made_of = {
        "snapshot": snapshot.id,
        "digest": snapshot.digest,
        "view": f"{view.name}:{view.version}",
        "watch_days": snapshot.watch_days,
        "complete_through": str(snapshot.complete_through),
    }
    return Dataset(
        name=snapshot.id,
        digest=snapshot.digest[:DIGEST_LENGTH],
        source_type="code",
        source=json.dumps({"tags": made_of}),
        schema=json.dumps({"mlflow_colspec": schema.to_dict()}),
        profile=json.dumps({"num_rows": snapshot.num_rows, "num_left_out": snapshot.num_left_out}),
    )


def _params(manifest: ModelManifest) -> dict[str, object]:
    """Return what a person compares runs by."""
    snapshot = manifest.snapshot
    return manifest.params | {
        "seed": manifest.seed,
        "features": ", ".join(manifest.view.columns),
        "snapshot": snapshot.id,
        "num_vehicles": snapshot.num_rows,
        "watch_days": snapshot.watch_days,
        "complete_through": snapshot.complete_through,
    }


def _metrics(manifest: ModelManifest) -> dict[str, float]:
    """Return all figures; those of a fold, a segment or a feature are named after a slash."""
    metrics = dict(manifest.metrics)
    for fold in manifest.folds:
        metrics |= {f"mae/fold_{fold.fold}": fold.mae, f"coverage/fold_{fold.fold}": fold.coverage}
    for segment in manifest.segments:
        for name in ("num_rows", "mae", "bias", "coverage", "mean_width"):
            metrics[f"{name}/{metric_name(segment.segment)}"] = getattr(segment, name)
    for importance in manifest.feature_importances:
        metrics[f"importance/{importance.feature}"] = importance.mae_increase
    return metrics
