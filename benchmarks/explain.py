"""What the reasons of one forecast cost, beside XGBoost's own ``pred_contribs`` in the same run.

``python -m benchmarks.explain``: models of 5, 12 and 50 inputs, trained as Vroom trains, explained one row at
a time as a forecast page does.
"""

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from vroom_model.serving.explain import TreeShap
from vroom_model.training.boosting import TrainingParams
from vroom_model.trees import Ensemble

NUM_TRAINED, NUM_EXPLAINED, NUM_TIMES = 4_000, 100, 5
Row = npt.NDArray[np.float32]


def main() -> None:
    """Print a table."""
    print("inputs  leaves  load ms  ours ms  pred_contribs ms  ratio  largest difference")
    for num_features in (5, 12, 50):
        rows, boosters = trained(num_features)
        start = time.perf_counter()
        shap = TreeShap([Ensemble.from_json(bytes(booster.save_raw("json"))) for booster in boosters])
        load_ms = (time.perf_counter() - start) * 1e3

        def theirs(row: Row, boosters: list[xgb.Booster] = boosters) -> Row:
            matrix = xgb.DMatrix(row[np.newaxis], nthread=1)
            return np.mean([booster.predict(matrix, pred_contribs=True)[0] for booster in boosters], axis=0)

        difference = max(np.abs(shap.contributions(row) - theirs(row)[:-1]).max() for row in rows)
        # In turns, so that a busy moment of the machine meets both.
        times = [(ms_a_row(shap.contributions, rows), ms_a_row(theirs, rows)) for _ in range(NUM_TIMES)]
        ours_ms, theirs_ms = np.median(times, axis=0)
        num_leaves = sum(booster.trees_to_dataframe().Feature.eq("Leaf").sum() for booster in boosters)
        print(
            f"{num_features:6}  {num_leaves:6}  {load_ms:7.0f}  {ours_ms:7.2f}  {theirs_ms:16.2f}  "
            f"{ours_ms / theirs_ms:5.2f}  {difference:.0e}"
        )


def trained(num_features: int) -> tuple[npt.NDArray[np.float32], list[xgb.Booster]]:
    """Return rows to explain, and one booster a fold on features that all count."""
    params = TrainingParams()
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(NUM_TRAINED, num_features)).astype(np.float32)
    labels = rows.sum(axis=1) + rows[:, 0] * rows[:, 1]
    matrix = xgb.DMatrix(rows, labels, nthread=1)
    settings = {
        "max_depth": params.max_depth,
        "eta": params.learning_rate,
        "min_child_weight": params.subsample * params.min_leaf_rows,
        "subsample": params.subsample,
        "nthread": 1,
    }
    boosters = [
        xgb.train(settings | {"seed": fold}, matrix, params.num_rounds) for fold in range(params.num_folds)
    ]
    return rows[:NUM_EXPLAINED], boosters


def ms_a_row(explain: Callable[[Row], object], rows: npt.NDArray[np.float32]) -> float:
    """Return the mean time of explaining one row."""
    start = time.perf_counter()
    for row in rows:
        explain(row)
    return (time.perf_counter() - start) * 1e3 / len(rows)


if __name__ == "__main__":
    main()
