"""What holds for any file, any bookings and any state of the online store."""

import csv
import io
import math
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd
import pytest
import redis as redis_py
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.vroom_features.files import (
    RESERVATION_HEADER,
    VEHICLE_HEADER,
    booking_lines,
    vehicle_line,
    write_csvs,
)
from tests.vroom_features.stores import NOW, arrive, audited, contents, fresh_stores, run
from vroom_features import num_reservations
from vroom_features.database.vehicles import SourceStore
from vroom_features.ingest.seed import seed
from vroom_features.ingest.upsert import BOOKING_KEY, blocks, difference, in_order
from vroom_features.materialize import materialize
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.online.rows import encode
from vroom_features.online.store import OnlineStore
from vroom_features.online.sync import AuditReport
from vroom_features.vehicle import COLUMNS, RawColumn

on_stores = settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)

integers = st.one_of(st.integers(-2, 12).map(str), st.sampled_from(["", "x", "1.5", "1e2", " 7 ", "9" * 25]))
prices = st.one_of(
    st.floats(min_value=-1, max_value=2e7, width=32).map(repr),
    st.sampled_from(["nan", "inf", "-inf", "1e308", "1e-320", "0", "12,5", "", "12 €", '"']),
)
flags = st.sampled_from(["0", "1", "1", "2", "true", ""])
moments = st.sampled_from(["2023-01-01 10:00:00", "2023-01-02", "2023-01-01T10:00:00Z", "soon", "2023-13-01"])
cells = [flags if c.choices else integers if c.is_whole else prices for c in COLUMNS.values()]
vehicle_rows = st.lists(st.tuples(integers, *cells), max_size=12)
booking_rows = st.lists(st.tuples(integers, moments), max_size=12)


def is_integer(text: str, low: int, high: int) -> bool:
    digits = text.strip()
    return digits.removeprefix("-").isdigit() and low <= int(digits) <= high


def is_in_range(text: str, column: RawColumn) -> bool:
    if column.is_whole:
        return is_integer(text, int(column.low), int(column.high))
    try:
        return math.isfinite(float(text)) and column.low < float(text) <= column.high
    except ValueError:
        return False


def is_good(row: tuple[str, ...]) -> bool:
    vehicle_id, *values = row
    in_range = map(is_in_range, values, COLUMNS.values())
    return is_integer(vehicle_id, 1, 10**9) and all(in_range)


def moment_of(text: str) -> int | None:
    """Return microseconds since 1970, as SQLite holds them."""
    try:
        moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        return None
    return int(moment.timestamp()) * 1_000_000


def write(
    folder: Path, name: str, header: str, rows: list[tuple[str, ...]], line_end: str, *, bom: bool
) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=line_end).writerows([header.split(","), *rows])
    (folder / f"{name}.csv").write_bytes(text.getvalue().encode("utf-8-sig" if bom else "utf-8"))


@given(
    vehicles=vehicle_rows, bookings=booking_rows, line_end=st.sampled_from(["\n", "\r\n"]), bom=st.booleans()
)
@on_stores
def test_of_any_files_the_good_rows_come_in_and_each_bad_row_is_listed(
    tmp_path_factory: pytest.TempPathFactory,
    vehicles: list[tuple[str, ...]],
    bookings: list[tuple[str, str]],
    line_end: str,
    bom: bool,
) -> None:
    folder = tmp_path_factory.mktemp("files")
    write(folder, "vehicles", VEHICLE_HEADER, vehicles, line_end, bom=bom)
    write(folder, "reservations", RESERVATION_HEADER, list(bookings), line_end, bom=bom)
    taken: dict[int, tuple[str, ...]] = {}
    bad_vehicles = []
    for line, row in enumerate(vehicles, 2):
        if is_good(row) and int(row[0]) not in taken:
            taken[int(row[0])] = row
        else:
            bad_vehicles.append(line)
    bad_ids = [int(row[0]) for row in vehicles if is_integer(row[0], 1, 10**9) and not is_good(row)]
    num_without_id = sum(not is_integer(row[0], 1, 10**9) for row in vehicles)
    booked, unknown, bad_bookings = [], [], []
    for line, (vehicle_id, text) in enumerate(bookings, 2):
        moment = moment_of(text)
        if not is_integer(vehicle_id, 1, 2**63 - 1) or moment is None:
            bad_bookings.append(line)
        elif int(vehicle_id) in taken:
            booked.append((int(vehicle_id), moment))
        else:
            unknown.append((line, int(vehicle_id)))
    unexcused = [(line, vehicle_id) for line, vehicle_id in unknown if vehicle_id not in bad_ids]
    if len({vehicle_id for _, vehicle_id in unexcused}) > num_without_id:
        bad_bookings = sorted([*bad_bookings, *(line for line, _ in unexcused)])
        num_set_aside = len(unknown) - len(unexcused)
    else:
        num_set_aside = len(unknown)
    source = SourceStore.open(f"sqlite:///{folder / 'vroom.db'}")
    report = seed(source, folder, max_bad_share=1.0)
    found_vehicles, found_bookings = contents(source)
    assert found_vehicles == [(i, float(r[2]), int(r[4]), "csv") for i, r in sorted(taken.items())]
    assert found_bookings == sorted(booked)
    assert (report.vehicles_quarantined, report.reservations_quarantined) == (
        len(bad_vehicles),
        len(bad_bookings),
    )
    assert report.reservations_set_aside == num_set_aside
    assert listed(folder, "vehicles") == bad_vehicles
    assert listed(folder, "reservations") == bad_bookings
    again = seed(source, folder, max_bad_share=1.0)
    assert again.is_unchanged
    assert again.vehicles_quarantined == len(bad_vehicles)
    source.close()


