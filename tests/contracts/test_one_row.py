"""Offline, online and for a request: the same vehicle has the same features, bit for bit."""

import struct

import pytest
import redis as redis_py
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.factories import vehicles
from tests.vroom_features.files import vehicle_line, write_csvs
from tests.vroom_features.stores import arrive, fresh_stores, run
from vroom_features.ingest.seed import seed
from vroom_features.online.rows import online_row
from vroom_features.view import VEHICLE_VIEW


def bits(values: dict[str, float]) -> dict[str, bytes]:
    return {name: struct.pack("d", value) for name, value in values.items()}


@given(drawn=st.lists(vehicles(), min_size=1, max_size=5))
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_vehicle_typed_in_and_the_same_one_of_a_csv_have_the_same_features(
    tmp_path_factory: pytest.TempPathFactory, redis: redis_py.Redis, drawn: list[dict[str, float]]
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    lines = [vehicle_line(number, **vehicle) for number, vehicle in enumerate(drawn, 1)]
    with fresh_stores(folder, redis) as (source, offline, online):
        seed(source, write_csvs(folder / "csv", lines, []))
        typed_in = [arrive(source, **vehicle) for vehicle in drawn]
        run(source, offline, online)
        frame = offline.current().read().set_index("vehicle_id")
        for number, vehicle in enumerate(drawn, 1):
            row = online.get(typed_in[number - 1])
            stored = source.get_vehicle(number)
            assert row is not None
            assert stored is not None
            expected = bits({name: float(value) for name, value in VEHICLE_VIEW.compute(vehicle).items()})
            assert bits(row.features) == expected
            assert bits(online_row(stored, materialized_at=row.materialized_at).features) == expected
            assert bits(frame.loc[number, list(VEHICLE_VIEW.columns)].astype(float).to_dict()) == expected
