"""Objects for tests: valid by default, changed by keyword."""

from typing import Any

from tests.promises.system import VEHICLE
from vroom_features.tables import VehicleCreate

__all__ = ["VEHICLE", "make_vehicle"]


def make_vehicle(**changes: Any) -> VehicleCreate:
    """Return a valid vehicle with these fields changed."""
    return VehicleCreate.model_validate(VEHICLE | changes)
