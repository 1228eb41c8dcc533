"""What a model takes: finite numbers, checked here for forecasts, reasons and what-if curves alike."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from vroom_features.view import FeatureView
from vroom_model.errors import MissingValueError

MOST = float(np.finfo(np.float32).max)
"""Models take float32."""


def compute_features(view: FeatureView, vehicle: Mapping[str, float]) -> dict[str, float]:
    """Compute a vehicle's features; MissingColumnsError or MissingValueError if one is not there."""
    check_row(view.sources, vehicle)
    features = view.compute(vehicle)
    check_row(features, features)
    return features


def check_row(names: Iterable[str], row: Mapping[str, float]) -> None:
    """Raise MissingValueError that names the columns of a vehicle with a missing or infinite value."""
    for name in names:
        value = row.get(name, 0.0)  # a column that is not there is another error
        if value is None or not -MOST <= value <= MOST:
            check_columns({each: np.array([row[each]], dtype=np.float64) for each in names if each in row})


def check_columns(columns: Mapping[str, npt.NDArray[Any]]) -> None:
    """Raise MissingValueError that names the columns with a missing or infinite value."""
    broken = {}
    for name, column in columns.items():
        values = np.asarray(column, dtype=np.float64)
        if len(found := values[~(np.abs(values) <= MOST)]):
            broken[name] = float(found[0])
    if broken:
        raise MissingValueError(broken)
