"""Objects for tests: valid by default, changed by keyword."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.promises.system import VEHICLE
from vroom_features.vehicle import COLUMNS, RawColumn, VehicleCreate

__all__ = ["VEHICLE", "make_vehicle", "vehicles"]


def make_vehicle(**changes: Any) -> VehicleCreate:
    """Return a valid vehicle with these fields changed."""
    return VehicleCreate.model_validate(VEHICLE | changes)


def vehicles() -> SearchStrategy[dict[str, float]]:
    """Draw what a vehicle may be, by the names of its columns."""
    return st.fixed_dictionaries({name: values_of(column) for name, column in COLUMNS.items()})


def values_of(column: RawColumn) -> SearchStrategy[float]:
    """Draw what a column may hold."""
    if column.is_whole:
        return st.integers(int(column.low), int(column.high))
    return st.floats(column.low, column.high, exclude_min=column.is_low_excluded, allow_nan=False)
