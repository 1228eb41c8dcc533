"""Registered models: what the registry keeps, what it refuses, and what is deleted again."""

import dataclasses
import doctest
import errno
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from tests.faults import proxy_that_refuses
from tests.promises.system import ROOT
from tests.snapshots import FrameSnapshot
from tests.vroom_features.stores import store_fleet
from tests.vroom_model.champions import AS_OF, MIDDLING, WEAK, Champions, trained_model
from vroom_features.offline.snapshots import Snapshot
from vroom_model.errors import (
    BaselineError,
    BrokenModelError,
    ModelNotFoundError,
    RegistryError,
    TrainingDataError,
)
from vroom_model.manifest import fold_file
from vroom_model.records import ModelVersion
from vroom_model.registry.registry import Registry
from vroom_model.segments import metric_name
from vroom_model.serving.predictor import Predictor
from vroom_model.training.boosting import FoldBooster, TrainingParams, stream_folds
from vroom_model.training.recording import open_run
from vroom_model.training.register import register_candidate, train_candidate
from vroom_model.training.train import TrainedModel


@pytest.fixture(scope="module")
def client(mlflow_server: str) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(mlflow_server)


def spoil(client: mlflow.MlflowClient, run_id: str, folder: Path) -> None:
    (folder / fold_file(1)).write_text("{}")
    client.log_artifact(run_id, str(folder / fold_file(1)), "bundle")


def test_a_registered_model_is_the_candidate_with_all_its_files_and_lineage_and_no_pickle(
    client: mlflow.MlflowClient, registry: Registry, trained: TrainedModel, tmp_path: Path
) -> None:
    version, manifest = register_candidate(registry, trained).version, trained.manifest
    assert registry.candidate() == version
    directory = registry.download(version, tmp_path)
    loaded = Predictor.load(directory, version=1, manifest_sha256=version.ref.manifest_sha256)
    assert loaded.manifest == manifest

    names = {Path(entry.path).name for entry in client.list_artifacts(version.run_id, "bundle")}
    assert names == {*manifest.files, "manifest.json", "MLmodel", "requirements.txt"}
    expected = {"snapshot_digest": manifest.snapshot.digest, "view": "vehicle_forecast:1"}
    expected["sha256.serving.onnx"] = manifest.files["serving.onnx"]
    assert expected.items() <= version.tags.items()


def test_a_run_in_mlflow_says_what_was_trained_on_by_whom_and_how_good_it_is(
    client: mlflow.MlflowClient, registry: Registry, fleet: FrameSnapshot
) -> None:
    began = time.time()
    tags = {"flow_run": "of a test"}
    done = train_candidate(registry, fleet, as_of=AS_OF, params=WEAK, tags=tags, system_metrics=True)
    version, manifest = done.version, done.manifest
    run = client.get_run(version.run_id)
    assert run.info.run_name == "seed 0, num_rounds 2"
    assert began <= run.info.start_time / 1000 < run.info.end_time / 1000 <= time.time()
    found = {"mlflow.user", "mlflow.source.name", "mlflow.source.git.commit"} & set(run.data.tags)
    assert len(found) == (3 if (ROOT / ".git").exists() else 2)
    assert tags.items() <= run.data.tags.items()
    assert {"num_rounds": "2", "seed": "0", "snapshot": fleet.id}.items() <= run.data.params.items()
    segments = {metric_name(segment.segment): segment for segment in manifest.segments}
    mae = {name.removeprefix("mae/"): value for name, value in run.data.metrics.items() if "mae/" in name}
    expected = {f"fold_{fold.fold}": fold.mae for fold in manifest.folds}
    assert mae == pytest.approx(expected | {name: segment.mae for name, segment in segments.items()})
    assert {"coverage/price_10_to_30_above_market", "importance/price_diff"} <= set(run.data.metrics)
    assert any(name.startswith("system/cpu") for name in run.data.metrics)

    (given,) = run.inputs.dataset_inputs
    dataset = given.dataset
    assert (dataset.name, fleet.digest.startswith(dataset.digest)) == (fleet.id, True)
    made_of = mlflow.data.get_source(dataset).to_dict()["tags"]
    assert (made_of["watch_days"], made_of["complete_through"]) == (365, "2023-12-31")
    (output,) = run.outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    assert model.status == "READY"
    assert {metric.dataset_name for metric in model.metrics} == {fleet.id}
    version = client.get_model_version(registry.model_name, "1")
    assert version.source == f"{run.info.artifact_uri}/bundle"
    cards = {Path(entry.path).name for entry in client.list_artifacts(version.run_id, "card")}
    assert cards == {"model_card.md", "calibration.png", "error_by_segment.png"}


