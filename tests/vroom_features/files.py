"""CSV files for tests."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from tests.factories import VEHICLE
from vroom_features.vehicle import COLUMNS

HEADERS = {"vehicles": ",".join(["vehicle_id", *COLUMNS]), "reservations": "vehicle_id,created_at"}


def vehicle_line(vehicle_id: object, actual_price: object = "45.5", **changes: object) -> str:
    row = VEHICLE | {"num_images": 3, "actual_price": actual_price} | changes
    return ",".join(map(str, [vehicle_id, *(row[name] for name in COLUMNS)]))


def write_csvs(
    folder: Path,
    vehicles: Iterable[str] = (vehicle_line(1), vehicle_line(2)),
    reservations: Iterable[str] = ("1,2023-01-01 10:00:00", "1,2023-01-02 10:00:00"),
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for (name, header), lines in zip(HEADERS.items(), (vehicles, reservations), strict=True):
        (folder / f"{name}.csv").write_text("\n".join([header, *lines]) + "\n")
    return folder


def booking_lines(bookings: Sequence[tuple[int, int]]) -> list[str]:
    """Turn pairs of vehicle and day into lines."""
    first = datetime(2023, 1, 1)
    return [f"{vehicle_id},{first + timedelta(days=day)}" for vehicle_id, day in bookings]
