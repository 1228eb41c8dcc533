"""Registered models: what the registry keeps, what it refuses, and what is deleted again."""

import dataclasses
import doctest
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from tests.snapshots import SAMPLE, FrameSnapshot
from tests.vroom_model.champions import AS_OF, MIDDLING, WEAK, Champions, trained_model
from vroom_features.database.vehicles import SourceStore
from vroom_features.ingest.seed import seed
from vroom_features.materialize import materialize
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.settings import Settings
from vroom_features.view import VEHICLE_VIEW
from vroom_model.dataset import load_dataset
from vroom_model.errors import BaselineError, BrokenModelError, ModelNotFoundError, RegistryError
from vroom_model.manifest import fold_file
from vroom_model.registry.mlflow_api import MlflowApi
from vroom_model.registry.registry import Registry
from vroom_model.serving.predictor import Predictor
from vroom_model.training.model_card import card_text
from vroom_model.training.register import Registered, register_candidate, train_candidate
from vroom_model.training.train import TrainedModel

LABEL = VEHICLE_VIEW.label


@pytest.fixture(scope="module")
def client(mlflow_server: str) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(mlflow_server)


@pytest.fixture(scope="module")
def filled(mlflow_server: str) -> Iterator[Registry]:
    """Return a registry for tests that change none of its versions."""
    with Registry(mlflow_server, f"vroom-{uuid.uuid4().hex[:8]}") as registry:
        yield registry


@pytest.fixture(scope="module")
def registered(filled: Registry, trained: TrainedModel) -> Registered:
    return register_candidate(filled, trained)


def spoil(client: mlflow.MlflowClient, run_id: str, folder: Path) -> None:
    (folder / fold_file(1)).write_text("{}")
    client.log_artifact(run_id, str(folder / fold_file(1)), "bundle")


def test_a_registered_model_is_the_candidate_with_all_its_files_and_lineage_and_no_pickle(
    client: mlflow.MlflowClient,
    filled: Registry,
    registered: Registered,
    trained: TrainedModel,
    fleet: FrameSnapshot,
    tmp_path: Path,
) -> None:
    version, manifest = registered.version, registered.manifest
    assert filled.candidate() == version
    directory = filled.download(version, tmp_path)
    loaded = Predictor.load(directory, version=1, manifest_sha256=version.ref.manifest_sha256)
    assert loaded.manifest == trained.manifest

    run = client.get_run(version.run_id)
    assert run.data.params["num_rounds"] == str(manifest.params["num_rounds"])
    assert run.data.params["seed"] == "0"
    assert run.data.metrics["mae"] == pytest.approx(manifest.metrics["mae"])
    assert {"fold_4/mae", "segment_3/coverage", "importance/price_diff"} <= set(run.data.metrics)
    assert run.data.tags["features"] == ",".join(VEHICLE_VIEW.columns)
    assert version.tags["snapshot_digest"] == fleet.digest
    assert version.tags["view"] == "vehicle_forecast:1"
    assert version.tags["sha256.serving.onnx"] == manifest.files["serving.onnx"]
    names = {Path(entry.path).name for entry in client.list_artifacts(version.run_id, "bundle")}
    assert names == {*manifest.files, "manifest.json", "MLmodel"}
    cards = {Path(entry.path).name for entry in client.list_artifacts(version.run_id, "card")}
    assert cards == {"model_card.md", "calibration.png", "error_by_segment.png"}
    folder = client.download_artifacts(version.run_id, "bundle")
    signature = mlflow.models.Model.load(folder).signature
    assert signature is not None
    assert tuple(signature.inputs.input_names()) == VEHICLE_VIEW.columns
    assert mlflow.onnx.load_model(folder).graph.output


def test_what_is_missing_broken_or_not_reachable_is_refused_by_name(
    filled: Registry, registered: Registered, champions: Champions, mlflow_server: str, tmp_path: Path
) -> None:
    assert (champions.registry.champion(), champions.registry.candidate()) == (None, None)
    with pytest.raises(ModelNotFoundError, match="no version 7"):
        champions.registry.version(7)
    orphan = dataclasses.replace(registered.version, run_id="0" * 32)  # as `mlflow gc` leaves one
    with pytest.raises(BrokenModelError, match=r"its run 0+ is gone from MLflow"):
        filled.download(orphan, tmp_path)
    with pytest.raises(BrokenModelError, match="manifest_sha256"):
        _ = dataclasses.replace(registered.version, tags={}).ref
    with (
        closing(MlflowApi(mlflow_server)) as api,
        pytest.raises(RegistryError, match="out of reach: let the server at"),
    ):
        api.upload("s3://bucket/1/artifacts/bundle", tmp_path / "manifest.json")
    with (
        Registry("http://127.0.0.1:9", "vroom", timeout_s=1) as registry,
        pytest.raises(RegistryError, match=r"127\.0\.0\.1:9"),
    ):
        registry.champion()


