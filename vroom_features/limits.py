"""Limits of a seed."""

MAX_BAD_SHARE = 0.01
"""A file with a larger share of bad rows is refused whole."""
MAX_REMOVED_VEHICLE_SHARE = 0.05
"""A seed that would remove a larger share of the CSV vehicles in the database is refused."""
MAX_REMOVED_RESERVATION_SHARE = 0.10
"""A seed that would remove a larger share of the reservations in the database is refused."""
