import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import httpx
import mlflow
import numpy as np
import onnxruntime as ort
import pandas as pd
import pytest

from tests.snapshots import FrameSnapshot
from tests.vroom_model.champions import AS_OF, Champions
from vroom_features.view import VEHICLE_VIEW
from vroom_model.dataset import load_dataset
from vroom_model.errors import BaselineError, BrokenModelError, ModelNotFoundError, RegistryError
from vroom_model.registry.mlflow_api import MlflowApi
from vroom_model.registry.registry import Registry
from vroom_model.serving.predictor import Predictor
from vroom_model.training.boosting import TrainingParams
from vroom_model.training.register import train_candidate
from vroom_model.training.train import TrainedModel


def test_a_registered_model_is_the_candidate_and_comes_back_whole(
    champions: Champions, trained: TrainedModel, tmp_path: Path
) -> None:
    registered = champions.register_trained(trained)
    candidate = champions.registry.candidate()
    assert candidate == registered.version
    assert candidate is not None
    directory = champions.registry.download(candidate, tmp_path / "downloads")
    loaded = Predictor.load(directory, version=1, manifest_sha256=candidate.ref.manifest_sha256)
    assert loaded.manifest == trained.manifest


def test_unchanged_inputs_make_no_second_version(champions: Champions, fleet: FrameSnapshot) -> None:
    first = champions.register_trained(champions.train(fleet))
    other = champions.register_trained(champions.train(fleet, seed=1))
    again = champions.register_trained(champions.train(fleet))
    assert (first.is_new, other.is_new, again.is_new) == (True, True, False)
    assert again.version.version == first.version.version
    candidate = champions.registry.candidate()
    assert candidate is not None
    assert candidate.version == first.version.version
    assert len(champions.registry.versions()) == 2


def test_the_run_records_parameters_metrics_lineage_and_signature(
    champions: Champions, trained: TrainedModel, fleet: FrameSnapshot
) -> None:
    version = champions.register_trained(trained).version
    client = mlflow.MlflowClient(champions.registry.address.url)
    run = client.get_run(version.run_id)
    assert run.data.params["num_rounds"] == str(trained.manifest.params["num_rounds"])
    assert run.data.params["seed"] == "0"
    assert run.data.metrics["mae"] == pytest.approx(trained.manifest.metrics["mae"])
    assert {"fold_4/mae", "segment_3/coverage", "importance/price_diff"} <= set(run.data.metrics)
    assert run.data.tags["features"] == ",".join(VEHICLE_VIEW.columns)
    assert version.tags["snapshot_digest"] == fleet.digest
    assert version.tags["view"] == "vehicle_forecast:1"
    assert version.tags["sha256.serving.onnx"] == trained.manifest.files["serving.onnx"]
    signature = mlflow.models.Model.load(
        client.download_artifacts(version.run_id, "bundle/MLmodel")
    ).signature
    assert signature is not None
    assert tuple(signature.inputs.input_names()) == VEHICLE_VIEW.columns


def test_mlflow_itself_can_load_and_run_the_model(
    champions: Champions, trained: TrainedModel, predictor: Predictor, fleet: FrameSnapshot
) -> None:
    version = champions.register_trained(trained).version
    client = mlflow.MlflowClient(champions.registry.address.url)
    graph = mlflow.onnx.load_model(client.download_artifacts(version.run_id, "bundle"))
    features = load_dataset(fleet).features[:50]
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(
        session.run(None, {"features": features})[0], predictor.predict_by_fold(features)
    )


def test_unchanged_inputs_are_not_even_trained_on_again(champions: Champions, fleet: FrameSnapshot) -> None:
    first = train_candidate(champions.registry, fleet, as_of=AS_OF)
    again = train_candidate(champions.registry, fleet, as_of=AS_OF + timedelta(days=1))
    assert (first.is_new, again.is_new) == (True, False)
    assert again.version.version == first.version.version
    assert again.manifest == first.manifest
    assert again.manifest.trained_at == AS_OF
    other = train_candidate(champions.registry, fleet, as_of=AS_OF, params=TrainingParams(num_rounds=30))
    assert other.is_new


def test_a_version_whose_files_are_spoiled_is_made_anew(
    champions: Champions, fleet: FrameSnapshot, trained: TrainedModel, tmp_path: Path
) -> None:
    spoiled = champions.register_trained(trained).version
    forged = tmp_path / "fold-1.json"
    forged.write_text("{}")
    client = mlflow.MlflowClient(champions.registry.address.url)
    client.log_artifact(spoiled.run_id, str(forged), "bundle")
    anew = train_candidate(champions.registry, fleet, as_of=AS_OF)
    assert anew.is_new
    assert anew.version.version == spoiled.version + 1
    assert champions.promote(fleet).promoted


