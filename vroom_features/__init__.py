"""Features of car-sharing vehicles: pure functions, and the stores they are written to.

Importing this package brings the functions and the feature view alone; stores, tables and ingestion are
modules to import by name.
"""

from vroom_features.errors import VroomFeaturesError
from vroom_features.features import num_reservations, price_diff, training_label
from vroom_features.view import VEHICLE_VIEW, Feature, FeatureView

__all__ = [
    "VEHICLE_VIEW",
    "Feature",
    "FeatureView",
    "VroomFeaturesError",
    "num_reservations",
    "price_diff",
    "training_label",
]
