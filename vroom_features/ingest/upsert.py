"""Make the database's fleet and bookings equal to given DataFrames, changing only what differs.

A booking's key is its vehicle, its moment (microseconds since 1970), and its occurrence: 0, then 1, 2, ...
where a vehicle has several bookings of one moment.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd
from sqlalchemy import Connection, delete, exists, select, tuple_, update

from vroom_features.database.bulk import append, read_frame, staged
from vroom_features.database.queries import BIGGEST_ID, deletions, microseconds, reservations, vehicles
from vroom_features.database.tables import EPOCH, MICROSECOND
from vroom_features.ingest.csv_files import Progress
from vroom_features.vehicle import COLUMNS

BOOKING_KEY = ["vehicle_id", "created_at", "occurrence"]
NUM_EXAMPLES = 3
BLOCK_ROWS = 500_000
"""Bookings compared or written at a time."""


@dataclass(frozen=True, slots=True)
class FleetChange:
    """What was done to csv vehicles, and the ids of those that the database has beyond the wanted."""

    num_added: int
    num_updated: int
    num_unchanged: int
    absent: pd.Index


@dataclass(frozen=True, slots=True)
class BookingDifference:
    """Bookings that the database lacks, those that it has beyond the wanted, and how many it has."""

    added: pd.DataFrame
    absent: pd.DataFrame
    num_stored: int


def upsert_vehicles(
    connection: Connection, wanted: pd.DataFrame, version: int, *, watch_start: datetime | None
) -> FleetChange:
    """Add and update csv vehicles; ``wanted`` has the raw columns on ``vehicle_id``, in its order.

    The watch of those that are added starts at ``watch_start``.
    """
    raw = [vehicles.c[name] for name in ("vehicle_id", *COLUMNS)]
    query = select(*raw).where(vehicles.c.source == "csv").order_by(vehicles.c.vehicle_id)
    stored = read_frame(connection, query).set_index("vehicle_id")
    both = wanted.index.intersection(stored.index)
    differs = (wanted.loc[both] != stored.loc[both]).any(axis=1)
    changed, added = both[differs], wanted.index.difference(stored.index)
    if len(changed):
        rows = wanted.loc[changed].assign(row_version=version).reset_index()
        with staged(connection, rows, like=vehicles) as new:
            values = {name: new.c[name] for name in (*COLUMNS, "row_version")}
            same = vehicles.c.vehicle_id == new.c.vehicle_id
            connection.execute(update(vehicles).values(values).where(same))
    if len(added):
        rows = wanted.loc[added].assign(source="csv", row_version=version).reset_index()
        if watch_start is not None:
            rows["watch_start"] = (watch_start - EPOCH) // MICROSECOND
        append(connection, vehicles, rows)
        connection.execute(delete(deletions).where(deletions.c.vehicle_id.in_(select(vehicles.c.vehicle_id))))
    absent = stored.index.difference(wanted.index)
    return FleetChange(len(added), len(changed), len(both) - len(changed), absent)


def remove_vehicles(connection: Connection, removed: pd.Index, version: int) -> None:
    """Delete vehicles that have no bookings, and record the deletions."""
    if not len(removed):
        return
    append(connection, deletions, pd.DataFrame({"vehicle_id": removed, "row_version": version}))
    gone = select(deletions.c.vehicle_id).where(deletions.c.row_version == version)
    connection.execute(delete(vehicles).where(vehicles.c.vehicle_id.in_(gone)))


def compare_bookings(connection: Connection, wanted: pd.DataFrame) -> BookingDifference:
    """Compare the database's bookings with the wanted ones, a block of vehicles at a time to bound memory."""
    wanted = in_order(wanted)
    if connection.execute(select(reservations.c.vehicle_id).limit(1)).first() is None:
        return BookingDifference(wanted, wanted.iloc[:0], 0)
    added, absent, num_stored = [wanted.iloc[:0]], [wanted.iloc[:0]], 0
    for block, low, high in blocks(wanted, BLOCK_ROWS):
        stored = _stored_bookings(connection, low, high)
        num_stored += len(stored)
        for found, alone in zip((added, absent), difference(block, stored), strict=True):
            found.append(alone)
    return BookingDifference(pd.concat(added), pd.concat(absent), num_stored)