def test_a_version_whose_run_is_gone_is_broken_and_stands_in_nobodys_way(
    champions: Champions, trained: TrainedModel, tmp_path: Path
) -> None:
    version = champions.register_trained(trained).version
    orphan = dataclasses.replace(version, run_id="0" * 32)  # as `mlflow gc` leaves one
    with pytest.raises(BrokenModelError, match=r"its run 0+ is gone from MLflow"):
        champions.registry.download(orphan, tmp_path / "downloads")


def test_no_artifact_is_a_pickle(champions: Champions, trained: TrainedModel) -> None:
    version = champions.register_trained(trained).version
    client = mlflow.MlflowClient(champions.registry.address.url)
    names = {Path(entry.path).name for entry in client.list_artifacts(version.run_id, "bundle")}
    assert names == {*trained.manifest.files, "manifest.json", "MLmodel"}
    cards = {Path(entry.path).name for entry in client.list_artifacts(version.run_id, "card")}
    assert cards == {"model_card.md", "calibration.png", "error_by_segment.png"}


def test_a_model_no_better_than_the_median_is_not_registered(
    champions: Champions, fleet: FrameSnapshot
) -> None:
    rng = np.random.default_rng(0)

    def shuffle_labels(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(num_reservations=rng.permutation(frame["num_reservations"]))

    with pytest.raises(BaselineError, match="does not beat the median"):
        champions.register(fleet.changed(shuffle_labels))
    assert champions.registry.versions() == []


def test_a_recording_cut_off_is_not_taken_for_the_model(champions: Champions, trained: TrainedModel) -> None:
    client = mlflow.MlflowClient(champions.registry.address.url)
    client.create_registered_model(champions.registry.model_name)
    tags = {"training_digest": trained.manifest.training_digest}
    run = client.create_run("0").info
    client.create_model_version(
        champions.registry.model_name, f"{run.artifact_uri}/bundle", run.run_id, tags=tags
    )
    registered = champions.register_trained(trained)
    assert registered.is_new
    assert registered.version.version == 2


def test_what_is_not_there_is_said_to_be_missing(registry: Registry) -> None:
    assert registry.champion() is None
    assert registry.candidate() is None
    with pytest.raises(ModelNotFoundError, match="no version 7"):
        registry.version(7)


def test_an_mlflow_that_serves_no_artifacts_is_refused(mlflow_server: str, tmp_path: Path) -> None:
    api = MlflowApi(mlflow_server)
    with pytest.raises(RegistryError, match="out of reach: let the server at"):
        api.upload("s3://bucket/1/artifacts/bundle", tmp_path / "manifest.json")
    api.close()


def test_a_registry_that_is_away_is_named() -> None:
    with (
        Registry("http://127.0.0.1:9", "vroom", timeout_s=1) as registry,
        pytest.raises(RegistryError, match=r"127\.0\.0\.1:9"),
    ):
        registry.champion()


def test_a_candidate_with_altered_files_is_refused_even_by_force(
    champions: Champions, fleet: FrameSnapshot, trained: TrainedModel, tmp_path: Path
) -> None:
    version = champions.register_trained(trained).version
    client = mlflow.MlflowClient(champions.registry.address.url)
    forged = tmp_path / "fold-1.json"
    forged.write_text("{}")
    client.log_artifact(version.run_id, str(forged), "bundle")
    outcome = champions.promote(fleet, version.version, force_reason="I want it")
    assert not outcome.promoted
    assert "fold-1.json differs from its checksum" in outcome.decision.reason
    assert champions.registry.champion() is None
    with pytest.raises(BrokenModelError):
        champions.registry.download(version, tmp_path / "downloads")


def test_a_version_without_its_checksum_is_refused(
    champions: Champions, fleet: FrameSnapshot, trained: TrainedModel
) -> None:
    version = champions.register_trained(trained).version
    stripped = dataclasses.replace(version, tags={})
    with pytest.raises(BrokenModelError, match="manifest_sha256"):
        _ = stripped.ref
    url = f"{champions.registry.address}/api/2.0/mlflow/model-versions/delete-tag"
    body = {"name": champions.registry.model_name, "version": "1", "key": "manifest_sha256"}
    httpx.request("DELETE", url, json=body).raise_for_status()
    outcome = champions.promote(fleet)
    assert not outcome.promoted
    assert "manifest_sha256" in outcome.decision.reason


def test_two_that_note_the_same_for_the_first_time_both_succeed(
    champions: Champions, trained: TrainedModel
) -> None:
    version = champions.register_trained(trained).version.version
    both = threading.Barrier(2)

    def note(tags: dict[str, str]) -> None:
        with Registry(champions.registry.address, champions.registry.model_name) as registry:
            both.wait(30)
            registry.set_tags(version, tags)

    noted = [{f"tag_{number}": "noted"} for number in range(20)]
    with ThreadPoolExecutor(2) as pool:
        for tags in noted:
            for done in [pool.submit(note, tags), pool.submit(note, tags)]:
                done.result()
    found = champions.registry.version(version).tags
    assert all(tags.items() <= found.items() for tags in noted)
