from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from tests.snapshots import FrameSnapshot
from tests.vroom_model.champions import AS_OF, WEAK, trained_model
from vroom_features.view import VEHICLE_VIEW
from vroom_model.evaluation.diagnostics import decile_edges
from vroom_model.evaluation.drift import feature_drift, monitor
from vroom_model.manifest import Histogram
from vroom_model.records import MIN_ARRIVALS
from vroom_model.serving.predictor import Predictor

Features = dict[str, npt.NDArray[np.float64]]


@pytest.fixture
def features(fleet: FrameSnapshot) -> Features:
    """Return the fleet's features as arrivals have them, before any of them is rounded to a float32."""
    return {name: fleet.frame[name].to_numpy(np.float64) for name in VEHICLE_VIEW.columns}


def test_arrivals_like_the_training_vehicles_show_no_drift_dearer_ones_do_and_a_few_get_no_number(
    predictor: Predictor, fleet: FrameSnapshot, features: Features
) -> None:
    same = monitor(predictor, fleet, features, as_of=AS_OF)
    assert same.drifted == ()
    assert {found.feature for found in same.features} == set(VEHICLE_VIEW.columns)
    assert [found.psi for found in same.features] == pytest.approx([0] * len(features), abs=1e-6)
    reference = predictor.manifest.reference
    assert all(found.counts == reference[found.feature].counts for found in same.features)

    dearer = features | {"price_diff": features["price_diff"] + 40}
    report = monitor(predictor, fleet, dearer, as_of=AS_OF)
    assert report.drifted == ("price_diff",)
    assert "price_diff" in report.summary

    few = {name: values[: MIN_ARRIVALS - 1] for name, values in features.items()}
    report = monitor(predictor, fleet, few, as_of=AS_OF)
    assert {(found.psi, found.verdict) for found in report.features} == {(None, "too few")}
    assert "too few" in report.summary


def test_the_same_prices_are_no_drift_where_a_third_of_the_fleet_sits_on_the_edge_of_a_bin(
    fleet: FrameSnapshot,
) -> None:
    alike = np.arange(len(fleet.frame)) % 3 == 0  # at market + 5.10, which is no float32
    priced = fleet.changed(lambda frame: frame.assign(price_diff=frame.price_diff.mask(alike, 5.1)))
    for name, reference in trained_model(priced, WEAK).manifest.reference.items():
        found = feature_drift(name, reference, priced.frame[name].to_numpy(np.float64))
        assert found.psi == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("learned", "found"), [([0] * 5 + [1] * 95, 0), ([1] * 5 + [0] * 95, 1), ([3], 2), ([3], 4)]
)
def test_a_feature_that_was_nearly_constant_and_is_another_now_has_drifted(
    learned: list[int], found: int
) -> None:
    values = np.resize(np.array(learned, dtype=float), 1_000)
    reference = Histogram.of(values, decile_edges(values))
    assert feature_drift("num_images", reference, values).verdict == "steady"
    moved = np.full(MIN_ARRIVALS, float(found))
    assert feature_drift("num_images", reference, moved).verdict == "large drift"


def test_a_sample_of_them_shows_no_large_drift(predictor: Predictor, features: Features) -> None:
    rng = np.random.default_rng(0)
    for name, values in features.items():
        for _ in range(20):
            sample = rng.choice(values, 2 * MIN_ARRIVALS, replace=False)
            drift = feature_drift(name, predictor.manifest.reference[name], sample)
            assert drift.verdict != "large drift"


def test_lost_bookings_are_reported(predictor: Predictor, fleet: FrameSnapshot) -> None:
    nobody = dict.fromkeys(VEHICLE_VIEW.columns, np.empty(0))
    halved = replace(fleet, num_booked_last=260, num_booked_before=530)
    report = monitor(predictor, halved, nobody, as_of=AS_OF)
    assert "booked 260 times" in report.summary
    assert "check reservations.csv" in report.summary
    assert monitor(predictor, halved, nobody, as_of=AS_OF, max_drop=0.6).lost_bookings is None