def difference(wanted: pd.DataFrame, stored: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the wanted bookings that are not stored, and the stored ones that are not wanted."""
    both = pd.concat([wanted, stored], ignore_index=True)
    is_alone = ~both.duplicated(keep=False)
    is_wanted = both.index < len(wanted)
    return both[is_alone & is_wanted], both[is_alone & ~is_wanted]


def blocks(bookings: pd.DataFrame, size: int) -> Iterator[tuple[pd.DataFrame, int, int]]:
    """Cut bookings, in order, into blocks of whole vehicles; yield each with its lowest and highest id."""
    ids = bookings["vehicle_id"].to_numpy()
    low, start = 0, 0
    while start + size < len(ids):
        high = int(ids[start + size])
        end = int(np.searchsorted(ids, high, side="right"))
        yield bookings.iloc[start:end], low, high
        low, start = high + 1, end
    yield bookings.iloc[start:], low, BIGGEST_ID


def in_order(bookings: pd.DataFrame) -> pd.DataFrame:
    """Return bookings in the order of their keys, with the occurrence of each."""
    ids, moments = bookings["vehicle_id"].to_numpy(), bookings["created_at"].to_numpy()
    order = np.lexsort((moments, ids))
    ids, moments = ids[order], moments[order]
    occurrence = np.zeros(len(order), np.int8)
    ordered = pd.DataFrame({"vehicle_id": ids, "created_at": moments, "occurrence": occurrence}, copy=False)
    is_repeat = (ids[1:] == ids[:-1]) & (moments[1:] == moments[:-1])
    if is_repeat.any():  # a few among millions, and counting takes memory
        repeated = ordered[np.append(is_repeat, False) | np.append(False, is_repeat)]
        counted = repeated.groupby(BOOKING_KEY[:2], sort=False).cumcount()
        ordered["occurrence"] = ordered["occurrence"].astype(np.min_scalar_type(counted.max()))
        ordered.loc[counted.index, "occurrence"] = counted
    return ordered


def _stored_bookings(connection: Connection, low: int, high: int) -> pd.DataFrame:
    moment = microseconds(connection, reservations.c.created_at).label("created_at")
    query = select(reservations.c.vehicle_id, moment, reservations.c.occurrence)
    return read_frame(connection, query.where(reservations.c.vehicle_id.between(low, high)))


def mass_removal(noun: str, rows: pd.DataFrame, num_stored: int, max_share: float) -> str:
    """Return which rows, vehicles or bookings, a seed would remove beyond a share; empty if it would not."""
    if len(rows) <= max_share * num_stored:
        return ""
    first = rows[:NUM_EXAMPLES]
    examples = [f"vehicle {vehicle_id}" for vehicle_id in first["vehicle_id"]]
    if "created_at" in first:
        moments = pd.to_datetime(first["created_at"], unit="us")
        examples = [f"{e} at {m.isoformat()}" for e, m in zip(examples, moments, strict=True)]
    return (
        f"{len(rows):,} of the {num_stored:,} {noun}s in the database ({len(rows) / num_stored:.1%},"
        f" VROOM_MAX_REMOVED_{noun.upper()}_SHARE allows {max_share:.1%}), such as {', '.join(examples)}"
    )


def write_bookings(
    connection: Connection,
    added: pd.DataFrame,
    removed: pd.DataFrame,
    version: int,
    *,
    is_first: bool,
    progress: Progress | None = None,
) -> None:
    """Remove and add bookings, and give their vehicles a new row version.

    With ``is_first`` the database has no bookings yet.
    """
    if len(removed):
        keys = tuple_(*(reservations.c[name] for name in BOOKING_KEY))
        with staged(connection, removed, like=reservations) as gone:
            connection.execute(delete(reservations).where(keys.in_(select(*gone.c))))
    for start in range(0, len(added), BLOCK_ROWS):
        append(connection, reservations, added.iloc[start : start + BLOCK_ROWS])
        if progress is not None:
            progress("writing reservations", min(start + BLOCK_ROWS, len(added)), len(added))
    new_version = update(vehicles).values(row_version=version).where(vehicles.c.row_version < version)
    if is_first:
        is_booked = exists().where(reservations.c.vehicle_id == vehicles.c.vehicle_id)
        connection.execute(new_version.where(is_booked))
        return
    touched = pd.DataFrame({"vehicle_id": np.union1d(added["vehicle_id"], removed["vehicle_id"])})
    with staged(connection, touched, like=vehicles) as booked:
        connection.execute(new_version.where(vehicles.c.vehicle_id.in_(select(booked.c.vehicle_id))))
