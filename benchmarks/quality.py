"""How good the forecasts and their ranges are: `python -m benchmarks.quality [--data FOLDER] [--repeats N]`.

Repeated, shuffled 5-fold cross-validation on a fleet: every model is fitted on four fifths, tuning and choice
of features included, and scored on the fifth it never saw.
"""

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import PoissonRegressor
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.tuning import tune
from tests.snapshots import SAMPLE, read_fleet
from vroom_features.view import VEHICLE_VIEW
from vroom_model.dataset import Dataset, load_dataset
from vroom_model.evaluation.interval import fit_lines
from vroom_model.folds import out_of_fold
from vroom_model.segments import SEGMENTS
from vroom_model.serving.predictor import Forecasts, with_range
from vroom_model.training.boosting import TrainingParams, fit_folds, predict_by_fold

Array = npt.NDArray[np.float64]
FLEET = Path(os.environ.get("VROOM_REAL_DATA", Path(__file__).parents[2] / "shared" / "data" / "fleet"))
COVERAGE = 0.8
NUM_PRICES = 61
Model = Callable[[npt.NDArray[np.float32]], Forecasts]


@dataclass
class Ranges:
    """Which outcomes a repeat's ranges held, how wide they were, and whether any rises with the price."""

    held: list[npt.NDArray[np.bool_]] = field(default_factory=list)
    width: list[Array] = field(default_factory=list)
    monotone: list[npt.NDArray[np.bool_]] = field(default_factory=list)


def main() -> None:
    """Print a table of models, and one of ranges."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=FLEET, help="folder with the two CSV files")
    parser.add_argument("--repeats", type=int, default=10, help="of the 5-fold cross-validation")
    parser.add_argument("--no-tuning", action="store_true", help="leave out the tuned model, the slowest")
    options = parser.parse_args()
    folder = options.data
    if not folder.exists():
        print(f"{folder} is missing; measuring on the generated sample instead")
        folder = SAMPLE
    dataset = load_dataset(read_fleet(folder))
    print(f"{len(dataset)} vehicles, {options.repeats} repeats of 5-fold cross-validation\n")
    models: dict[str, Callable[[Dataset, Array], Array]] = {
        "median": lambda seen, x: np.full(len(x), np.median(seen.labels)),
        "mean": lambda seen, x: np.full(len(x), seen.labels.mean()),
        "linear Poisson": fit_poisson,
        "random forest (200 trees, depth 10)": fit_forest,
    }
    errors = {name: repeated(dataset, model, options.repeats) for name, model in models.items()}
    ranges = Ranges()
    errors["ours"] = repeated_ours(dataset, options.repeats, lambda _: TrainingParams(), ranges)
    if not options.no_tuning:
        errors["ours, tuned inside"] = repeated_ours(dataset, options.repeats, tune, Ranges())
    print_errors(errors)
    print_ranges(dataset, ranges)


def repeated(dataset: Dataset, model: Callable[[Dataset, Array], Array], repeats: int) -> Array:
    """Return each vehicle's absolute error in each repeat, of shape (repeats, n_vehicles)."""
    errors = np.empty((repeats, len(dataset)))
    for repeat in range(repeats):
        for seen, unseen in splits(dataset, repeat):
            forecast = model(dataset.take(seen), dataset.features[unseen])
            errors[repeat, unseen] = np.abs(forecast - dataset.labels[unseen])
    return errors


def repeated_ours(
    dataset: Dataset, repeats: int, choose: Callable[[Dataset], TrainingParams], ranges: Ranges
) -> Array:
    """Return the same for our model as it is served, and note its ranges."""
    errors = np.empty((repeats, len(dataset)))
    for repeat in range(repeats):
        held, width = np.empty(len(dataset), dtype=bool), np.empty(len(dataset))
        monotone = np.empty(len(dataset), dtype=bool)
        for seen, unseen in splits(dataset, repeat):
            model = fit_ours(dataset.take(seen), choose, seed=repeat)
            forecasts = model(dataset.features[unseen])
            monotone[unseen] = falls_with_price(model, dataset.features[unseen])
            labels = dataset.labels[unseen]
            errors[repeat, unseen] = np.abs(forecasts.predicted_reservations - labels)
            held[unseen] = (forecasts.low <= labels) & (labels <= forecasts.high)
            width[unseen] = forecasts.high - forecasts.low
        ranges.held.append(held)
        ranges.width.append(width)
        ranges.monotone.append(monotone)
    return errors


