"""Promise 11: nothing learns from a watch that is not over."""

import json
from datetime import UTC, datetime, timedelta

from tests.promises.conftest import read_rows, write_rows
from tests.promises.system import VEHICLE, System, wait_until

NUM_CARS = 300
UNDER_WATCH = f"{NUM_CARS} vehicles under watch left out"


def forecasts(system: System) -> list[float]:
    cars = [
        VEHICLE | {"num_images": photos, "actual_price": price} for photos in (1, 4) for price in (45, 70)
    ]
    answer = system.post("/predict/batch", cars).raise_for_status().json()
    return [each["predicted_reservations"] for each in answer["predictions"]]


def test_cars_booked_in_their_first_day_teach_nothing(system: System) -> None:
    """The same cars as the fleet's, booked as often, but for a day instead of a year."""
    before, fleet = forecasts(system), read_rows(system.data_dir / "vehicles.csv")[:NUM_CARS]
    cars = [{name: json.loads(row[name]) for name in VEHICLE} for row in fleet]
    ids = [system.save(**car) for car in cars]
    first = datetime.now(UTC)
    moments = [first + timedelta(hours=hours) for hours in (3, 17)]
    early = [{"vehicle_id": i, "created_at": f"{at:%Y-%m-%d %H:%M:%S}"} for i in ids for at in moments]
    bookings = system.data_dir / "reservations.csv"
    write_rows(bookings, read_rows(bookings) + early)
    assert f"{NUM_CARS} of them under watch" in system.run("vroom_forecast_materialize")
    for flow in ("training", "pipeline", "monitor"):
        assert UNDER_WATCH in system.run(f"vroom_forecast_{flow}")
    wait_until(lambda: system.serves(system.champion()))
    after = forecasts(system)
    assert all(abs(new / old - 1) < 0.02 for old, new in zip(before, after, strict=True)), (before, after)
