"""The fleet's forecasts: out of fold beside outcomes, and cached for charts and ranks."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from flask import Flask

from tests.factories import make_vehicle
from tests.snapshots import SAMPLE
from tests.vroom_features.files import vehicle_line, write_csvs
from tests.webapp.conftest import OPERATOR, Models, Visitor, running_app
from tests.webapp.registry import snapshot_ref
from vroom_features.addresses import ServiceAddress
from vroom_features.database.history import withdraw_vehicle
from vroom_features.ingest.seed import seed
from vroom_features.settings import Settings
from vroom_features.watch import Watch
from vroom_model.folds import fold_of
from webapp.services import Services, now
from webapp.serving.current_model import LoadedModel
from webapp.serving.fleet_overview import FleetOverview


@pytest.fixture
def app(settings: Settings, redis_url: str, tmp_path: Path) -> Iterator[Flask]:
    """Return an app that has no vehicle yet."""
    with running_app(settings, home=tmp_path / "home", redis_url=ServiceAddress(redis_url)) as client:
        yield client.application


@pytest.fixture
def served(services: Services) -> LoadedModel:
    seed(services.source, SAMPLE)
    return services.slot.current


def test_forecasts_are_cached_until_a_vehicle_or_the_model_changes(
    served: LoadedModel, services: Services, models: Models
) -> None:
    eager, patient = (FleetOverview(services.source, refresh_interval_s=each) for each in (0, 1_000))
    first, second = eager.predictions(served), patient.predictions(served)
    assert len(first.forecast) == 1_000
    assert eager.predictions(served) is first
    services.source.save_vehicle(make_vehicle(), saved_at=now())
    assert eager.predictions(served) is not first
    assert patient.predictions(served) is second
    assert set(second.forecast) == {5.0}
    models.crown(models.register(7.0))
    services.listener.refresh()
    assert set(patient.predictions(services.slot.current).forecast) == {7.0}


def test_an_empty_fleet_has_no_forecasts(client: Visitor, services: Services) -> None:
    assert services.fleet.percentile(services.slot.current, 5.0) is None
    assert services.fleet.groups(services.slot.current) == []
    assert client.get("/fleet/points").json == {"forecast": [], "outcome": [], "vehicle_id": []}
    assert "The fleet is empty" in client.get("/fleet").text


FOLDS = (4.0, 5.0, 6.5, 7.0, 8.0)
"""What the boosters answer; their mean is that of no booster."""
MEAN = sum(FOLDS) / len(FOLDS)
OF_MODEL = Watch(10, date(2023, 1, 10))


def at(day: int) -> datetime:
    """Return a moment of January 2023, or before or after it."""
    return datetime(2023, 1, 1, 12, tzinfo=UTC) + timedelta(days=day - 1)


@dataclass(frozen=True)
class Fleet:
    """A fleet that went on for five days after the model's watch.

    ``learned`` was trained on, ``matured`` is over since, ``waiting`` and the csv vehicle 21 are under watch.
    """

    learned: int
    matured: int
    waiting: int

    def forecasts(self, *, of_old_model: bool = False) -> dict[int, float]:
        ids = [*range(1, 22), self.learned]
        unseen = {each: FOLDS[fold] for each, fold in zip(ids, fold_of(ids, len(FOLDS)), strict=True)}
        learned = {self.learned: MEAN} if of_old_model else {}
        return unseen | learned | {self.matured: MEAN, self.waiting: MEAN}


@pytest.fixture
def fleet(services: Services, tmp_path: Path) -> Fleet:
    def seed_days(ids: range, bookings: list[tuple[int, int]]) -> None:
        lines = [f"{vehicle_id},{at(day)}" for vehicle_id, day in bookings]
        seed(services.source, write_csvs(tmp_path / "csv", map(vehicle_line, ids), lines))

    first = [(1, 1), (1, 10)]
    seed_days(range(1, 21), first)
    saved = (services.source.save_vehicle(make_vehicle(), saved_at=at(day)) for day in (-7, 3, 12))
    found = Fleet(*(each.vehicle.vehicle_id for each in saved))
    booked = [(found.learned, -6), (found.matured, 4), (found.matured, 14), (found.waiting, 13)]
    seed_days(range(1, 22), [*first, *booked, (1, 15), (21, 12)])
    return found


def serve(services: Services, models: Models, watch: Watch | None) -> None:
    models.crown(models.register(MEAN, folds=FOLDS, snapshot=snapshot_ref(watch)))
    services.listener.refresh()


def listed(client: Visitor) -> list[dict[str, str]]:
    return list(csv.DictReader(client.get("/fleet.csv").text.splitlines()))


@pytest.mark.parametrize("watch", [OF_MODEL, None])
def test_no_forecast_beside_an_outcome_is_by_a_booster_that_learned_from_it(
    client: Visitor, services: Services, models: Models, fleet: Fleet, watch: Watch | None
) -> None:
    serve(services, models, watch)
    expected = fleet.forecasts(of_old_model=watch is None)
    assert {int(r["vehicle_id"]): float(r["predicted_reservations"]) for r in listed(client)} == expected
    cells = r'/fleet/(\d+)">\d+</a></th>\s*<td[^>]*><strong>\d+<.+>\s*<td[^>]*>([\d.]+)<'
    shown = re.findall(cells, client.get("/fleet").text)
    assert {int(vehicle_id): float(forecast) for vehicle_id, forecast in shown} == expected
    points = client.get("/fleet/points").json
    dots = dict(zip(points["vehicle_id"], points["forecast"], strict=True))
    assert dots == {i: forecast for i, forecast in expected.items() if i not in (21, fleet.waiting)}
    groups = services.fleet.groups(services.slot.current)
    assert [group.low for group in groups] == sorted(group.low for group in groups)
    total = sum(group.num_vehicles * group.mean_forecast for group in groups)
    assert total == pytest.approx(sum(dots.values()))


def test_a_vehicle_under_watch_is_shown_as_such_and_left_out_of_the_chart(
    client: Visitor, services: Services, models: Models, fleet: Fleet
) -> None:
    withdraw_vehicle(services.source, fleet.waiting, withdrawn_at=at(14))
    serve(services, models, OF_MODEL)
    names = ("num_reservations", "training_label", "days_watched", "num_in_watch", "predicted_so_far")
    rows = {int(row["vehicle_id"]): [row[name] for name in names] for row in listed(client)}
    assert rows[1] == ["3", "2", "10", "2", ""]  # the booking of the first day is before the watch
    assert rows[fleet.matured] == ["2", "1", "10", "1", ""]  # that of the 14th is after it
    assert rows[fleet.waiting] == ["1", "", "3", "1", f"{MEAN * 3 / 10:.2f}"]
    assert rows[21][1:4] == ["", "5", "1"]
    assert {row["watch_days"] for row in listed(client)} == {row["forecast_days"] for row in listed(client)}
    shown = client.get("/fleet").text
    assert shown.count(">under watch<") == 2
    assert shown.count(">withdrawn<") == 1
    assert f"1 in 3 of 10 days; {MEAN * 3 / 10:.1f} forecast for these" in shown
    assert "22 cars of the fleet; 2 cars under watch left out, the next until 2023-01-20." in shown
    points = client.get("/fleet/points").json
    outcomes = dict(zip(points["vehicle_id"], points["outcome"], strict=True))
    assert (outcomes[1], outcomes[fleet.matured]) == (2, 1)
    document = client.get("/vehicles?kind=fleet&sort=watch_start&descending=true").json
    assert document["watch"] == {"days": 10, "first_day": "2023-01-06", "last_day": "2023-01-15"}
    found = document["vehicles"][0]
    assert (found["vehicle_id"], found["status"]) == (fleet.waiting, "fleet")
    assert (found["is_watch_over"], found["days_watched"]) == (False, 3)
    assert found["withdrawn_at"] == "2023-01-14T12:00:00Z"
    assert client.get("/model").json["watch"]["last_day"] == "2023-01-10"
    gone = services.source.save_vehicle(make_vehicle(), saved_at=at(14)).vehicle.vehicle_id
    withdraw_vehicle(services.source, gone, withdrawn_at=at(15))
    (found,) = client.get(f"/vehicles?search={gone}").json["vehicles"]
    assert (found["status"], found["withdrawn_at"]) == ("withdrawn", "2023-01-15T12:00:00Z")
    assert client.delete(f"/vehicles/{gone}", headers=OPERATOR).status_code == 204


def test_forecasts_and_outcomes_of_other_lengths_are_compared_by_days(
    client: Visitor, services: Services, models: Models, fleet: Fleet
) -> None:
    serve(services, models, Watch(20, date(2023, 1, 10)))
    points = client.get("/fleet/points").json
    assert dict(zip(points["vehicle_id"], points["outcome"], strict=True))[1] == 4  # 2 in 10 days
    rows = {int(row["vehicle_id"]): row for row in listed(client)}
    assert rows[fleet.waiting]["predicted_so_far"] == f"{MEAN * 3 / 20:.3f}"
    assert (rows[1]["forecast_days"], rows[1]["watch_days"]) == ("20", "10")