def falls_with_price(model: Model, features: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Return for which vehicles neither forecast nor range ever rises as the price does."""
    steps = np.linspace(-100, 200, NUM_PRICES)
    moved = np.repeat(features[:, None, :], NUM_PRICES, axis=1)
    moved[:, :, VEHICLE_VIEW.columns.index("price_diff")] = steps
    forecasts = model(moved.reshape(-1, features.shape[1]))
    curves = np.stack([forecasts.predicted_reservations, forecasts.low, forecasts.high])
    falls: npt.NDArray[np.bool_] = (np.diff(curves.reshape(3, -1, NUM_PRICES), axis=2) <= 1e-9).all((0, 2))
    return falls


def fit_ours(seen: Dataset, choose: Callable[[Dataset], TrainingParams], *, seed: int) -> Model:
    """Fit the boosters and the range on vehicles seen; return what answers as a request is answered."""
    params = choose(seen)
    boosters = fit_folds(seen, params, seed=seed)
    raw = out_of_fold(predict_by_fold(boosters, seen.features), seen.folds)
    lines = fit_lines(np.maximum(raw, 0.0), seen.labels, coverage=COVERAGE)
    return lambda features: with_range(predict_by_fold(boosters, features).mean(axis=1), lines)


def fit_poisson(seen: Dataset, features: Array) -> Array:
    """Forecast by a linear Poisson model on scaled features."""
    model = make_pipeline(StandardScaler(), PoissonRegressor(alpha=1e-4))
    forecast: Array = model.fit(seen.features, seen.labels).predict(features)
    return forecast


def fit_forest(seen: Dataset, features: Array) -> Array:
    """Forecast by the random forest of a public system that does the same job."""
    model = RandomForestRegressor(n_estimators=200, max_depth=10, random_state=0)
    forecast: Array = model.fit(seen.features, seen.labels).predict(features)
    return forecast


def splits(dataset: Dataset, repeat: int) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Return five pairs of rows seen and unseen."""
    return list(KFold(5, shuffle=True, random_state=repeat).split(dataset.features))


def print_errors(errors: dict[str, Array]) -> None:
    """Print each model's error, and how far it is from ours, vehicle by vehicle."""
    ours = errors["ours"].mean(axis=0)
    print(f"{'model':38}{'MAE':>8}{'SE':>8}{'SD of repeats':>15}{'above ours':>12}{'SE':>8}")
    for name, table in errors.items():
        extra = table.mean(axis=0) - ours
        whole, paired = (standard_error(table.mean(axis=0)), standard_error(extra))
        spread = table.mean(axis=1).std()
        print(f"{name:38}{table.mean():8.3f}{whole:8.3f}{spread:15.3f}{extra.mean():12.3f}{paired:8.3f}")


def standard_error(values: Array) -> float:
    """Return the standard error of a mean over vehicles."""
    return float(values.std() / np.sqrt(len(values)))


def print_ranges(dataset: Dataset, ranges: Ranges) -> None:
    """Print how many outcomes the ranges held, on the whole and by price segment."""
    held, width = np.array(ranges.held), np.array(ranges.width)
    print(f"\n{f'{COVERAGE:.0%} range':48}{'vehicles':>9}{'held':>8}{'width':>8}")
    print(f"{'all':48}{len(dataset):9}{held.mean():8.1%}{width.mean():8.1f}")
    for number, name in enumerate(SEGMENTS):
        rows = dataset.segments == number
        print(f"{name:48}{rows.sum():9}{held[:, rows].mean():8.1%}{width[:, rows].mean():8.1f}")
    monotone = np.array(ranges.monotone).mean()
    print(f"\nforecast and range never rise with the price: {monotone:.1%} of vehicles")


if __name__ == "__main__":
    sys.exit(main())
