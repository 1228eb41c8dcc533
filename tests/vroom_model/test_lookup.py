"""The table of a forest answers as its graph does, to the last bit."""

import numpy as np
import pytest

from vroom_features.view import VEHICLE_VIEW
from vroom_model.lookup import MAX_CELLS, ForestTable
from vroom_model.manifest import fold_file
from vroom_model.predictor import Predictor
from vroom_model.training import TrainedModel
from vroom_model.trees import LEAF, Ensemble, Tree

NUM_VEHICLES = 10_000


def test_ten_thousand_vehicles_and_every_corner_are_answered_alike(trained: TrainedModel) -> None:
    predictor = Predictor.load(trained.directory, version=1)
    rng = np.random.default_rng(7)
    rows = np.column_stack(
        [
            rng.integers(0, 2, NUM_VEHICLES),
            rng.integers(0, 12, NUM_VEHICLES),
            rng.integers(0, 2, NUM_VEHICLES),
            rng.integers(0, 400, NUM_VEHICLES),
            rng.uniform(-80, 150, NUM_VEHICLES),
        ]
    ).astype(np.float64)
    # Every threshold itself, and the numbers right below and above it, are where mistakes would be.
    corners = {
        (tree.feature[node], tree.threshold[node])
        for fold in range(trained.manifest.num_folds)
        for tree in Ensemble.from_json((trained.directory / fold_file(fold)).read_bytes()).trees
        for node, left in enumerate(tree.left)
        if left != LEAF
    }
    around = rows[: 3 * len(corners)]
    for number, (feature, threshold) in enumerate(sorted(corners)):
        corner = np.float32(threshold)
        around[3 * number, feature] = corner
        around[3 * number + 1, feature] = np.nextafter(corner, np.float32(-np.inf))
        around[3 * number + 2, feature] = np.nextafter(corner, np.float32(np.inf))
    assert len(corners) > 100
    expected = predictor.predict_matrix(rows)
    pauses: list[None] = []
    assert predictor.tabulate(trained.directory, pause=lambda: pauses.append(None))
    assert len(pauses) > 50  # small steps, between which requests go first
    for number, row in enumerate(rows.tolist()):
        answer = predictor.predict_features(dict(zip(VEHICLE_VIEW.columns, row, strict=True)))
        assert answer.predicted_reservations == expected.predicted_reservations[number], row
        assert answer.low == expected.low[number], row
        assert answer.high == expected.high[number], row


def chain(feature: int, thresholds: list[float]) -> Tree:
    """Return a tree that cuts one feature at each of these thresholds."""
    num_inner = len(thresholds)
    leaves = range(num_inner, 2 * num_inner + 1)
    return Tree(
        left=(*leaves[:num_inner], *[LEAF] * (num_inner + 1)),
        right=(*range(1, num_inner), leaves[-1], *[LEAF] * (num_inner + 1)),
        feature=(feature,) * (2 * num_inner + 1),
        threshold=(*thresholds, *[float(i) for i in range(num_inner + 1)]),
        cover=(1.0,) * (2 * num_inner + 1),
    )


@pytest.mark.parametrize(("value", "leaf"), [(-1.0, 0.0), (0.0, 1.0), (0.5, 1.0), (1.0, 2.0), (9.0, 2.0)])
def test_a_threshold_belongs_to_the_interval_above_it(value: float, leaf: float) -> None:
    table = ForestTable.of([Ensemble(base=10.0, trees=(chain(1, [0.0, 1.0]),))], 2)
    assert table is not None
    assert table.mean([7.0, value]) == 10.0 + leaf


def test_a_forest_with_too_many_answers_has_no_table() -> None:
    cuts = [float(cut) for cut in range(int(MAX_CELLS**0.5) + 1)]
    assert ForestTable.of([Ensemble(base=0.0, trees=(chain(0, cuts), chain(1, cuts)))], 2) is None
