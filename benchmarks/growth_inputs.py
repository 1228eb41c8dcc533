"""What N inputs cost: `python -m benchmarks.growth_inputs N`, which `benchmarks.growth` runs, prints JSON.

The feature view gets features, each of which counts, until it has N of them.  That is done before any other
module reads it, so each number of inputs needs a process of its own.
"""

import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import xgboost as xgb

from vroom_features import view

NUM_VEHICLES, NUM_TRAININGS, NUM_ROWS = 4_000, 3, 300


def mixed(number: int, description: view.Column, actual_price: view.Column) -> view.Column:
    """Return a number that no other feature tells."""
    return (description * (number + 3) + actual_price * 7) % 23


num_inputs = int(sys.argv[1])
given = view.VEHICLE_VIEW.features
added = [
    view.Feature(f"mixed_{number}", partial(mixed, number), ("description", "actual_price"))
    for number in range(num_inputs - len(given))
]
view.VEHICLE_VIEW = replace(view.VEHICLE_VIEW, features=(*given, *added))

from vroom_features.vehicle import EXAMPLE  # noqa: E402 - with those below, it reads the view when imported
from vroom_model.manifest import fold_file  # noqa: E402
from vroom_model.serving.explain import Explainer  # noqa: E402
from vroom_model.serving.predictor import Predictor  # noqa: E402
from vroom_model.training.train import train  # noqa: E402


def make_fleet() -> pd.DataFrame:
    """Make up vehicles that are booked more with each feature, and less with the price."""
    rng = np.random.default_rng(0)
    market = rng.integers(35, 91, NUM_VEHICLES)
    fleet = pd.DataFrame(
        dict(EXAMPLE)
        | {
            "vehicle_id": np.arange(1, NUM_VEHICLES + 1),
            "technology": rng.integers(0, 2, NUM_VEHICLES),
            "actual_price": np.round(market * rng.uniform(0.8, 2.0, NUM_VEHICLES), 2),
            "recommended_price": market.astype(float),
            "num_images": rng.integers(1, 6, NUM_VEHICLES),
            "street_parked": rng.integers(0, 2, NUM_VEHICLES),
            "description": rng.integers(1, 251, NUM_VEHICLES),
            "num_reservations": 0,
        }
    )
    features = view.VEHICLE_VIEW.transform(fleet)
    scaled = (features - features.mean()) / features.std() * np.where(features.columns == "price_diff", -1, 1)
    return fleet.assign(training_label=np.maximum(20 + 2 * scaled.sum(axis=1), 0).round())


def median_s(work: Callable[[int], object], times: int) -> float:
    """Return the median time of some work that is done for each number."""
    seen = []
    for number in range(times):
        began = time.perf_counter()
        work(number)
        seen.append(time.perf_counter() - began)
    return statistics.median(seen)


def main() -> None:
    """Train, forecast and explain, and print what that took."""
    fleet = make_fleet()
    cars = fleet.head(NUM_ROWS).to_dict("records")
    rows = view.VEHICLE_VIEW.transform(fleet.head(NUM_ROWS)).to_numpy(np.float32)
    with tempfile.TemporaryDirectory(prefix="vroom-benchmark-") as name:
        folder, as_of = Path(name), datetime(2026, 1, 1, tzinfo=UTC)
        training_s = median_s(
            lambda seed: train(fleet, directory=folder, as_of=as_of, seed=seed), NUM_TRAININGS
        )
        predictor, explainer = Predictor.load(folder, version=1), Explainer.load(folder)
        folds = range(predictor.manifest.num_folds)
        boosters = [xgb.Booster({"nthread": 1}, model_file=folder / fold_file(fold)) for fold in folds]

    def contributions_by_xgboost(row: int) -> None:
        matrix = xgb.DMatrix(rows[row : row + 1], nthread=1)
        np.mean([booster.predict(matrix, pred_contribs=True) for booster in boosters], axis=0)

    figures = {
        "training, s": training_s,
        "training, peak MiB of the process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "leaves of the model": sum(b.trees_to_dataframe().Feature.eq("Leaf").sum() for b in boosters),
        "forecast, us": median_s(lambda car: predictor.predict_one(cars[car]), NUM_ROWS) * 1e6,
        "reasons, us": median_s(lambda car: explainer.explain(cars[car]), NUM_ROWS) * 1e6,
        "reasons by XGBoost's pred_contribs, us": median_s(contributions_by_xgboost, NUM_ROWS) * 1e6,
    }
    print(json.dumps({name: float(figure) for name, figure in figures.items()}))


if __name__ == "__main__":
    main()
