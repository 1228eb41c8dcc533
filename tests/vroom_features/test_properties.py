"""What holds for any bookings, and for any fleet that was there before a seed."""

from collections import Counter
from contextlib import closing
from random import Random

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.vroom_features.files import booking_lines, vehicle_line, write_csvs
from tests.vroom_features.stores import contents
from vroom_features import num_reservations
from vroom_features.database.vehicles import SourceStore
from vroom_features.ingest.seed import seed

vehicles_by_id = st.dictionaries(st.integers(1, 9), st.sampled_from(["csv", "ui"]))


@given(vehicles=vehicles_by_id, bookings=st.lists(st.integers(1, 12)), shuffle=st.randoms())
def test_the_label_is_the_count_of_bookings_and_unknown_where_nobody_watched(
    vehicles: dict[int, str], bookings: list[int], shuffle: Random
) -> None:
    frame = pd.DataFrame({"vehicle_id": list(vehicles), "source": list(vehicles.values())})
    booked = pd.DataFrame({"vehicle_id": pd.Series(bookings, dtype="int64")})
    before = frame.copy(), booked.copy()
    label = num_reservations(frame, booked)
    counts = Counter(bookings)
    expected = [counts[i] if counts[i] or source == "csv" else None for i, source in vehicles.items()]
    assert [None if pd.isna(value) else int(value) for value in label] == expected
    order = list(range(len(frame)))
    shuffle.shuffle(order)
    pd.testing.assert_series_equal(num_reservations(frame.iloc[order], booked), label.iloc[order])
    pd.testing.assert_frame_equal(frame, before[0])
    pd.testing.assert_frame_equal(booked, before[1])


ids = st.integers(1, 6)
fleets = st.dictionaries(ids, st.tuples(st.integers(1, 9), st.integers(0, 3)), min_size=1)
bookings = st.lists(st.tuples(ids, st.integers(0, 4)), max_size=20)


@given(states=st.lists(st.tuples(fleets, bookings), min_size=1, max_size=4), block_rows=st.integers(1, 9))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_was_there_a_seed_ends_as_a_clean_one(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    states: list[tuple[dict[int, tuple[int, int]], list[tuple[int, int]]]],
    block_rows: int,
) -> None:
    monkeypatch.setattr("vroom_features.ingest.upsert.BLOCK_ROWS", block_rows)
    folder = tmp_path_factory.mktemp("states")
    with (
        closing(SourceStore.open(f"sqlite:///{folder / 'used.db'}")) as used,
        closing(SourceStore.open(f"sqlite:///{folder / 'clean.db'}")) as clean,
    ):
        for number, (fleet, booked) in enumerate(states):
            lines = [
                vehicle_line(i, actual_price=price, num_images=images) for i, (price, images) in fleet.items()
            ]
            known = [(i, day) for i, day in booked if i in fleet] or [(min(fleet), 0)]
            files = write_csvs(folder / str(number), lines, booking_lines(known))
            report = seed(used, files, allow_removals=True)
            assert report.vehicles_added + report.vehicles_updated + report.vehicles_unchanged == len(fleet)
            assert report.reservations_added + report.reservations_unchanged == len(known)
            assert seed(used, files).is_unchanged
        seed(clean, files)
        assert contents(used) == contents(clean)