def test_a_refused_training_is_a_failed_run_that_says_why(
    client: mlflow.MlflowClient, registry: Registry, fleet: FrameSnapshot
) -> None:
    with pytest.raises(TrainingDataError, match="expected at least 30"):
        train_candidate(registry, fleet.changed(lambda frame: frame.head(20)), as_of=AS_OF)
    experiment = client.get_experiment_by_name(registry.model_name)
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED"
    assert "expected at least 30" in run.data.tags["mlflow.note.content"]


def test_what_is_missing_broken_or_not_reachable_is_refused_by_name(
    champions: Champions, tmp_path: Path
) -> None:
    registry = champions.registry
    assert (registry.champion(), registry.candidate()) == (None, None)
    with pytest.raises(ModelNotFoundError, match="has no candidate; train one first"):
        champions.promote()
    with pytest.raises(ModelNotFoundError, match="no version 7"):
        registry.version(7)
    orphan = ModelVersion(1, "0" * 32, AS_OF, {"manifest_sha256": "0" * 64})  # as `mlflow gc` leaves one
    with pytest.raises(BrokenModelError, match=r"its run 0+ is gone from MLflow"):
        registry.download(orphan, tmp_path)
    with pytest.raises(BrokenModelError, match="manifest_sha256"):
        _ = dataclasses.replace(orphan, tags={}).ref
    with (
        Registry("http://127.0.0.1:9", "vroom", timeout_s=1) as away,
        pytest.raises(RegistryError, match=r"127\.0\.0\.1:9"),
    ):
        away.champion()


def test_a_full_disk_is_not_said_to_be_mlflow_and_an_mlflow_that_refuses_is(
    registry: Registry, trained: TrainedModel, fleet: FrameSnapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    with pytest.raises(OSError, match="no space left"):
        train_candidate(registry, fleet, as_of=AS_OF, fit=fit)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with (
        proxy_that_refuses(registry.address.url, "mlflow/logged-models") as mlflow_url,
        Registry(mlflow_url, registry.model_name) as refused,
        pytest.raises(RegistryError, match=f"MLflow at {mlflow_url} cannot be used"),
    ):
        register_candidate(refused, trained)
    assert registry.candidate() is None


def test_unchanged_inputs_make_no_second_version_unless_the_first_was_cut_off(
    champions: Champions, fleet: FrameSnapshot, client: mlflow.MlflowClient
) -> None:
    registry = champions.registry
    client.create_registered_model(registry.model_name)
    tags = {"training_digest": trained_model(fleet, WEAK).manifest.training_digest}
    run = client.create_run("0").info
    client.create_model_version(registry.model_name, f"{run.artifact_uri}/bundle", run.run_id, tags=tags)
    first = train_candidate(registry, fleet, as_of=AS_OF, params=WEAK)
    middling = trained_model(fleet, MIDDLING)
    other = register_candidate(registry, middling)
    again = train_candidate(registry, fleet, as_of=AS_OF + timedelta(days=1), params=WEAK)
    assert (first.is_new, other.is_new, again.is_new) == (True, True, False)
    assert again.version.version == first.version.version == 2
    assert again.manifest.trained_at == AS_OF
    assert registry.candidate() == again.version
    assert not register_candidate(registry, middling).is_new
    at_random = np.random.default_rng(0).permutation(fleet.frame["training_label"])
    useless = fleet.changed(lambda frame: frame.assign(training_label=at_random))
    with pytest.raises(BaselineError, match="does not beat the mean"):
        register_candidate(registry, trained_model(useless))
    assert len(registry.versions()) == 3


def test_other_boosters_of_the_same_inputs_are_a_version_of_their_own(
    registry: Registry, fleet: FrameSnapshot
) -> None:
    def fit(snapshot: Snapshot, _params: TrainingParams, **options: Any) -> tuple[FoldBooster, ...]:
        return stream_folds(snapshot, MIDDLING, **options)

    models = [trained_model(fleet, WEAK, fit=each) for each in (stream_folds, fit)]
    assert len({model.manifest.training_digest for model in models}) == 1
    done = [register_candidate(registry, model) for model in (*models, models[0])]
    assert [(each.version.version, each.is_new) for each in done] == [(1, True), (2, True), (1, False)]
    assert registry.candidate() == done[-1].version


def test_missing_and_spoiled_files_are_refused_even_by_force_and_the_same_training_makes_a_new_version(
    champions: Champions, fleet: FrameSnapshot, client: mlflow.MlflowClient, tmp_path: Path
) -> None:
    registry, whole, middling = champions.registry, trained_model(fleet), trained_model(fleet, MIDDLING)
    directory = shutil.copytree(whole.directory, tmp_path / "incomplete")
    (directory / fold_file(4)).unlink()
    register_candidate(registry, dataclasses.replace(whole, directory=directory))
    refused = champions.promote(force_reason="it must be")
    assert not refused.promoted
    assert "fold-4.json is missing in MLflow" in refused.decision.reason

    spoiled = register_candidate(registry, middling).version
    spoil(client, spoiled.run_id, tmp_path)
    refused = champions.promote(force_reason="I want it")
    assert not refused.promoted
    assert "fold-1.json differs from its checksum" in refused.decision.reason
    assert registry.version(spoiled.version).tags["decision_reason"] == refused.decision.reason
    assert registry.champion() is None
    anew = register_candidate(registry, middling)
    assert (anew.is_new, anew.version.version) == (True, spoiled.version + 1)
    assert champions.promote().promoted

    shutil.rmtree(champions.folder / "cache")  # a champion that is spoiled later is replaced by a sound one
    spoil(client, anew.version.run_id, tmp_path)
    assert champions.promote_each(WEAK) == [champions.champion()]


def test_two_that_set_the_same_tag_for_the_first_time_both_succeed(champions: Champions) -> None:
    version = champions.register(WEAK)
    together = threading.Barrier(2)

    def set_tag(name: str) -> None:
        together.wait(30)
        champions.registry.set_tags(version, {name: "set"})

    expected = {f"tag_{number}": "set" for number in range(20)}
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(set_tag, [name for name in expected for _ in range(2)]))
    assert expected.items() <= champions.registry.version(version).tags.items()


