from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vroom_model.evaluation.gate import PromotionRules, decide, gain_lower_bound
from vroom_model.evaluation.metrics import Evaluation

NUM_VEHICLES = 1_000


def evaluation(version: int, *, noise: float = 0.0, **changes: Any) -> Evaluation:
    """Return scores whose forecasts miss by ``noise`` more than version 1's do."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 20, NUM_VEHICLES).astype(float)
    sign = rng.choice([-1.0, 1.0], NUM_VEHICLES)
    wobble = np.random.default_rng(version).normal(0, 0.1, NUM_VEHICLES)
    made = Evaluation(
        version=version,
        snapshot_digest="a" * 64,
        labels=labels,
        forecast=labels + sign * (3.5 + noise + wobble),
        segments=np.arange(NUM_VEHICLES) % 4,
        baseline_errors=np.full(NUM_VEHICLES, 5.0),
        trained_mean_label=float(labels.mean()),
        metrics={},
    )
    return replace(made, **changes)


def test_without_champion_the_median_must_be_beaten() -> None:
    assert decide(evaluation(2), None).promote
    hopeless = decide(evaluation(2, noise=1.5), None)
    assert not hopeless.promote
    assert "the median" in hopeless.reason


def test_a_real_gain_is_promoted_and_said_in_numbers() -> None:
    decision = decide(evaluation(2, noise=-0.2), evaluation(1))
    assert decision.promote
    assert decision.gain == pytest.approx(0.2 / 3.5, abs=0.01)
    assert decision.gain_low is not None
    assert 0.01 < decision.gain_low < decision.gain
    assert f"a gain of {decision.gain:.1%}" in decision.reason


def test_a_gain_that_chance_could_make_is_refused() -> None:
    decision = decide(evaluation(2, noise=-0.006), evaluation(1))
    assert not decision.promote
    assert "not surely better" in decision.reason


def test_a_sure_gain_below_the_least_that_counts_is_refused() -> None:
    assert not (decision := decide(evaluation(2, noise=-0.03), evaluation(1), PromotionRules())).promote
    assert "better than champion 1 by" in decision.reason
    assert decide(evaluation(2, noise=-0.03), evaluation(1), PromotionRules(min_gain=0.001)).promote


def test_a_worse_candidate_is_refused() -> None:
    decision = decide(evaluation(2, noise=0.5), evaluation(1))
    assert not decision.promote
    assert decision.gain is not None
    assert decision.gain < 0


def test_a_loss_is_called_worse_and_no_gain_that_chance_could_make() -> None:
    decision = decide(evaluation(2, noise=0.5), evaluation(1), PromotionRules(segment_margin=1))
    assert decision.gain is not None
    assert f"version 2 is worse than champion 1 by {-decision.gain:.1%}" in decision.reason
    assert "a gain" not in decision.reason


def test_a_bound_below_0_is_written_with_a_minus_sign() -> None:
    decision = decide(evaluation(2, noise=-0.006), evaluation(1))
    assert decision.gain is not None
    assert decision.gain_low is not None
    assert decision.gain_low < 0 < decision.gain
    assert f"bound \N{MINUS SIGN}{-decision.gain_low:.1%}" in decision.reason


def test_a_candidate_that_learned_from_half_of_the_reservations_is_refused() -> None:
    candidate = evaluation(2)
    halved = replace(candidate, forecast=candidate.labels / 2)
    decision = decide(halved, evaluation(1))
    assert not decision.promote
    assert "trained on other outcomes" in decision.reason


def test_a_snapshot_that_lost_half_of_its_reservations_promotes_nobody() -> None:
    candidate = evaluation(2, noise=-1.0)
    decision = decide(candidate, evaluation(1, trained_mean_label=2 * float(candidate.labels.mean())))
    assert not decision.promote
    assert "reservations seem to be missing" in decision.reason


def test_a_candidate_worse_in_one_segment_is_refused_though_better_on_the_whole() -> None:
    candidate = evaluation(2, noise=-1.0)
    forecast = candidate.forecast.copy()
    rows = candidate.segments == 2
    forecast[rows] += 3.0 * np.sign(forecast[rows] - candidate.labels[rows])
    uneven = replace(candidate, forecast=forecast)
    assert uneven.errors.mean() < 0.95 * evaluation(1).errors.mean()
    decision = decide(uneven, evaluation(1))
    assert not decision.promote
    assert "few photos" in decision.reason


@pytest.mark.parametrize(
    ("champion", "words"),
    [
        ({"version": 2}, "champion already"),
        ({"snapshot_digest": "b" * 64}, "different snapshots"),
    ],
)
def test_what_cannot_be_compared_is_refused(champion: dict[str, Any], words: str) -> None:
    decision = decide(evaluation(2, noise=-1.0), replace(evaluation(1), **champion))
    assert not decision.promote
    assert words in decision.reason


def test_the_bound_is_right_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    rules = PromotionRules(num_resamples=300)
    above = 0
    for _ in range(200):
        rival = rng.exponential(3.0, 300)
        same = rival + rng.normal(0, 0.5, 300)  # no gain on average
        above += gain_lower_bound(same, rival, rules) > 0
    assert 1 <= above <= 22  # 5 % of 200, give or take four standard errors


def test_the_bound_of_a_million_vehicles_is_quick_and_close_to_that_of_the_normal_law() -> None:
    rng = np.random.default_rng(2)
    rival = rng.exponential(3.0, 1_000_000)
    errors = rival * 0.98 + rng.normal(0, 0.5, 1_000_000)
    saved = rival - errors
    expected = (saved.mean() - 1.645 * saved.std() / 1_000) / rival.mean()
    assert gain_lower_bound(errors, rival, PromotionRules()) == pytest.approx(expected, rel=0.05)


def test_the_same_errors_give_the_same_decision() -> None:
    assert decide(evaluation(2), evaluation(1)) == decide(evaluation(2), evaluation(1))
