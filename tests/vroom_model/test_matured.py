"""Real errors over time: of vehicles whose watch ended since a model was trained, as they were forecast."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from tests.snapshots import WATCH, FrameSnapshot
from tests.vroom_model.champions import AS_OF, Champions
from vroom_model.evaluation.metrics import score
from vroom_model.records import MIN_MATURED, Matured
from vroom_model.serving.predictor import Predictor

D = date(2025, 3, 31)


def later(fleet: FrameSnapshot, num_matured: int, *, factor: int = 1, more: int = 0) -> FrameSnapshot:
    """Return the fleet of a later day, when vehicles like its first ones matured."""
    new = fleet.frame.head(num_matured)
    new = new.assign(
        vehicle_id=new["vehicle_id"] + 10_000, watch_start=pd.Timestamp(WATCH.first_day, tz="UTC")
    )
    new["training_label"] += more
    frame = pd.concat([fleet.frame, new])
    frame["training_label"] *= factor
    return FrameSnapshot.of(frame, watch_days=factor * WATCH.days, complete_through=D)


@pytest.mark.parametrize("factor", [1, 2])
def test_matured_vehicles_are_scored_as_they_were_served_in_the_models_own_watch(
    predictor: Predictor, fleet: FrameSnapshot, factor: int
) -> None:
    matured = score(predictor, later(fleet, 200, factor=factor)).matured
    assert matured is not None
    new = fleet.frame.head(200)
    served = predictor.predict_matrix(new[list(predictor.view.columns)].to_numpy(np.float32))
    residual = served.predicted_reservations - new["training_label"].to_numpy(np.float64)
    assert (matured.complete_through, matured.num_vehicles, matured.is_worse) == (D, 200, False)
    assert matured.mae == pytest.approx(np.abs(residual).mean())
    assert matured.bias == pytest.approx(residual.mean())


def test_a_worse_error_is_said_a_few_vehicles_are_counted_and_an_older_model_knows_none(
    predictor: Predictor, fleet: FrameSnapshot
) -> None:
    worse, few, nobody = (
        score(predictor, snapshot).matured
        for snapshot in (later(fleet, 200, more=8), later(fleet, MIN_MATURED - 1), fleet)
    )
    assert worse is not None
    assert worse.is_worse
    assert "worse than in training" in worse.summary
    assert few == Matured(complete_through=D, num_vehicles=MIN_MATURED - 1)
    assert "29 matured since the training, too few" in few.summary
    assert nobody is not None
    assert nobody.num_vehicles == 0


def test_points_are_kept_with_the_version_one_a_day_that_is_complete(champions: Champions) -> None:
    registry, version = champions.registry, champions.registry.version(champions.register())
    points = [
        Matured(
            complete_through=D + timedelta(days=30 * i), num_vehicles=40 + i, mae=3.0, bias=0.1, coverage=0.8
        )
        for i in range(3)
    ]
    again = points[0].model_copy(update={"mae": 2.5})
    few = Matured(complete_through=D, num_vehicles=3)
    for minute, point in enumerate([points[2], points[0], again, again, points[1], few]):
        registry.keep_matured(version, point, at=AS_OF + timedelta(minutes=minute))
    assert registry.matured(version) == (again, *points[1:])
    assert registry.matured(replace(version, run_id="0" * 32)) == ()
