"""Make the database's fleet and bookings equal to given columns, changing only what differs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vroom_features.arrow import repeat, to_arrow, to_numpy
from vroom_features.batch import RAW
from vroom_features.stores.bulk import BulkConnection

Array = npt.NDArray[Any]

_LOAD_ROWS = 1 << 20
_SECOND = 1_000_000
_PACKED_BITS = 63
_INDEX = "ix_reservations_vehicle_id_created_at"
_FLEET = pa.schema(
    [
        ("vehicle_id", pa.int64()),
        *((name, pa.float64() if name.endswith("_price") else pa.int64()) for name in RAW),
    ]
)
_BOOKINGS = pa.schema([("id", pa.int64()), ("vehicle_id", pa.int64()), ("created_at", pa.int64())])
_IDS = pa.schema([("vehicle_id", pa.int64())])


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows of a table, by what happened to them."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0


def typed_in_ids(bulk: BulkConnection) -> Array:
    """Return the ids of typed-in vehicles, in order."""
    query = "SELECT vehicle_id FROM vehicles WHERE source = 'ui' ORDER BY vehicle_id"
    return to_numpy(bulk.table(query, _IDS)["vehicle_id"])


def put_vehicles(bulk: BulkConnection, wanted: dict[str, Array], version: int) -> tuple[Counts, Array]:
    """Add and update the csv vehicles in ``wanted``, which is in the order of ids.

    Returns
    -------
    Counts, array
        What was done, and the ids of csv vehicles that are not wanted; ``remove_vehicles`` takes those,
        once nothing refers to them.
    """
    names = ", ".join(("vehicle_id", *RAW))
    query = f"SELECT {names} FROM vehicles WHERE source = 'csv' ORDER BY vehicle_id"  # noqa: S608 - our names
    stored = {name: to_numpy(column) for name, column in _columns(bulk.table(query, _FLEET)).items()}
    ids, old_ids = wanted["vehicle_id"], stored["vehicle_id"]
    _, new_at, old_at = np.intersect1d(ids, old_ids, assume_unique=True, return_indices=True)
    differs = np.zeros(len(new_at), bool)
    for name in RAW:
        differs |= wanted[name][new_at] != stored[name][old_at]
    changed = new_at[differs]
    added = np.delete(np.arange(len(ids)), new_at)
    removed = np.delete(old_ids, old_at)
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
    return Counts(len(added), len(changed), len(new_at) - len(changed), len(removed)), removed


def remove_vehicles(bulk: BulkConnection, removed: Array, version: int) -> None:
    """Delete vehicles that have no bookings, and remember that they are gone."""
    if not len(removed):
        return
    versions = to_arrow(np.full(len(removed), version))
    bulk.append("deletions", pa.table({"vehicle_id": to_arrow(removed), "row_version": versions}))
    these = f"SELECT vehicle_id FROM deletions WHERE row_version = {version}"  # noqa: S608 - an integer of ours
    bulk.execute(f"DELETE FROM vehicles WHERE vehicle_id IN ({these})")  # noqa: S608 - as above


def replace_bookings(
    bulk: BulkConnection,
    wanted: dict[str, Array],
    version: int,
    *,
    progress: Callable[[str, int, int], None] | None = None,
) -> Counts:
    """Make the bookings equal to ``wanted``: each pair of vehicle and time as often as it stands there."""
    num_wanted = len(wanted["vehicle_id"])
    moment = bulk.microseconds("created_at")
    query = f"SELECT id, vehicle_id, {moment} AS created_at FROM reservations"  # noqa: S608 - our names
    stored = {name: to_numpy(column) for name, column in _columns(bulk.table(query, _BOOKINGS)).items()}
    is_first = not len(stored["id"])
    if is_first:
        _load(bulk, wanted, progress)
        bulk.execute(
            f"UPDATE vehicles SET row_version = {version} WHERE row_version < {version}"  # noqa: S608
            " AND EXISTS (SELECT 1 FROM reservations r WHERE r.vehicle_id = vehicles.vehicle_id)"
        )
        return Counts(added=num_wanted)
    add_at, remove_at = _multiset_difference(wanted, stored)
    if len(remove_at):
        bulk.stage("staged_gone", pa.table({"id": to_arrow(stored["id"][remove_at])}))
        bulk.execute("DELETE FROM reservations WHERE id IN (SELECT id FROM staged_gone)")
    _append(bulk, {name: wanted[name][add_at] for name in ("vehicle_id", "created_at")})
    touched = np.union1d(wanted["vehicle_id"][add_at], stored["vehicle_id"][remove_at])
    if len(touched):
        bulk.stage("staged_touched", pa.table({"vehicle_id": to_arrow(touched)}))
        bulk.execute(
            f"UPDATE vehicles SET row_version = {version}"  # noqa: S608 - an integer of ours
            " WHERE vehicle_id IN (SELECT vehicle_id FROM staged_touched)"
        )
    return Counts(len(add_at), 0, num_wanted - len(add_at), len(remove_at))


def _multiset_difference(wanted: dict[str, Array], stored: dict[str, Array]) -> tuple[Array, Array]:
    """Return which wanted rows are too many for the stored ones, and which stored ones for the wanted."""
    size = len(wanted["vehicle_id"])
    ids = np.concatenate([wanted["vehicle_id"], stored["vehicle_id"]])
    times = np.concatenate([wanted["created_at"], stored["created_at"]])
    order = np.lexsort((times, ids))
    ids, times = ids[order], times[order]
    starts = np.flatnonzero(np.r_[True, (ids[1:] != ids[:-1]) | (times[1:] != times[:-1])])
    is_stored = order >= size
    num_stored = np.add.reduceat(is_stored.astype(np.int64), starts)
    num_all = np.diff(np.r_[starts, len(order)])
    group = np.repeat(np.arange(len(starts)), num_all)
    # rows of a group come wanted first (the sort is stable), so the surplus of each side is its last rows
    rank = np.arange(len(order)) - np.repeat(starts, num_all)
    num_wanted = (num_all - num_stored)[group]
    num_stored = num_stored[group]
    too_many_wanted = ~is_stored & (rank >= num_stored)
    too_many_stored = is_stored & (rank - num_wanted >= num_wanted)
    return order[too_many_wanted], order[too_many_stored] - size


def _load(
    bulk: BulkConnection, rows: dict[str, Array], progress: Callable[[str, int, int], None] | None
) -> None:
    """Fill the empty table in the order of its index, and index it once it is full."""
    done, total = 0, len(rows["vehicle_id"])
    bulk.execute(f"DROP INDEX IF EXISTS {_INDEX}")
    for part in _in_order(rows):
        _append(bulk, part)
        done += len(part["vehicle_id"])
        if progress is not None:
            progress("writing reservations", done, total)
    bulk.execute(f"CREATE INDEX {_INDEX} ON reservations (vehicle_id, created_at)")


def _in_order(rows: dict[str, Array]) -> Iterator[dict[str, Array]]:
    """Give bookings a part at a time: by vehicle and time, where the two fit in one integer.

    To sort such integers is cheap, and to index rows that are in order costs half.
    """
    ids, moments = rows["vehicle_id"], rows["created_at"]
    parts = [slice(start, start + _LOAD_ROWS) for start in range(0, len(ids), _LOAD_ROWS)]
    if not parts:
        return
    first_id, first = int(ids.min()), int(moments.min())
    unit = 1 if any((moments[part] % _SECOND).any() for part in parts) else _SECOND
    bits = ((int(moments.max()) - first) // unit).bit_length()
    is_sortable = bits + (int(ids.max()) - first_id).bit_length() <= _PACKED_BITS
    packed = np.empty(len(ids) if is_sortable else 0, np.int64)
    if is_sortable:
        for part in parts:
            packed[part] = (ids[part] - first_id) << bits | (moments[part] - first) // unit
        packed.sort()
    for part in parts:
        if is_sortable:
            own = packed[part]
            ids_part, moments_part = (own >> bits) + first_id, (own & ((1 << bits) - 1)) * unit + first
        else:
            ids_part, moments_part = ids[part], moments[part]
        yield {"vehicle_id": ids_part, "created_at": moments_part}


def _append(bulk: BulkConnection, rows: dict[str, Array]) -> None:
    """Add bookings."""
    moments = to_arrow(rows["created_at"], None if bulk.is_sqlite else pa.timestamp("us", "UTC"))
    bulk.append("reservations", pa.table({"vehicle_id": to_arrow(rows["vehicle_id"]), "created_at": moments}))


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
