"""Objects for tests: valid by default, changed by keyword."""

from typing import Any

from vroom_features.tables import VehicleCreate

VEHICLE: dict[str, Any] = {
    "technology": 1,
    "actual_price": 45.0,
    "recommended_price": 50.0,
    "num_images": 4,
    "street_parked": 0,
    "description": 120,
}


def make_vehicle(**changes: Any) -> VehicleCreate:
    """Return a valid vehicle with these fields changed."""
    return VehicleCreate.model_validate(VEHICLE | changes)
