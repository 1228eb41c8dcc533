"""The library itself: the count of bookings, and the features of a frame."""

from collections import Counter
from random import Random

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.snapshots import SAMPLE, WATCH
from vroom_features import VEHICLE_VIEW, num_reservations, training_label
from vroom_features.errors import MissingColumnsError


@pytest.mark.parametrize("index", [None, "vehicle_id"])
def test_the_two_csv_files_are_counted_as_pandas_reads_them(index: str | None) -> None:
    vehicles, bookings = (pd.read_csv(SAMPLE / f"{name}.csv") for name in ("vehicles", "reservations"))
    expected = vehicles["vehicle_id"].map(Counter(bookings["vehicle_id"])).fillna(0).astype(int).tolist()
    if index:
        vehicles, bookings = vehicles.set_index(index), bookings.set_index(index)
    watch = {"watch_days": WATCH.days, "complete_through": WATCH.complete_through}
    parsed = bookings.astype({"created_at": "datetime64[s]"}).assign(source="app")  # as by parse_dates
    for counted in (
        num_reservations(vehicles, bookings, source="csv"),
        num_reservations(vehicles.assign(source="csv"), bookings),
        training_label(vehicles, bookings, source="csv", **watch),
        training_label(vehicles, parsed, source="csv", **watch),
    ):
        assert counted.tolist() == expected
        pd.testing.assert_index_equal(counted.index, vehicles.index)
    with pytest.raises(MissingColumnsError, match=r"\['source'\] are missing; .*say source=\"csv\""):
        num_reservations(vehicles, bookings)


def test_features_of_a_frame_are_on_its_index_and_the_view_is_shown_in_a_line() -> None:
    frame = pd.read_csv(SAMPLE / "vehicles.csv", index_col="vehicle_id").iloc[[3, 1]].assign(name="mine")
    before = frame.copy()
    features = VEHICLE_VIEW.transform(frame)
    pd.testing.assert_frame_equal(frame, before)
    pd.testing.assert_index_equal(features.index, frame.index)
    assert tuple(features) == VEHICLE_VIEW.columns
    for vehicle_id, row in frame.drop(columns="name").iterrows():
        assert features.loc[vehicle_id].to_dict() == VEHICLE_VIEW.compute(row.to_dict())
    with pytest.raises(MissingColumnsError, match="num_images"):
        VEHICLE_VIEW.transform(frame.drop(columns="num_images"))
    missing = VEHICLE_VIEW.transform(frame.assign(actual_price=float("nan"))).isna().any()
    assert missing[missing].index.tolist() == ["price_diff"]
    assert repr(VEHICLE_VIEW).startswith("FeatureView(vehicle_forecast v1: technology, ")


vehicles_by_id = st.dictionaries(st.integers(1, 9), st.sampled_from(["csv", "ui"]))


@settings(deadline=None)
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
