"""Where a model errs, out of fold: small tables for charts, kept in the manifest."""

import numpy as np
import numpy.typing as npt

from vroom_model.dataset import Dataset
from vroom_model.manifest import Diagnostics, Histogram, ResidualBin
from vroom_model.serving.predictor import Forecasts

Array = npt.NDArray[np.float64]
NUM_BINS = 10
NUM_ERROR_BINS = 20


def diagnostics(forecasts: Forecasts, dataset: Dataset) -> Diagnostics:
    """Return residuals (forecast less outcome) by forecast and by each input, and their histogram."""
    forecast = forecasts.predicted_reservations
    residuals = forecast - dataset.labels
    is_held = (dataset.labels >= forecasts.low) & (dataset.labels <= forecasts.high)
    by = {"forecast": forecast}
    by |= {name: dataset.features[:, i].astype(np.float64) for i, name in enumerate(dataset.inputs)}
    limit = np.ceil(np.quantile(np.abs(residuals), 0.99))
    return Diagnostics(
        residuals={name: _residual_bins(values, residuals, is_held) for name, values in by.items()},
        errors=Histogram.of(residuals, np.linspace(-limit, limit, NUM_ERROR_BINS + 1)),
    )


def _residual_bins(
    values: Array, residuals: Array, is_held: npt.NDArray[np.bool_]
) -> tuple[ResidualBin, ...]:
    """Return the residuals of vehicles with similar values: tenths, fewer where values repeat."""
    bins = np.searchsorted(decile_edges(values), values)
    groups = (bins == number for number in np.unique(bins))
    return tuple(
        ResidualBin(
            value=float(values[rows].mean()),
            residual=float(residuals[rows].mean()),
            standard_error=float(residuals[rows].std() / np.sqrt(rows.sum())),
            coverage=float(is_held[rows].mean()),
            num_rows=int(rows.sum()),
        )
        for rows in groups
    )


def decile_edges(values: Array) -> Array:
    """Return the distinct deciles of values; value ``v`` is in bin ``searchsorted(edges, v)``.

    If all are one value, it has an edge just below it, too: otherwise its bin would have all smaller values.
    """
    edges = np.unique(np.quantile(values, np.linspace(0, 1, NUM_BINS + 1)[1:-1], method="inverted_cdf"))
    return edges if len(edges) > 1 else np.array([np.nextafter(edges[0], -np.inf), edges[0]])
