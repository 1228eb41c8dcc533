"""Ranges of a vehicle's fields, for table, form and CSV contract; limits of a seed; the schema's version."""

PRICE_MAX = 10_000_000.0
NUM_IMAGES_MAX = 1_000
DESCRIPTION_MAX = 100_000
UI_VEHICLE_ID_START = 1_000_000_001
"""Ids of vehicles typed in begin here, so far above those of CSV files that a growing CSV meets none."""
MAX_BAD_SHARE = 0.01
"""A file with a larger share of bad rows is refused whole."""
MAX_REMOVED_VEHICLE_SHARE = 0.05
"""A seed that would remove a larger share of the CSV vehicles in the database is refused."""
MAX_REMOVED_RESERVATION_SHARE = 0.10
"""A seed that would remove a larger share of the reservations in the database is refused."""
SCHEMA_VERSION = 4
"""Kept in the database: an older one is upgraded when it is opened (``migrations``), a newer one refused."""
