"""The gate: what becomes champion, and the sentence that says why not."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.snapshots import FrameSnapshot
from tests.vroom_model.champions import AS_OF, trained_model
from vroom_features.view import VEHICLE_VIEW
from vroom_features.watch import RecentBookings
from vroom_model.evaluation.gate import PromotionRules, compare, decide, gain_lower_bound
from vroom_model.evaluation.metrics import Evaluation, score
from vroom_model.manifest import ModelManifest, ViewRef, fold_file
from vroom_model.records import ModelVersion
from vroom_model.serving.predictor import Predictor
from vroom_model.training.train import TrainedModel

NUM_VEHICLES = 1_000


def evaluation(version: int, *, noise: npt.ArrayLike = 0.0, bias: float = 0.0, **changes: Any) -> Evaluation:
    """Return scores whose forecasts miss by ``noise`` more than version 1's, and are ``bias`` higher."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 20, NUM_VEHICLES).astype(float)
    sign = rng.choice([-1.0, 1.0], NUM_VEHICLES)
    wobble = np.random.default_rng(version).normal(0, 0.1, NUM_VEHICLES)
    made = Evaluation(
        version=version,
        snapshot_digest="a" * 64,
        labels=labels,
        forecast=labels + sign * (3.5 + np.asarray(noise) + wobble) + bias,
        segments=np.arange(NUM_VEHICLES) % 4,
        baseline=np.full(NUM_VEHICLES, 9.5),
        trained_mean_label=float(labels.mean()),
        metrics={},
    )
    return replace(made, **changes)


ELSEWHERE = evaluation(1, snapshot_digest="b" * 64)
LOST = evaluation(2, noise=-1.0, recent=RecentBookings(260, 530))
UNEVEN = np.where(np.arange(NUM_VEHICLES) % 4 == 2, 2.0, -1.0)  # better on the whole


@pytest.mark.parametrize(
    ("candidate", "champion", "rules", "promote", "words"),
    [
        (evaluation(2), None, {}, True, "the mean"),
        (evaluation(2, noise=2.5), None, {}, False, "the mean"),
        (evaluation(2, noise=-0.2), evaluation(1), {}, True, "a gain of {gain:.1%}"),
        (evaluation(2, noise=-0.03), evaluation(1), {}, False, "better than champion 1 by"),
        (evaluation(2, noise=-0.03), evaluation(1), {"min_gain": 0.001}, True, "a gain"),
        (evaluation(2, noise=0.5), evaluation(1), {"segment_margin": 1}, False, "worse than champion 1 by"),
        (evaluation(2, noise=-0.006), evaluation(1), {}, False, "not significantly better"),
        (evaluation(2, noise=-0.006), evaluation(1, bias=0.5), {}, True, "closer to what happened"),
        (evaluation(2, noise=-0.006), evaluation(1, bias=0.1), {}, False, "not significantly better"),
        (evaluation(2, noise=0.1), evaluation(1, bias=0.5), {}, False, "worse than champion 1 by"),
        (evaluation(2, noise=-1.0), ELSEWHERE, {}, False, "different snapshots"),
        (evaluation(2, noise=UNEVEN), evaluation(1), {}, False, "few photos"),
        (LOST, evaluation(1), {}, False, "530 times in the 30 days before; bookings seem to be missing"),
        (LOST, None, {}, True, "the mean"),  # any model is better than none
        (LOST, evaluation(1), {"max_label_drop": 0.6}, True, "a gain"),
    ],
)
def test_a_sure_and_large_enough_gain_is_promoted_and_the_reason_says_it(
    candidate: Evaluation, champion: Evaluation | None, rules: dict[str, Any], promote: bool, words: str
) -> None:
    decision = decide(candidate, champion, PromotionRules(**rules))
    assert decision.promote == promote
    assert words.format(gain=decision.gain) in decision.reason


def test_a_candidate_trained_on_half_of_the_reservations_is_refused(
    fleet: FrameSnapshot, predictor: Predictor
) -> None:
    half = np.random.default_rng(0).binomial(fleet.frame["training_label"], 0.5)
    halved = fleet.changed(lambda frame: frame.assign(training_label=half))
    candidate = Predictor.load(trained_model(halved).directory, version=2)
    on_the_true_fleet = decide(score(candidate, fleet), score(predictor, fleet))
    on_its_own = decide(score(candidate, halved), score(predictor, halved))
    assert (on_the_true_fleet.promote, on_its_own.promote) == (False, False)
    assert "it was trained on other outcomes" in on_the_true_fleet.reason
    assert "reservations seem to be missing" in on_its_own.reason


def test_the_bound_is_right_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    rules = PromotionRules(num_resamples=300)
    above = 0
    for _ in range(200):
        rival = rng.exponential(3.0, 300)
        same = rival + rng.normal(0, 0.5, 300)  # no gain on average
        above += gain_lower_bound(same, rival, rules) > 0
    assert 1 <= above <= 22  # 5 % of 200, give or take four standard errors

    rival = rng.exponential(3.0, 1_000_000)
    saved = 0.02 * rival - rng.normal(0, 0.5, 1_000_000)
    normal = (saved.mean() - 1.645 * saved.std() / 1_000) / rival.mean()
    assert gain_lower_bound(rival - saved, rival, PromotionRules()) == pytest.approx(normal, rel=0.05)


OTHER_MEANING = ViewRef.of(VEHICLE_VIEW).model_copy(update={"feature_versions": {"price_diff": 2}})
Change = Callable[[ModelManifest], dict[str, Any]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda _: {"view": OTHER_MEANING}, "it takes price_diff v2"),
        (lambda _: {"metrics": {}}, "lacks metrics:.*mean_label"),
        (lambda _: {"folds": ()}, "lacks metrics: those of each fold"),
        (lambda m: {"files": {n: s for n, s in m.files.items() if n != fold_file(2)}}, r"fold-2\.json"),
    ],
)
def test_a_model_that_cannot_be_trusted_is_refused_without_a_comparison(
    fleet: FrameSnapshot, trained: TrainedModel, tmp_path: Path, change: Change, words: str
) -> None:
    """Its manifest says something else, with checksums that are right."""
    forged = shutil.copytree(trained.directory, tmp_path / "forged")
    sha256 = trained.manifest.model_copy(update=change(trained.manifest)).write(forged)
    version = ModelVersion(7, "a run", AS_OF, {"manifest_sha256": sha256})
    load = partial(Predictor.load, forged, manifest_sha256=sha256)
    decision = compare(version, None, fleet, load=lambda found: load(version=found.version))
    assert (decision.promote, decision.candidate_mae) == (False, None)
    assert decision.reason.startswith("version 7 cannot be used: ")
    assert re.search(words, decision.reason)


def test_a_decision_has_the_paired_difference_of_each_segment_with_its_interval() -> None:
    gains = decide(evaluation(2, noise=np.where(UNEVEN > 0, 0.0, -0.2)), evaluation(1)).segments
    assert [gain.num_vehicles for gain in gains] == [NUM_VEHICLES // 4] * 4
    assert all(gain.low < gain.difference < gain.high for gain in gains)
    assert [gain.high < 0 for gain in gains] == [True, True, False, True]
    assert decide(evaluation(2), None).segments == ()
