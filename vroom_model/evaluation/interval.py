"""Ranges: conformalized quantile regression on the out-of-fold forecast.

The spread of reservations grows with their expected number, so both ends of the range are straight lines
over the forecast.  The lines are quantile regressions; the conformal step shifts both, so that the range
covers the wanted share of vehicles that the forecasting booster never saw.
"""

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

from vroom_model.dataset import Dataset
from vroom_model.manifest import IntervalLines
from vroom_model.serving.predictor import Forecasts, with_range

Array = npt.NDArray[np.float64]
SHARE_BELOW = 0.425
"""Of the outcomes outside the range, the share that is meant to be below it.  Reservations end at 0 and have
their long tail above: half would make ranges wider, and their coverage differ more between segments."""


def fit_lines(forecast: Array, labels: Array, *, coverage: float) -> IntervalLines:
    """Fit and calibrate the lines to out-of-fold forecasts and outcomes, with slopes of at least 0.

    Parameters
    ----------
    forecast, labels : ndarray of shape (n_vehicles,)
    coverage : float
        Share of outcomes inside the range, such as 0.8.
    """
    below = (1 - coverage) * SHARE_BELOW
    low_intercept, low_slope = _quantile_line(forecast, labels, below)
    high_intercept, high_slope = _quantile_line(forecast, labels, below + coverage)
    outside = np.maximum(
        low_intercept + low_slope * forecast - labels, labels - high_intercept - high_slope * forecast
    )
    rank = min(1.0, coverage * (1 + 1 / len(labels)))
    shift = float(np.quantile(outside, rank, method="inverted_cdf"))
    return IntervalLines(
        coverage=coverage,
        low_intercept=low_intercept - shift,
        low_slope=low_slope,
        high_intercept=high_intercept + shift,
        high_slope=high_slope,
    )


def out_of_fold_ranges(raw: Array, dataset: Dataset, *, coverage: float) -> Forecasts:
    """Return out-of-fold forecasts with ranges; the lines of each fold are fitted on the other folds."""
    forecast, low, high = (np.empty(len(dataset)) for _ in range(3))
    clipped = np.maximum(raw, 0.0)
    for fold in np.unique(dataset.folds):
        rows = dataset.folds == fold
        part = with_range(raw[rows], fit_lines(clipped[~rows], dataset.labels[~rows], coverage=coverage))
        forecast[rows], low[rows], high[rows] = part.predicted_reservations, part.low, part.high
    return Forecasts(forecast, low, high, coverage)


def _quantile_line(x: Array, y: Array, quantile: float) -> tuple[float, float]:
    """Return intercept and slope >= 0 of the line with the least pinball loss.

    For a given slope the best intercept is a quantile of the residuals, and the loss that remains is convex
    in the slope, so a bounded search in one dimension finds it.
    """

    def intercept(slope: float) -> float:
        return float(np.quantile(y - slope * x, quantile))

    def loss(slope: float) -> float:
        rest = y - slope * x - intercept(slope)
        return float(np.mean(np.maximum(quantile * rest, (quantile - 1) * rest)))

    spread = float(np.std(x))
    if spread == 0:
        return intercept(0.0), 0.0
    steepest = 5 * float(np.std(y)) / spread
    slope = float(minimize_scalar(loss, bounds=(0.0, steepest), method="bounded").x)
    return intercept(slope), slope