def test_unchanged_inputs_make_no_second_version_unless_the_first_was_cut_off(
    champions: Champions, fleet: FrameSnapshot, client: mlflow.MlflowClient
) -> None:
    registry = champions.registry
    client.create_registered_model(registry.model_name)
    tags = {"training_digest": trained_model(fleet, WEAK).manifest.training_digest}
    run = client.create_run("0").info
    client.create_model_version(registry.model_name, f"{run.artifact_uri}/bundle", run.run_id, tags=tags)
    first = train_candidate(registry, fleet, as_of=AS_OF, params=WEAK)
    other = champions.register_trained(trained_model(fleet, MIDDLING))
    again = train_candidate(registry, fleet, as_of=AS_OF + timedelta(days=1), params=WEAK)
    assert (first.is_new, other.is_new, again.is_new) == (True, True, False)
    assert again.version.version == first.version.version == 2
    assert again.manifest.trained_at == AS_OF
    candidate = registry.candidate()
    assert candidate is not None
    assert candidate.version == first.version.version
    assert not champions.register_trained(trained_model(fleet, MIDDLING)).is_new
    rng = np.random.default_rng(0)
    useless = fleet.changed(
        lambda frame: frame.assign(training_label=rng.permutation(frame["training_label"]))
    )
    with pytest.raises(BaselineError, match="does not beat the mean"):
        champions.register(useless)
    assert len(registry.versions()) == 3


def test_missing_and_spoiled_files_are_refused_even_by_force_and_the_same_training_makes_a_new_version(
    champions: Champions, fleet: FrameSnapshot, client: mlflow.MlflowClient, tmp_path: Path
) -> None:
    whole = trained_model(fleet)
    directory = shutil.copytree(whole.directory, tmp_path / "incomplete")
    (directory / fold_file(4)).unlink()
    champions.register_trained(dataclasses.replace(whole, directory=directory))
    refused = champions.promote(fleet, force_reason="it must be")
    assert not refused.promoted
    assert "fold-4.json is missing in MLflow" in refused.decision.reason

    spoiled = champions.register_trained(trained_model(fleet, MIDDLING)).version
    spoil(client, spoiled.run_id, tmp_path)
    refused = champions.promote(fleet, force_reason="I want it")
    assert not refused.promoted
    assert "fold-1.json differs from its checksum" in refused.decision.reason
    kept = champions.registry.version(spoiled.version).tags["decision_reason"]
    assert kept == refused.decision.reason
    assert champions.registry.champion() is None
    anew = champions.register_trained(trained_model(fleet, MIDDLING))
    assert (anew.is_new, anew.version.version) == (True, spoiled.version + 1)
    assert champions.promote(fleet).promoted

    shutil.rmtree(champions.folder / "cache")  # a champion that is spoiled later is replaced by a sound one
    spoil(client, anew.version.run_id, tmp_path)
    assert champions.promote_each(fleet, WEAK) == [champions.champion()]


def test_two_that_set_the_same_tag_for_the_first_time_both_succeed(
    filled: Registry, registered: Registered
) -> None:
    both = threading.Barrier(2)
    version = registered.version.version

    def set_tags(tags: dict[str, str]) -> None:
        with Registry(filled.address, filled.model_name) as registry:
            both.wait(30)
            registry.set_tags(version, tags)

    expected = {f"tag_{number}": "set" for number in range(20)}
    with ThreadPoolExecutor(2) as pool:
        for name in expected:
            for done in [pool.submit(set_tags, {name: "set"}) for _ in range(2)]:
                done.result()
    assert expected.items() <= filled.version(version).tags.items()


def test_old_versions_are_deleted_with_their_files_and_champions_are_kept(
    champions: Champions, fleet: FrameSnapshot, client: mlflow.MlflowClient
) -> None:
    registry = champions.registry
    (first,) = champions.promote_each(fleet, WEAK)
    old = registry.version(champions.register(fleet, WEAK, seed=1))
    newest = champions.register(fleet, WEAK, seed=2)
    assert registry.delete_old_versions(keep=3, needed={first}) == []
    registry.set_alias("candidate", newest)
    assert registry.delete_old_versions(keep=0, needed=()) == [old.version]  # the others have an alias
    champions.registry.api.delete(
        "registered-models/alias", {"name": registry.model_name, "alias": "champion"}
    )
    assert registry.delete_old_versions(keep=0, needed={first}) == []
    assert [found.version for found in registry.versions()] == [newest, first]
    assert client.get_run(old.run_id).info.lifecycle_stage == "deleted"
    with pytest.raises(BrokenModelError, match="is missing in MLflow"):
        registry.download(old, champions.folder / "gone")
    registry.download(registry.version(first), champions.folder / "kept")
    registry.delete(old)  # again: what is gone is skipped