def listed(folder: Path, name: str) -> list[int]:
    """Return the lines in a quarantine file, where there is one."""
    path = folder / "quarantine" / f"{name}.rejected.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [int(row["line"]) for row in csv.DictReader(file)]


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


injuries = st.sampled_from(["none", "missing", "stale", "other view", "wrong", "garbled"])


@given(harm=st.lists(injuries, max_size=8), orphans=st.sets(st.integers(2, 50), max_size=4))
@on_stores
def test_the_audit_counts_every_injury_and_a_run_heals_what_it_is_told_of(
    tmp_path_factory: pytest.TempPathFactory, redis: redis_py.Redis, harm: list[str], orphans: set[int]
) -> None:
    folder = tmp_path_factory.mktemp("audit")
    with fresh_stores(folder, redis) as (source, offline, online):
        ids = [arrive(source, num_images=number) for number in range(1, len(harm) + 1)]
        run(source, offline, online)
        for vehicle_id, kind in zip(ids, harm, strict=True):
            injure(online, vehicle_id, kind)
        arrive(source)  # saved since, so it is missing too
        for vehicle_id in orphans:
            key = f"vroom-forecast:{{{vehicle_id:03}}}:rows"
            redis.hset(key, str(vehicle_id), "1 {}")
        kinds = Counter(harm)
        assert audited(source, online) == AuditReport(
            len(ids) + 1,
            missing=kinds["missing"] + 1,
            stale=kinds["stale"] + kinds["other view"],
            wrong=kinds["wrong"] + kinds["garbled"],
            orphaned=len(orphans),
        )
        redis.delete("vroom-forecast:synced")  # as when Redis lost what it had
        run(source, offline, online)
        assert audited(source, online).is_clean


def injure(online: OnlineStore, vehicle_id: int, kind: str) -> None:
    row = online.get(vehicle_id)
    assert row is not None
    key, name = f"vroom-forecast:{{{vehicle_id % 256:03}}}:rows", str(vehicle_id)
    if kind == "missing":
        online.client.hdel(key, name)
    elif kind != "none":
        value = {
            "stale": encode(row._replace(row_version=5)),
            "other view": encode(row._replace(view="vehicle_forecast:0")),
            "wrong": encode(row._replace(attributes=row.attributes | {"actual_price": 1.0})),
            "garbled": b"junk",
        }[kind]
        online.client.hset(key, name, value)


