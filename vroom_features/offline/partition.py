"""A range of vehicles as a DataFrame: read, with features and label, and its checksum."""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sqlalchemy import Connection, func, select

from vroom_features.database.bulk import microseconds, read_frame
from vroom_features.database.queries import reservations, vehicles
from vroom_features.errors import SkewError
from vroom_features.features import observed_count
from vroom_features.vehicle import COLUMNS
from vroom_features.view import VEHICLE_VIEW

LOWEST, HIGHEST = -(2**63), 2**63 - 1
SKEW_SAMPLE = 16
"""Vehicles of each range that are computed a second time, one by one."""
_SALTS = np.random.default_rng(20230101).integers(0, 2**63, (2, 32), dtype=np.uint64) * 2 + 1


def read_partition(connection: Connection, low: int, high: int) -> pd.DataFrame:
    """Read the vehicles of a range of ids, both included, in the order of ids.

    Besides the raw columns and ``source``, the frame has ``num_booked`` (bookings counted) and
    ``event_timestamp`` (the newest booking's moment), both missing without any.
    """
    in_range = vehicles.c.vehicle_id.between(low, high)
    raw = (vehicles.c[name] for name in ("vehicle_id", *COLUMNS, "source"))
    found = read_frame(connection, select(*raw).where(in_range).order_by(vehicles.c.vehicle_id))
    key, newest = reservations.c.vehicle_id, microseconds(connection, func.max(reservations.c.created_at))
    counted = select(key, func.count().label("num_booked"), newest.label("event_timestamp"))
    booked = read_frame(connection, counted.where(key.between(low, high)).group_by(key))
    moments = pd.to_datetime(booked["event_timestamp"], unit="us", utc=True)
    return found.merge(booked.assign(event_timestamp=moments), how="left", on="vehicle_id")


def fleet_rows(partition: pd.DataFrame) -> pd.DataFrame:
    """Return the offline rows of a partition: its fleet vehicles with features, attributes and label.

    Raises
    ------
    SkewError
        If the request path computes a sampled vehicle differently.
    """
    label = observed_count(partition["num_booked"], partition["source"])
    fleet = partition[label.notna()]
    features = VEHICLE_VIEW.compute(fleet)  # type: ignore[arg-type]  # a frame is a mapping but for its type
    check_skew(fleet, features)
    return pd.DataFrame(
        {
            VEHICLE_VIEW.join_key: fleet["vehicle_id"],
            **features,
            **{name: fleet[name] for name in VEHICLE_VIEW.attributes},
            VEHICLE_VIEW.label: label[fleet.index].astype("int64"),
            "event_timestamp": fleet["event_timestamp"],
        }
    )


def check_skew(vehicles: pd.DataFrame, features: "dict[str, pd.Series[Any]]") -> None:
    """Compute some vehicles again as for a request, and compare bit for bit."""
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
    values = column.dt.tz_localize(None) if column.dtype.kind == "M" else column
    return np.ascontiguousarray(values.to_numpy()).view(np.uint64)


def digest_of(checksums: Iterable[tuple[int, int]], num_rows: int) -> str:
    """Return the digest of a whole fleet from the checksums of its parts and the view."""
    totals = [sum(lane) % 2**64 for lane in zip((0, 0), *checksums, strict=True)]
    names = (*VEHICLE_VIEW.columns, *VEHICLE_VIEW.attributes, VEHICLE_VIEW.label)
    identity = (VEHICLE_VIEW.name, VEHICLE_VIEW.version, names, num_rows, totals)
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
