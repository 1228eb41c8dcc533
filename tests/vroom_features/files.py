"""CSV files for tests."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

VEHICLE_HEADER = "vehicle_id,technology,actual_price,recommended_price,num_images,street_parked,description"
RESERVATION_HEADER = "vehicle_id,created_at"


def vehicle_line(vehicle_id: object, price: object = "45.5", *, images: object = 3) -> str:
    return f"{vehicle_id},1,{price},50,{images},0,120"


def write_csvs(
    folder: Path,
    vehicles: Iterable[str] = (vehicle_line(1), vehicle_line(2)),
    reservations: Iterable[str] = ("1,2023-01-01 10:00:00", "1,2023-01-02 10:00:00"),
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in (
        ("vehicles", [VEHICLE_HEADER, *vehicles]),
        ("reservations", [RESERVATION_HEADER, *reservations]),
    ):
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return folder


def booking_lines(bookings: Sequence[tuple[int, int]]) -> list[str]:
    """Turn pairs of vehicle and day into lines."""
    first = datetime(2023, 1, 1)  # noqa: DTZ001 - the files hold times without a zone
    return [f"{vehicle_id},{first + timedelta(days=day)}" for vehicle_id, day in bookings]