@given(
    fleet=st.dictionaries(st.integers(1, 30), st.integers(1, 9), min_size=1),
    bookings=st.lists(st.tuples(st.integers(1, 30), st.integers(0, 3)), max_size=30),
    size=st.integers(1, 31),
    days=st.integers(0, 400),
    shuffle=st.randoms(),
)
@on_stores
def test_the_digest_depends_on_the_rows_alone(
    tmp_path_factory: pytest.TempPathFactory,
    fleet: dict[int, int],
    bookings: list[tuple[int, int]],
    size: int,
    days: int,
    shuffle: Random,
) -> None:
    folder = tmp_path_factory.mktemp("digest")
    lines = [vehicle_line(i, actual_price=price) for i, price in fleet.items()]
    booked = booking_lines([(i, day) for i, day in bookings if i in fleet])
    digests = []
    for number, (as_of, partition) in enumerate(((NOW, 100), (NOW + timedelta(days=days), size))):
        source = SourceStore.open(f"sqlite:///{folder / f'{number}.db'}")
        seed(source, write_csvs(folder / str(number), lines, booked))
        offline = OfflineStore(str(folder / f"offline-{number}"))
        report = materialize(source, offline, None, as_of=as_of, partition_vehicles=partition)
        digests.append(report.digest)
        source.close()
        shuffle.shuffle(lines)
        shuffle.shuffle(booked)
    assert digests[0] == digests[1]


ids = st.integers(1, 6)
fleets = st.dictionaries(ids, st.tuples(st.integers(1, 9), st.integers(0, 3)))
bookings = st.lists(st.tuples(ids, st.integers(0, 4)), max_size=20)


@given(states=st.lists(st.tuples(fleets, bookings), min_size=1, max_size=4))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_was_there_a_seed_ends_as_a_clean_one(
    tmp_path_factory: pytest.TempPathFactory,
    states: list[tuple[dict[int, tuple[int, int]], list[tuple[int, int]]]],
) -> None:
    folder = tmp_path_factory.mktemp("states")
    stores = [SourceStore.open(f"sqlite:///{folder / name}.db") for name in ("used", "clean")]
    for number, (fleet, booked) in enumerate(states):
        fleet = fleet or {1: (1, 1)}
        lines = [
            vehicle_line(i, actual_price=price, num_images=images) for i, (price, images) in fleet.items()
        ]
        known = [(i, day) for i, day in booked if i in fleet] or [(min(fleet), 0)]
        files = write_csvs(folder / str(number), lines, booking_lines(known))
        report = seed(stores[0], files, allow_removals=True)
        assert report.vehicles_added + report.vehicles_updated + report.vehicles_unchanged == len(fleet)
        assert report.reservations_added + report.reservations_unchanged == len(known)
        assert seed(stores[0], files).is_unchanged
    seed(stores[1], files)
    assert contents(stores[0]) == contents(stores[1])
    for store in stores:
        store.close()


wide_ids = st.sampled_from([1, 2, 2**62])
wide_moments = st.sampled_from([0, 1, 10**6, 5 * 10**6, -62_135_596_800 * 10**6, 253_402_300_799 * 10**6])
Booking = tuple[int, int, int]


def numbered(pairs: list[tuple[int, int]]) -> set[Booking]:
    """Return bookings with their occurrences."""
    seen: Counter[tuple[int, int]] = Counter()
    found = set()
    for pair in pairs:
        found.add((*pair, seen[pair]))
        seen[pair] += 1
    return found


def bookings_of(table: pd.DataFrame) -> list[Booking]:
    return list(zip(*(table[name].tolist() for name in BOOKING_KEY), strict=True))


@given(
    wanted=st.lists(
        st.tuples(st.one_of(st.integers(1, 3), wide_ids), st.one_of(st.integers(0, 2), wide_moments))
    ),
    stored=st.sets(
        st.tuples(st.integers(1, 3), st.one_of(st.integers(0, 2), wide_moments), st.integers(0, 3))
    ),
    size=st.integers(1, 5),
)
def test_bookings_differ_by_what_one_side_has_alone(
    wanted: list[tuple[int, int]], stored: set[Booking], size: int
) -> None:
    table = in_order(pd.DataFrame(wanted, columns=BOOKING_KEY[:2], dtype=np.int64))
    assert bookings_of(table) == sorted(numbered(wanted))
    added, absent = difference(table, pd.DataFrame(list(stored), columns=BOOKING_KEY, dtype=np.int64))
    assert sorted(bookings_of(added)) == sorted(numbered(wanted) - stored)
    assert sorted(bookings_of(absent)) == sorted(stored - numbered(wanted))
    next_id = 0
    for block, low, high in blocks(table, size):
        assert low == next_id
        assert block["vehicle_id"].between(low, high).all()
        next_id = high + 1
    assert next_id == 2**63
    assert sum(len(block) for block, _, _ in blocks(table, size)) == len(table)
