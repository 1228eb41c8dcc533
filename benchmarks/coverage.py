"""How many outcomes the ranges hold in each price segment: `python -m benchmarks.coverage [--fleets N]`.

A segment of a real fleet has few vehicles, so its coverage is mostly chance.  The mean over generated fleets
of 1,000, each with 20,000 vehicles that no model saw, tells what is not.
"""

import argparse
import sys

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from benchmarks.gate import generated
from benchmarks.quality import COVERAGE, FLEET, fit_ours
from tests.snapshots import read_fleet
from vroom_model.dataset import Dataset, load_dataset
from vroom_model.evaluation.interval import out_of_fold_ranges
from vroom_model.folds import out_of_fold
from vroom_model.segments import SEGMENTS
from vroom_model.serving.predictor import Forecasts
from vroom_model.training.boosting import TrainingParams, fit_folds, predict_by_fold

ALLOWED = (0.77, 0.83)
NUM_UNSEEN = 20_000
UNSEEN_SEED = 10_000
CONFIDENCE = 0.95
HEAD = f"{'':45}{'held':>9}{'SE':>7}{'width':>8}"


def main() -> int:
    """Print both tables, and fail if a segment is outside of what is allowed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--fleets", type=int, default=20, help="generated fleets")
    parser.add_argument("--first-seed", type=int, default=0, help="of the first fleet")
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.fleets)
    is_outside = print_generated(np.array([unseen_figures(seed) for seed in seeds]))
    if FLEET.exists():
        is_outside |= print_real(load_dataset(read_fleet(FLEET)))
    return int(is_outside)


def unseen_figures(seed: int) -> list[tuple[float, float]]:
    """Return coverage and width on vehicles that a fleet's model never saw: of all, then by segment."""
    with generated(seed=seed) as fleet, generated(seed=UNSEEN_SEED + seed, vehicles=NUM_UNSEEN) as others:
        unseen = load_dataset(others)
        model = fit_ours(load_dataset(fleet), lambda _: TrainingParams(), seed=0)
        return figures(model(unseen.features), unseen)


def figures(forecasts: Forecasts, dataset: Dataset) -> list[tuple[float, float]]:
    """Return coverage and mean width of all vehicles, then of each segment."""
    held = (forecasts.low <= dataset.labels) & (dataset.labels <= forecasts.high)
    width = forecasts.high - forecasts.low
    parts = [np.full(len(held), fill_value=True), *(dataset.segments == n for n in range(len(SEGMENTS)))]
    return [(float(held[rows].mean()), float(width[rows].mean())) for rows in parts]


def print_generated(seen: npt.NDArray[np.float64]) -> bool:
    """Print means over fleets; return whether a segment's is outside of what is allowed."""
    means, errors = seen.mean(axis=0), seen.std(axis=0, ddof=1) / np.sqrt(len(seen))
    print(f"{len(seen)} generated fleets of 1,000, {NUM_UNSEEN:,} unseen vehicles each\n{HEAD}")
    for name, (held, width), (error, _) in zip(("all", *SEGMENTS), means, errors, strict=True):
        print(f"{name:45}{held:9.2%}{error:7.2%}{width:8.2f}")
    held = means[1:, 0]
    return bool((held < ALLOWED[0]).any() or (held > ALLOWED[1]).any())


def print_real(dataset: Dataset) -> bool:
    """Print the out-of-fold coverage of each segment; return whether one is outside its band.

    The bands are exact and hold together: with ranges that hold 80 % in each segment, all of them are inside
    in 95 % of fleets.
    """
    boosters = fit_folds(dataset, TrainingParams(), seed=0)
    raw = out_of_fold(predict_by_fold(boosters, dataset.features), dataset.folds)
    ranges = out_of_fold_ranges(raw, dataset, coverage=COVERAGE)
    whole, *parts = figures(ranges, dataset)
    print(
        f"\n{len(dataset)} vehicles of the real fleet, out of fold; {CONFIDENCE:.0%} familywise bands\n{HEAD}"
    )
    print(f"{'all':45}{whole[0]:9.2%}{'':7}{whole[1]:8.2f}")
    tail = (1 - CONFIDENCE) / len(SEGMENTS) / 2
    is_outside = False
    for number, (name, (held, width)) in enumerate(zip(SEGMENTS, parts, strict=True)):
        num_rows = int((dataset.segments == number).sum())
        low, high = (binom.ppf(level, num_rows, COVERAGE) / num_rows for level in (tail, 1 - tail))
        error = np.sqrt(COVERAGE * (1 - COVERAGE) / num_rows)
        print(f"{name:45}{held:9.2%}{error:7.2%}{width:8.2f}   {num_rows} vehicles, {low:.1%} to {high:.1%}")
        is_outside |= not low <= held <= high
    return is_outside


if __name__ == "__main__":
    sys.exit(main())
