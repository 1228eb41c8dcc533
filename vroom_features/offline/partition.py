"""A range of vehicles as a DataFrame: read, with features and label, and its checksum."""

import hashlib
import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sqlalchemy import ColumnElement, Connection, Select, func, literal, select

from vroom_features.database.bulk import read_frame
from vroom_features.database.queries import history, microseconds, reservations, vehicles
from vroom_features.database.tables import MICROSECOND
from vroom_features.errors import SkewError
from vroom_features.features import observed_count, outcome
from vroom_features.vehicle import COLUMNS, UI_VEHICLE_ID_START
from vroom_features.view import VEHICLE_VIEW
from vroom_features.watch import Watch

MISSING = -1
"""In place of a moment, or of a count, that is not known."""
LOWEST, HIGHEST = -(2**63), 2**63 - 1
SKEW_SAMPLE = 16
"""Vehicles of each range that are computed a second time, one by one."""
_SALTS = np.random.default_rng(20230101).integers(0, 2**63, (2, 32), dtype=np.uint64) * 2 + 1


def read_partition(
    connection: Connection,
    low: int,
    high: int,
    *,
    watch: Watch | None = None,
    as_of: datetime | None = None,
) -> pd.DataFrame:
    """Read the vehicles of a range of ids, both included, in the order of ids.

    Besides the raw columns, ``source`` and ``watch_start``, the frame has ``num_booked`` (bookings counted),
    ``num_in_watch`` (those of its watch), and ``event_timestamp`` (the newest booking's moment), all missing
    without any.  With ``as_of``, a past moment, they are as they were before it.
    """
    found = _read_vehicles(connection, low, high)
    if as_of is not None:
        found = held_before(connection, found, as_of, low, high)
    ours = [_count_csv(connection, low, min(high, UI_VEHICLE_ID_START - 1), watch, as_of)]
    if not (changeable := found[found["source"] == "ui"]).empty:
        ours.append(_count_ui(connection, changeable, watch, as_of))
    return found.drop(columns="saved_at").merge(pd.concat(ours), how="left", on="vehicle_id")


def _read_vehicles(connection: Connection, low: int, high: int) -> pd.DataFrame:
    moments = ("saved_at", "watch_start")
    raw = (vehicles.c[name] for name in ("vehicle_id", *COLUMNS, "source"))
    known = (
        func.coalesce(microseconds(connection, vehicles.c[name]), MISSING).label(name) for name in moments
    )
    query = select(*raw, *known).where(vehicles.c.vehicle_id.between(low, high))
    found = read_frame(connection, query.order_by(vehicles.c.vehicle_id))
    return found.assign(**{name: _moments(found[name].where(found[name] != MISSING)) for name in moments})


def held_before(
    connection: Connection, found: pd.DataFrame, moment: datetime, low: int, high: int
) -> pd.DataFrame:
    """Return the vehicles of a range that were there before a moment, with what held for them then."""
    there = found[found["saved_at"].fillna(found["watch_start"]) < moment].set_index("vehicle_id")
    held = select(history.c.vehicle_id, history.c.watch_start, history.c.attributes)
    held = held.where(history.c.held_from < moment, history.c.held_until >= moment)
    held = held.where(history.c.vehicle_id.between(low, high))
    for row in connection.execute(held):
        if row.vehicle_id in there.index:
            values = json.loads(row.attributes) | {"watch_start": row.watch_start}
            for name in values.keys() & set(there.columns):
                there.loc[row.vehicle_id, name] = values[name]
    return there.reset_index()


def _moments(microseconds_since_1970: "pd.Series[int]") -> "pd.Series[pd.Timestamp]":
    return pd.to_datetime(microseconds_since_1970, unit="us", utc=True).dt.as_unit("us")


def _count_csv(
    connection: Connection, low: int, high: int, watch: Watch | None, as_of: datetime | None
) -> pd.DataFrame:
    """Count the bookings of csv vehicles: the watch of all of them ends at the same day."""
    key, at = reservations.c.vehicle_id, reservations.c.created_at
    num_in_watch: ColumnElement[int] = literal(0)
    if watch is not None:
        num_in_watch = func.count().filter(at.between(watch.end - watch.length, watch.end - MICROSECOND))
    query = select(
        key,
        func.count().label("num_booked"),
        num_in_watch.label("num_in_watch"),
        microseconds(connection, func.max(at)).label("event_timestamp"),
    )
    counted = read_frame(connection, _booked_before(query.where(key.between(low, high)), as_of).group_by(key))
    return counted.assign(event_timestamp=_moments(counted["event_timestamp"]))


