"""Make the database's fleet and bookings equal to given columns, changing only what differs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vroom_features.arrow import repeat, to_arrow, to_numpy
from vroom_features.batch import RAW, RAW_SCHEMA
from vroom_features.bookings import BOOKING_KEY, difference, in_order
from vroom_features.stores.bulk import BulkConnection

Array = npt.NDArray[Any]

_BOOKINGS = pa.schema([(name, pa.int64()) for name in BOOKING_KEY])
_IDS = pa.schema([("vehicle_id", pa.int64())])


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows of a table, by what happened to them."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    kept: int = 0


@dataclass(frozen=True, slots=True)
class BookingDifference:
    """The bookings that the database lacks, those that it has beyond the wanted, and how many it has."""

    added: dict[str, Array]
    absent: dict[str, Array]
    num_stored: int


def typed_in_ids(bulk: BulkConnection) -> Array:
    """Return the ids of typed-in vehicles, in order."""
    query = "SELECT vehicle_id FROM vehicles WHERE source = 'ui' ORDER BY vehicle_id"
    return to_numpy(bulk.table(query, _IDS)["vehicle_id"])


def put_vehicles(bulk: BulkConnection, wanted: dict[str, Array], version: int) -> tuple[Counts, Array]:
    """Add and update the csv vehicles in ``wanted``, which is in the order of ids.

    Returns
    -------
    Counts, array
        What was done, and the ids of csv vehicles that are absent from ``wanted``; ``remove_vehicles`` takes
        those that are to go, once nothing refers to them.
    """
    names = ", ".join(("vehicle_id", *RAW))
    query = f"SELECT {names} FROM vehicles WHERE source = 'csv' ORDER BY vehicle_id"  # noqa: S608 - our names
    stored = {name: to_numpy(column) for name, column in _columns(bulk.table(query, RAW_SCHEMA)).items()}
    ids, old_ids = wanted["vehicle_id"], stored["vehicle_id"]
    _, new_at, old_at = np.intersect1d(ids, old_ids, assume_unique=True, return_indices=True)
    differs = np.zeros(len(new_at), bool)
    for name in RAW:
        differs |= wanted[name][new_at] != stored[name][old_at]
    changed = new_at[differs]
    added = np.delete(np.arange(len(ids)), new_at)
    absent = np.delete(old_ids, old_at)
    if len(changed):
        bulk.stage("staged_vehicles", _vehicle_rows(bulk, wanted, changed, version))
        sets = ", ".join(f"{name} = s.{name}" for name in (*RAW, "row_version"))
        bulk.execute(
            f"UPDATE vehicles SET {sets} FROM staged_vehicles s"  # noqa: S608 - our names
            " WHERE vehicles.vehicle_id = s.vehicle_id"
        )
    if len(added):
        bulk.append("vehicles", _vehicle_rows(bulk, wanted, added, version))
        bulk.execute("DELETE FROM deletions WHERE vehicle_id IN (SELECT vehicle_id FROM vehicles)")
    return Counts(len(added), len(changed), len(new_at) - len(changed)), absent


def remove_vehicles(bulk: BulkConnection, removed: Array, version: int) -> None:
    """Delete vehicles that have no bookings, and remember that they are gone."""
    if not len(removed):
        return
    versions = to_arrow(np.full(len(removed), version))
    bulk.append("deletions", pa.table({"vehicle_id": to_arrow(removed), "row_version": versions}))
    these = f"SELECT vehicle_id FROM deletions WHERE row_version = {version}"  # noqa: S608 - an integer of ours
    bulk.execute(f"DELETE FROM vehicles WHERE vehicle_id IN ({these})")  # noqa: S608 - as above


def compare_bookings(bulk: BulkConnection, wanted: dict[str, Array]) -> BookingDifference:
    """Compare the bookings with ``wanted``: each pair of vehicle and time as often as it stands there."""
    moment = bulk.microseconds("created_at")
    query = f"SELECT vehicle_id, {moment} AS created_at, occurrence FROM reservations"  # noqa: S608 - our names
    stored = {name: to_numpy(column) for name, column in _columns(bulk.table(query, _BOOKINGS)).items()}
    num_stored = len(stored["vehicle_id"])
    added, absent = difference(wanted, stored) if num_stored else (wanted, stored)
    return BookingDifference(added, absent, num_stored)


def write_bookings(
    bulk: BulkConnection,
    added: dict[str, Array],
    removed: dict[str, Array],
    version: int,
    *,
    is_first: bool,
    progress: Callable[[str, int, int], None] | None = None,
) -> None:
    """Add and remove bookings; ``is_first`` when the database has none."""
    if is_first:
        done = 0
        for part in in_order(added):
            _append(bulk, part)
            done += len(part["vehicle_id"])
            if progress is not None:
                progress("writing reservations", done, len(added["vehicle_id"]))
        bulk.execute(
            f"UPDATE vehicles SET row_version = {version} WHERE row_version < {version}"  # noqa: S608
            " AND EXISTS (SELECT 1 FROM reservations r WHERE r.vehicle_id = vehicles.vehicle_id)"
        )
        return
    if len(removed["vehicle_id"]):
        keys = ", ".join(_BOOKINGS.names)
        bulk.stage("staged_gone", _booking_rows(bulk, removed))
        bulk.execute(
            f"DELETE FROM reservations WHERE ({keys}) IN (SELECT {keys} FROM staged_gone)"  # noqa: S608 - ours
        )
    _append(bulk, added)
    touched = np.union1d(added["vehicle_id"], removed["vehicle_id"])
    if len(touched):
        bulk.stage("staged_touched", pa.table({"vehicle_id": to_arrow(touched)}))
        bulk.execute(
            f"UPDATE vehicles SET row_version = {version}"  # noqa: S608 - an integer of ours
            " WHERE vehicle_id IN (SELECT vehicle_id FROM staged_touched)"
        )


def _append(bulk: BulkConnection, rows: dict[str, Array]) -> None:
    """Add bookings."""
    bulk.append("reservations", _booking_rows(bulk, rows))


def _booking_rows(bulk: BulkConnection, rows: dict[str, Array]) -> pa.Table:
    """Return bookings as the database takes them; those without an occurrence are the first of theirs."""
    kinds = {"created_at": None if bulk.is_sqlite else pa.timestamp("us", "UTC")}
    return pa.table({name: to_arrow(values, kinds.get(name)) for name, values in rows.items()})


def _vehicle_rows(bulk: BulkConnection, wanted: dict[str, Array], at: Array, version: int) -> pa.Table:
    """Return vehicles as the database takes them."""
    integer = pa.int64() if bulk.is_sqlite else pa.int32()
    columns = {"vehicle_id": to_arrow(wanted["vehicle_id"][at])}
    for name in RAW:
        column = to_arrow(wanted[name][at])
        columns[name] = column if pa.types.is_floating(column.type) else column.cast(integer)
    columns["source"] = repeat("csv", len(at))
    columns["row_version"] = to_arrow(np.full(len(at), version, np.int64))
    return pa.table(columns)


def _columns(table: pa.Table) -> dict[str, pa.ChunkedArray]:
    return dict(zip(table.column_names, table.columns, strict=True))