def test_files_are_kept_for_a_version_that_came_of_the_same_run(
    champions: Champions, fleet: FrameSnapshot, client: mlflow.MlflowClient
) -> None:
    registry = champions.registry
    old = champions.register_trained(trained_model(fleet, WEAK)).version
    source = client.get_model_version(registry.model_name, str(old.version)).source
    copied = f"{registry.model_name}-copy"
    client.create_registered_model(copied)
    for name in (registry.model_name, copied):
        client.create_model_version(name, source, old.run_id, tags=dict(old.tags))
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
    monkeypatch.setenv("VROOM_HOME", str(tmp_path / "var"))
    monkeypatch.setenv("VROOM_MLFLOW_URI", mlflow_server)
    monkeypatch.setenv("VROOM_MODEL_NAME", "vroom-docs")
    settings = Settings()
    with closing(SourceStore.open(settings.source_database)) as source:
        seed(source, SAMPLE)
        materialize(source, OfflineStore(settings.offline_store), None, now=AS_OF)
    names = {"folder": tmp_path, "as_of": AS_OF, "timedelta": timedelta}
    # A blank line ends an example's output in doctest; in Markdown it is the closing fence.
    text = document.read_text().replace("\n```", "\n")
    example = doctest.DocTestParser().get_doctest(text, names, document.name, str(document), 0)
    assert len(example.examples) > 20
    said: list[str] = []
    failed = doctest.DocTestRunner().run(example, out=said.append).failed
    assert not failed, "".join(said)


def mostly_unbooked(frame: pd.DataFrame, zeros: float) -> pd.DataFrame:
    """Leave bookings to half of the cheapest cars, so many that about ``zeros`` have none."""
    is_cheap = (frame["actual_price"] / frame["recommended_price"]).rank(pct=True) < (1 - zeros) / 0.5
    is_booked = is_cheap & (np.random.default_rng(0).random(len(frame)) < 0.5)
    return frame.assign(**{LABEL: frame[LABEL].where(is_booked, 0)})


def one_car_of_5000(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(**{LABEL: frame[LABEL].where(frame["vehicle_id"] != 7, 5_000)})


def thirty_cars(frame: pd.DataFrame) -> pd.DataFrame:
    ratio = frame["actual_price"] / frame["recommended_price"]
    return frame.assign(**{LABEL: (25 - 10 * ratio).astype(int)}).head(30)


@pytest.mark.parametrize(
    ("change", "has_lower_mae"),
    [
        (partial(mostly_unbooked, zeros=0.6), False),
        (partial(mostly_unbooked, zeros=0.8), False),
        (partial(mostly_unbooked, zeros=0.95), False),
        (one_car_of_5000, True),
        (thirty_cars, True),
    ],
)
def test_a_right_model_of_a_skewed_fleet_is_registered_and_promoted(
    champions: Champions,
    fleet: FrameSnapshot,
    change: Callable[[pd.DataFrame], pd.DataFrame],
    has_lower_mae: bool,
) -> None:
    skewed = fleet.changed(change)
    model = trained_model(skewed)
    metrics = model.manifest.metrics
    assert (metrics["mae"] < metrics["baseline_mae"]) == has_lower_mae
    assert metrics["deviance"] < metrics["baseline_deviance"]
    assert champions.register_trained(model).is_new
    outcome = champions.promote(skewed)
    assert outcome.promoted, outcome.decision.reason
    assert "the mean" in outcome.decision.reason


def test_one_extreme_car_moves_no_forecast_of_the_others(fleet: FrameSnapshot) -> None:
    model, plain = (trained_model(each) for each in (fleet.changed(one_car_of_5000), fleet))
    assert model.manifest.metrics["num_limited"] == 1
    assert "1 with extremely many reservations" in card_text(model.manifest)
    features = load_dataset(fleet).features
    forecasts, expected = (
        Predictor.load(each.directory, version=1).predict_matrix(features).predicted_reservations
        for each in (model, plain)
    )
    assert np.abs(forecasts - expected).max() < 3