def _count_ui(
    connection: Connection, found: pd.DataFrame, watch: Watch | None, as_of: datetime | None
) -> pd.DataFrame:
    """Count the bookings of ui vehicles: each has a watch of its own, and a changed one counts from it on."""
    key, at = reservations.c.vehicle_id, reservations.c.created_at
    query = select(key, microseconds(connection, at).label("created_at"))
    in_range = key.between(int(found["vehicle_id"].min()), int(found["vehicle_id"].max()))
    bookings = read_frame(connection, _booked_before(query.where(in_range), as_of))
    bookings["created_at"] = _moments(bookings["created_at"])
    bookings = bookings.merge(found[["vehicle_id", "saved_at", "watch_start"]], on="vehicle_id")
    since = bookings["created_at"] - bookings["watch_start"]
    is_from_start = since >= timedelta(0)
    is_in_watch = is_from_start & (since < watch.length) if watch else False
    is_changed = bookings["watch_start"] > bookings["saved_at"]
    bookings = bookings.assign(is_in_watch=is_in_watch)[is_from_start | ~is_changed]
    return bookings.groupby("vehicle_id", as_index=False).agg(
        num_booked=("created_at", "size"),
        num_in_watch=("is_in_watch", "sum"),
        event_timestamp=("created_at", "max"),
    )


def _booked_before(query: Select[Any], as_of: datetime | None) -> Select[Any]:
    return query if as_of is None else query.where(reservations.c.created_at < as_of)


def fleet_rows(partition: pd.DataFrame, *, watch: Watch | None = None) -> pd.DataFrame:
    """Return the offline rows of a partition: its fleet vehicles, with features, count and label."""
    count = observed_count(partition["num_booked"], partition["source"])
    label = outcome(partition["num_in_watch"], partition["watch_start"], watch)
    is_fleet = count.notna() | label.notna()
    fleet = partition[is_fleet]
    features = VEHICLE_VIEW.transform(fleet)
    check_skew(fleet, features)
    return pd.DataFrame(
        {
            VEHICLE_VIEW.join_key: fleet["vehicle_id"],
            **features,
            **{name: fleet[name] for name in VEHICLE_VIEW.attributes},
            VEHICLE_VIEW.count: count[is_fleet],
            "watch_start": fleet["watch_start"],
            VEHICLE_VIEW.label: label[is_fleet],
            "event_timestamp": fleet["event_timestamp"],
        }
    )


def check_skew(vehicles: pd.DataFrame, features: pd.DataFrame) -> None:
    """Compute some vehicles again as for a request, and compare bit for bit; SkewError if one differs."""
    num = len(vehicles)
    for i in np.unique(np.linspace(0, num - 1, min(num, SKEW_SAMPLE)).astype(int)).tolist():
        single = VEHICLE_VIEW.compute({name: vehicles[name].iloc[i].item() for name in VEHICLE_VIEW.sources})
        for name, value in single.items():
            batch = features[name].iloc[i]
            if np.float64(value).tobytes() != np.float64(batch).tobytes():
                raise SkewError(int(vehicles["vehicle_id"].iloc[i]), name, value, batch.item())


def order_free_checksum(rows: pd.DataFrame) -> tuple[int, int]:
    """Return two sums over hashes of the rows, which do not depend on the order of rows.

    The sums of parts add up to the sums of the whole.
    """
    lanes = np.zeros((2, len(rows)), np.uint64)
    for i, name in enumerate(rows):
        bits = _bits(rows[name])
        for lane, salt in zip(lanes, _SALTS[:, i], strict=True):
            lane += bits * salt
            lane ^= lane >> np.uint64(29)
    lanes *= np.uint64(0xBF58476D1CE4E5B9)
    lanes ^= lanes >> np.uint64(32)
    first, second = lanes.sum(axis=1, dtype=np.uint64).tolist()
    return first, second


def _bits(column: "pd.Series[Any]") -> npt.NDArray[np.uint64]:
    """Return the 64 bits of each number or moment."""
    if isinstance(column.dtype, pd.Int64Dtype):
        column = column.fillna(MISSING).astype(np.int64)
    values = column.dt.tz_localize(None) if column.dtype.kind == "M" else column
    return np.ascontiguousarray(values.to_numpy()).view(np.uint64)


def digest_of(checksums: Iterable[tuple[int, int]], num_rows: int, *, watch: Watch | None) -> str:
    """Return the digest of a fleet from the checksums of its parts, the view and the length of a watch."""
    totals = [sum(lane) % 2**64 for lane in zip((0, 0), *checksums, strict=True)]
    names = (*VEHICLE_VIEW.columns, *VEHICLE_VIEW.attributes, VEHICLE_VIEW.count, VEHICLE_VIEW.label)
    days = watch.days if watch else None
    identity = (VEHICLE_VIEW.name, VEHICLE_VIEW.version, names, num_rows, days, totals)
    return hashlib.sha256(repr(identity).encode()).hexdigest()


def split_ids(connection: Connection, low: int, high: int, size: int) -> list[tuple[int, int]]:
    """Split a range of ids into ranges of at most ``size`` vehicles each."""
    spans: list[tuple[int, int]] = []
    ids = vehicles.c.vehicle_id
    while True:
        rest = select(ids).where(ids.between(low, high)).order_by(ids)
        following = connection.execute(rest.offset(size).limit(1)).scalar()
        if following is None:
            return [*spans, (low, high)]
        spans.append((low, following - 1))
        low = following
