"""Models in a real MLflow whose answers are known: one that answers 7.0 cannot be mistaken for another."""

import hashlib
import json
import uuid
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from vroom_features.view import VEHICLE_VIEW
from vroom_features.watch import Watch
from vroom_model.manifest import SERVING_NAME, ModelManifest, SegmentMetrics, SnapshotRef, ViewRef, fold_file
from vroom_model.segments import SEGMENTS
from vroom_model.training.onnx_graph import write_graph
from vroom_model.trees import LEAF, Ensemble

AS_OF = datetime(2026, 1, 1, tzinfo=UTC)
SEGMENT = SegmentMetrics(segment=SEGMENTS[0], num_rows=40, mae=1.0, bias=0.0, coverage=0.77, mean_width=2.0)
WATCH = Watch(364, date(2023, 12, 30))
RANGES = {
    name: {"low": low, "high": high, "mean": (low + high) / 2}
    for name, low, high in (
        ("technology", 0, 1),
        ("num_images", 0, 5),
        ("street_parked", 0, 1),
        ("description", 0, 250),
        ("actual_price", 30, 180),
        ("recommended_price", 35, 90),
    )
}
LINES = {"coverage": 0.8, "low_intercept": -1, "low_slope": 1, "high_intercept": 1, "high_slope": 1}
TREE = {
    "split_type": [0],
    "left_children": [LEAF],
    "right_children": [LEAF],
    "split_indices": [0],
    "split_conditions": [0.0],
    "sum_hessian": [1.0],
}


def snapshot_ref(watch: Watch | None) -> SnapshotRef:
    """Return a snapshot to have been trained on; without a watch as in models of earlier releases."""
    known = {"watch_days": watch.days, "complete_through": watch.complete_through} if watch else {}
    return SnapshotRef(id="snapshot", digest="0" * 64, num_rows=1, created_at=AS_OF, **known)


def booster(forecast: float) -> bytes:
    """Return a booster as XGBoost saves it."""
    learner = {
        "gradient_booster": {"model": {"trees": [TREE]}},
        "objective": {"name": "reg:squarederror"},
        "learner_model_param": {"base_score": json.dumps([forecast])},
    }
    return json.dumps({"learner": learner}).encode()


def write_bundle(
    directory: Path,
    forecast: float,
    *,
    columns: tuple[str, ...] = VEHICLE_VIEW.columns,
    folds: tuple[float, ...] = (),
    **changes: object,
) -> str:
    """Write a model directory that answers ``forecast`` for every vehicle; return its manifest's SHA-256.

    ``folds`` are what its boosters answer, if they differ: their mean is ``forecast``.
    """
    directory.mkdir(parents=True)
    boosters = [booster(each) for each in folds or (forecast,)]
    for fold, each in enumerate(boosters):
        (directory / fold_file(fold)).write_bytes(each)
    write_graph(map(Ensemble.from_json, boosters), len(columns), directory / SERVING_NAME)
    probe = {"forecast": forecast, "low": max(forecast - 1, 0.0), "high": forecast + 1}
    manifest = {
        "trained_at": AS_OF,
        "training_digest": "0" * 64,
        "snapshot": snapshot_ref(WATCH),
        "view": ViewRef.of(VEHICLE_VIEW.select(columns)),
        "params": {"num_trees": 1},
        "seed": 0,
        "num_folds": len(boosters),
        "interval": LINES,
        "price_ratio": (0.8, 2.0),
        "mean_price_ratio": 1.39,
        "ranges": RANGES,
        "metrics": {"mae": 1.0},
        "folds": (),
        "segments": (SEGMENT,),
        "feature_importances": (),
        "reference": {},
        "libraries": {},
        "files": {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in directory.iterdir()},
        "probes": (probe | {"features": dict.fromkeys(columns, 0.0)},),
    }
    return ModelManifest.model_validate(manifest | changes).write(directory)


Uploads = dict[float, tuple[str, str, str]]
"""Run, address and digest of models in MLflow, by what they answer: uploading costs more than registering."""


class Models:
    """A registered model in MLflow, whose versions answer what a test asks for."""

    def __init__(self, url: str, folder: Path, uploads: Uploads) -> None:
        self.url, self.name = url, f"vroom-{uuid.uuid4().hex[:8]}"
        self._folder, self._uploads = folder, uploads
        self.client = MlflowClient(url)
        self.client.create_registered_model(self.name)

    def register(self, forecast: float, **changes: Any) -> int:
        """Register a model that answers ``forecast``; with these changes it is uploaded anew."""
        found = None if changes else self._uploads.get(forecast)
        if found is None:
            directory = self._folder / uuid.uuid4().hex
            sha256 = write_bundle(directory, forecast, **changes)
            run = self.client.create_run("0").info
            self.client.log_artifacts(run.run_id, str(directory), "bundle")
            found = run.run_id, f"{run.artifact_uri}/bundle", sha256
            if not changes:
                self._uploads[forecast] = found
        run_id, source, sha256 = found
        tags = {"manifest_sha256": sha256, "bundle_path": "bundle"}
        return int(self.client.create_model_version(self.name, source, run_id, tags).version)

    def crown(self, version: int) -> None:
        """Move the champion alias, without a message."""
        self.client.set_registered_model_alias(self.name, "champion", str(version))

    def champion(self) -> int:
        return int(self.client.get_model_version_by_alias(self.name, "champion").version)

    def dethrone(self) -> None:
        self.client.delete_registered_model_alias(self.name, "champion")
