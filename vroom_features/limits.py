"""Ranges of a vehicle's fields, shared by the table, the form and the CSV contract; the schema's version."""

PRICE_MAX = 10_000_000.0
NUM_IMAGES_MAX = 1_000
DESCRIPTION_MAX = 100_000
UI_VEHICLE_ID_START = 1_000_000_001
"""Ids of vehicles typed in begin here, so far above those of CSV files that a growing CSV meets none."""
SCHEMA_VERSION = 4
"""Kept in the database: an older one is upgraded when it is opened (``migrations``), a newer one refused."""
