"""What never becomes champion, from registered files to the sentence that says why."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.snapshots import FrameSnapshot
from tests.vroom_model.champions import Champions
from vroom_features.view import VEHICLE_VIEW
from vroom_model.manifest import ModelManifest, ViewRef, fold_file
from vroom_model.training.train import TrainedModel

Change = Callable[[ModelManifest], dict[str, Any]]


def halve_reservations(frame: pd.DataFrame) -> pd.DataFrame:
    """Drop half of the reservations at random."""
    rng = np.random.default_rng(0)
    return frame.assign(num_reservations=rng.binomial(frame["num_reservations"], 0.5))


def forged(trained: TrainedModel, directory: Path, change: Change) -> TrainedModel:
    """Return a model whose manifest says something else, with checksums that are right."""
    shutil.copytree(trained.directory, directory)
    manifest = trained.manifest.model_copy(update=change(trained.manifest))
    return TrainedModel(directory, manifest, manifest.write(directory))


def without_mean_label(manifest: ModelManifest) -> dict[str, Any]:
    """Return the metrics but for one that a promotion needs."""
    return {"metrics": {name: value for name, value in manifest.metrics.items() if name != "mean_label"}}


def test_a_candidate_trained_on_half_of_the_reservations_is_refused(
    champions: Champions, fleet: FrameSnapshot, trained: TrainedModel
) -> None:
    champion = champions.register_trained(trained).version.version
    champions.promote(fleet)
    halved = fleet.changed(halve_reservations)
    candidate = champions.register(halved)
    on_the_true_fleet = champions.promote(fleet).decision
    assert not on_the_true_fleet.promote
    assert "it was trained on other outcomes" in on_the_true_fleet.reason
    on_its_own = champions.promote(halved, candidate).decision
    assert not on_its_own.promote
    assert "reservations seem to be missing" in on_its_own.reason
    assert champions.champion() == champion


OTHER_FEATURES = ViewRef(
    name=VEHICLE_VIEW.name, version=VEHICLE_VIEW.version, columns=(*VEHICLE_VIEW.columns[:-1], "price_gap")
)
OTHER_MEANING = ViewRef.of(VEHICLE_VIEW).model_copy(update={"feature_versions": {"price_diff": 2}})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda _: {"view": OTHER_FEATURES}, "price_gap"),
        (lambda _: {"view": OTHER_MEANING}, "it takes price_diff v2"),
        (without_mean_label, "lacks metrics: mean_label"),
        (lambda _: {"folds": ()}, "lacks metrics: those of each fold"),
        (lambda _: {"segments": ()}, "lacks metrics: those of each segment"),
        (lambda m: {"files": {n: s for n, s in m.files.items() if n != fold_file(2)}}, r"fold-2\.json"),
    ],
    ids=[
        "other features",
        "another feature version",
        "no metrics",
        "no folds",
        "no segments",
        "unlisted file",
    ],
)
def test_what_cannot_be_trusted_is_refused_even_by_force(
    champions: Champions,
    fleet: FrameSnapshot,
    trained: TrainedModel,
    tmp_path: Path,
    change: Change,
    words: str,
) -> None:
    version = champions.register_trained(forged(trained, tmp_path / "forged", change)).version
    for force_reason in (None, "it must be"):
        outcome = champions.promote(fleet, force_reason=force_reason)
        assert not outcome.promoted
    assert champions.registry.champion() is None
    kept = champions.registry.version(version.version).tags["decision_reason"]
    assert kept == outcome.decision.reason
    assert kept.startswith(f"version {version.version} cannot be used: ")
    assert re.search(words, kept)


def test_a_version_whose_file_is_missing_is_refused_even_by_force(
    champions: Champions, fleet: FrameSnapshot, trained: TrainedModel, tmp_path: Path
) -> None:
    directory = tmp_path / "incomplete"
    shutil.copytree(trained.directory, directory)
    (directory / fold_file(4)).unlink()
    champions.register_trained(TrainedModel(directory, trained.manifest, trained.manifest_sha256))
    outcome = champions.promote(fleet, force_reason="it must be")
    assert not outcome.promoted
    assert "fold-4.json is missing in MLflow" in outcome.decision.reason
    assert champions.registry.champion() is None


def test_a_broken_champion_is_replaced_by_whatever_beats_the_median(
    champions: Champions, fleet: FrameSnapshot, trained: TrainedModel, tmp_path: Path
) -> None:
    broken = forged(trained, tmp_path / "broken", without_mean_label)
    champions.registry.set_alias("champion", champions.register_trained(broken).version.version)
    sound = champions.register(fleet, seed=1)
    assert champions.promote(fleet).promoted
    assert champions.champion() == sound
