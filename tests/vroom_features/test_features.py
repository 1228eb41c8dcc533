"""The library itself: what it imports, and the count of bookings."""

import subprocess
import sys
from collections import Counter
from random import Random

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from vroom_features import num_reservations

HEAVY = {"alembic", "cyclopts", "fastapi", "flask", "mlflow", "numpy", "pandas", "prefect", "pyarrow"}
HEAVY |= {"pydantic", "redis", "sqlalchemy", "sqlmodel", "starlette", "xgboost"}


def test_importing_the_library_brings_no_web_orchestration_registry_database_or_redis_package() -> None:
    program = "import sys, vroom_features; vroom_features.price_diff(1.0, 2.0); print(*sys.modules)"
    modules = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    loaded = {name.partition(".")[0] for name in modules}
    assert "vroom_features" in loaded
    assert loaded.isdisjoint(HEAVY)


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
