"""Promise 5: every online row is the pure functions of its database row, or is absent."""

import os
import signal

import psutil

from tests.promises.conftest import read_rows, write_rows
from tests.promises.system import VEHICLE, Json, System, command_environment, features, wait_until
from vroom_features import VEHICLE_VIEW

RAW = tuple(VEHICLE)


def assert_in_step(system: System) -> None:
    """Compare what the online store holds with the database, as clients and as the command see it."""
    arrivals = system.new_arrivals()
    wait_until(lambda: system.get("/stores").json()["online_store"]["num_rows"] == len(arrivals))
    rows = {row[0]: row[1:] for row in system.sql(f"SELECT vehicle_id, {', '.join(RAW)} FROM vehicles")}
    for vehicle_id in arrivals:
        found: list[Json] = []

        def is_online(vehicle_id: int = vehicle_id, found: list[Json] = found) -> bool:
            found.append(system.get(f"/vehicles/{vehicle_id}/features").json())
            return found[-1]["source"] == "online_store"

        wait_until(is_online)
        assert found[-1]["features"] == VEHICLE_VIEW.compute(dict(zip(RAW, rows[vehicle_id], strict=True)))
    audited = features("audit", environment=command_environment(**system.environment))
    assert audited.returncode == 0, audited.stdout


def redis_process(system: System) -> psutil.Process:
    """Return the process of its Redis."""
    return psutil.Process(int(system.redis.info("server")["process_id"]))


def test_a_saved_vehicle_is_forecast_from_the_online_store_as_if_typed_in(system: System) -> None:
    vehicle_id = system.save()
    answer = system.post("/predict/id", {"vehicle_id": vehicle_id}).json()
    assert answer["source"] == "online_store"
    assert (answer["predicted_reservations"], answer["model_version"]) == system.forecast()
    assert_in_step(system)


def test_a_vehicle_that_is_deleted_leaves_the_store(system: System) -> None:
    vehicle_id = system.save()
    assert system.get(f"/vehicles/{vehicle_id}/features").json()["source"] == "online_store"
    assert system.delete(f"/vehicles/{vehicle_id}").status_code == 204
    assert system.get(f"/vehicles/{vehicle_id}/features").status_code == 404
    assert system.post("/predict/id", {"vehicle_id": vehicle_id}).status_code == 404
    assert_in_step(system)


def test_redis_hangs_and_saves_and_forecasts_go_on(system: System) -> None:
    stored = system.save()
    server = redis_process(system)
    server.suspend()
    try:
        saved = system.save(num_images=5)
        for vehicle_id in (stored, saved):
            answer = system.post("/predict/id", {"vehicle_id": vehicle_id}).raise_for_status().json()
            assert answer["source"] == "database"
        wait_until(lambda: system.health()["status"] == "degraded")
        assert system.forecast()
    finally:
        server.resume()
    wait_until(lambda: system.health()["status"] == "ok")
    assert_in_step(system)


def test_a_redis_that_comes_back_empty_is_filled_without_being_asked(system: System) -> None:
    system.save()
    os.kill(redis_process(system).pid, signal.SIGKILL)
    wait_until(lambda: system.health()["status"] == "ok" and system.redis.ping())
    assert_in_step(system)


def test_a_vehicle_saved_during_a_materialization_is_not_lost_and_a_booked_one_leaves(system: System) -> None:
    booked = system.save(num_images=2)
    bookings = system.data_dir / "reservations.csv"
    write_rows(
        bookings,
        [*read_rows(bookings), {"vehicle_id": str(booked), "created_at": "2023-12-30 12:00:00"}],
    )
    run = system.deploy_run("vroom_forecast_materialize")
    saved = []
    while not system.is_ended(run):
        saved.append(system.save(num_images=3))
    assert system.end_of(run)[0] == "COMPLETED"
    assert set(saved) <= system.new_arrivals()
    assert booked not in system.new_arrivals()
    assert system.get(f"/vehicles/{booked}/features").json()["source"] == "database"
    assert system.delete(f"/vehicles/{booked}").status_code == 409
    assert_in_step(system)
