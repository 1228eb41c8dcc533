"""A fleet that changes: the same CSV files with a few other prices and bookings for each number."""

import csv
from pathlib import Path

from flows.local.up import ROOT

NUM_CHANGED = 12


def change_fleet(folder: Path, number: int) -> None:
    """Write the fleet of a number: some prices differ, one vehicle and some bookings are more or fewer."""
    vehicles = _read("vehicles.csv")
    bookings = _read("reservations.csv")
    for place in range(NUM_CHANGED):
        row = vehicles[(number * 7 + place * 31) % len(vehicles)]
        row["actual_price"] = f"{float(row['actual_price']) + number % 5 + 0.25:.2f}"
    if number % 2:
        gone = vehicles.pop()["vehicle_id"]
        bookings = [row for row in bookings if row["vehicle_id"] != gone]
    bookings = bookings[: len(bookings) - number % 3]
    _write(folder / "vehicles.csv", vehicles)
    _write(folder / "reservations.csv", bookings)


def _read(name: str) -> list[dict[str, str]]:
    with (ROOT / "data" / name).open(newline="") as file:
        return list(csv.DictReader(file))


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