def test_old_versions_are_deleted_with_their_files_and_champions_are_kept(
    champions: Champions, client: mlflow.MlflowClient
) -> None:
    registry = champions.registry
    (first,) = champions.promote_each(WEAK)
    old = registry.version(champions.register(WEAK, seed=1))
    newest = champions.register(WEAK, seed=2)
    assert registry.delete_old_versions(keep=3, needed={first}) == []
    registry.set_alias("candidate", newest)
    assert registry.delete_old_versions(keep=0, needed=()) == [old.version]  # the others have an alias
    champions.registry.api.delete(
        "registered-models/alias", {"name": registry.model_name, "alias": "champion"}
    )
    assert registry.delete_old_versions(keep=0, needed={first}) == []
    assert [found.version for found in registry.versions()] == [newest, first]
    run = client.get_run(old.run_id)
    assert run.info.lifecycle_stage == "deleted"
    with pytest.raises(mlflow.MlflowException, match="not found"):
        client.get_logged_model(run.outputs.model_outputs[0].model_id)
    with pytest.raises(BrokenModelError, match="is missing in MLflow"):
        registry.download(old, champions.folder / "gone")
    registry.download(registry.version(first), champions.folder / "kept")
    registry.delete(old)  # again: what is gone is skipped


def test_files_are_kept_for_a_version_that_came_of_the_same_run(
    champions: Champions, client: mlflow.MlflowClient
) -> None:
    registry = champions.registry
    old = registry.version(champions.register(WEAK))
    source = client.get_model_version(registry.model_name, str(old.version)).source
    copied = f"{registry.model_name}-copy"
    client.create_registered_model(copied)
    for name in (registry.model_name, copied):
        client.create_model_version(name, source, old.run_id, dict(old.tags))
    registry.delete(old)
    registry.download(registry.version(2), champions.folder / "same model")
    registry.delete(registry.version(2))
    registry.download(old, champions.folder / "for the other model")
    with Registry(registry.address, copied) as copies:
        copies.delete(copies.version(1))
    with pytest.raises(BrokenModelError, match="is missing in MLflow"):
        registry.download(old, champions.folder / "gone")


def test_the_examples_of_docs_model_give_what_the_document_says(
    mlflow_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = Path(__file__).parents[2] / "docs" / "model.md"
    monkeypatch.setenv("VROOM_HOME", str(tmp_path))
    monkeypatch.setenv("VROOM_MLFLOW_URI", mlflow_server)
    monkeypatch.setenv("VROOM_MODEL_NAME", "vroom-docs")
    store_fleet(tmp_path)
    names = {"folder": tmp_path, "as_of": AS_OF, "timedelta": timedelta}
    # A blank line ends an example's output in doctest; in Markdown it is the closing fence.
    text = document.read_text().replace("\n```", "\n")
    example = doctest.DocTestParser().get_doctest(text, names, document.name, str(document), 0)
    assert len(example.examples) > 20
    assert doctest.DocTestRunner().run(example).failed == 0


def test_an_experiment_that_was_deleted_in_mlflow_is_named_with_what_restores_it(registry: Registry) -> None:
    client = mlflow.MlflowClient(str(registry.address))
    number = client.create_experiment(registry.model_name)
    client.delete_experiment(number)
    with (
        pytest.raises(RegistryError, match=f"mlflow experiments restore --experiment-id {number}$"),
        open_run(registry, "seed 0"),
    ):
        pass
    client.restore_experiment(number)
    with open_run(registry, "seed 0") as run:
        assert run.experiment_id == number
