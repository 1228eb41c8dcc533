"""The online store against the whole database at once: fill it, and audit it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from vroom_features import batch
from vroom_features.arrow import to_numpy
from vroom_features.errors import OnlineStoreError
from vroom_features.stores.audits import AuditReport
from vroom_features.stores.bulk import BulkConnection
from vroom_features.stores.online import NUM_BUCKETS, OnlineStore, Synced
from vroom_features.stores.online_rows import VIEW_ID, OnlineRow, decode
from vroom_features.view import VEHICLE_VIEW

CHUNK = 50_000
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_IDS = pa.schema([("vehicle_id", pa.int64())])
_NEW = "source = 'ui' AND NOT EXISTS (SELECT 1 FROM reservations r WHERE r.vehicle_id = vehicles.vehicle_id)"


@dataclass(frozen=True, slots=True)
class Followed:
    """What was done to the online store, and how many rows it should have now."""

    num_rows: int
    num_written: int
    num_removed: int


def follow_bulk(bulk: BulkConnection, online: OnlineStore, *, as_of: datetime) -> Followed:
    """Bring the online store to the state of the database that this transaction sees.

    What was saved after that state has a higher row version, and stays.

    Parameters
    ----------
    bulk : BulkConnection
    online : OnlineStore
    as_of : datetime
        Written down as the rows' time of making.
    """
    database_id = str(bulk.scalar("SELECT database_id FROM database_state"))
    change = int(bulk.scalar("SELECT change_number FROM database_state") or 0)
    num_rows = int(bulk.scalar(f"SELECT COUNT(*) FROM vehicles WHERE {_NEW}") or 0)  # noqa: S608 - constant
    synced = online.synced()
    if synced is not None and synced.database_id != database_id:
        online.clear()
        synced = None
    if synced is not None and synced.view != VIEW_ID:
        synced = None  # every row is there, and made by other functions
    written = removed = 0
    if synced is not None and synced.change_number < change:
        written, removed = _apply(bulk, online, synced.change_number, change, as_of)
    if synced is None or online.stats().num_rows != num_rows:
        more_written, more_removed = _apply(bulk, online, 0, change, as_of)
        written, removed = written + more_written, removed + more_removed
        if online.stats().num_rows != num_rows:
            removed += _remove_orphans(bulk, online, change)
    online.mark_synced(Synced(database_id, change))
    return Followed(num_rows, written, removed)


def audit(bulk: BulkConnection, online: OnlineStore) -> AuditReport:
    """Compare every online row with the pure functions on its database row.

    Rows newer than the moment this transaction sees are left out: they were saved since.
    """
    change = int(bulk.scalar("SELECT change_number FROM database_state") or 0)
    expected: dict[int, dict[int, OnlineRow]] = {bucket: {} for bucket in range(NUM_BUCKETS)}
    for vehicles in _typed_in(bulk, since=0):
        for row in _rows(vehicles, ~vehicles.is_fleet, _LONG_AGO):
            expected[row.vehicle_id % NUM_BUCKETS][row.vehicle_id] = row
    counts = dict.fromkeys(("missing", "stale", "wrong", "orphaned"), 0)
    for bucket, rows in expected.items():
        found = online.bucket(bucket)
        counts["missing"] += len(rows.keys() - found.keys())
        for vehicle_id, value in found.items():
            if difference := _difference(vehicle_id, value, rows.get(vehicle_id), change):
                counts[difference] += 1
    return AuditReport(num_new_arrivals=sum(map(len, expected.values())), **counts)


def _difference(vehicle_id: int, value: bytes, expected: OnlineRow | None, change: int) -> str | None:
    """Say how a stored value differs from the row it should be."""
    try:
        found = decode(vehicle_id, value)
    except OnlineStoreError:
        return "orphaned" if expected is None else "wrong"
    if found.row_version > change:
        return None
    if expected is None:
        return "orphaned"
    if (found.row_version, found.view) != (expected.row_version, expected.view):
        return "stale"
    return None if found._replace(materialized_at=expected.materialized_at) == expected else "wrong"


def _apply(
    bulk: BulkConnection, online: OnlineStore, since: int, change: int, as_of: datetime
) -> tuple[int, int]:
    """Write what changed after a change number, take out what left, and return how many of each."""
    written = removed = 0
    for vehicles in _typed_in(bulk, since=since):
        left = vehicles.columns["vehicle_id"][vehicles.is_fleet].tolist()
        removed += online.delete(left, row_version=change)
        written += online.put(_rows(vehicles, ~vehicles.is_fleet, as_of))
    for gone in bulk.batches(f"SELECT vehicle_id FROM deletions WHERE row_version > {since}"):  # noqa: S608
        removed += online.delete(gone.column(0).to_pylist(), row_version=change)
    return written, removed


def _remove_orphans(bulk: BulkConnection, online: OnlineStore, change: int) -> int:
    """Take out rows of what is no new arrival."""
    known = to_numpy(bulk.table(f"SELECT vehicle_id FROM vehicles WHERE {_NEW}", _IDS)["vehicle_id"])  # noqa: S608
    found = np.fromiter(online.vehicle_ids(), np.int64)
    return online.delete(np.setdiff1d(found, known).tolist(), row_version=change)


def _typed_in(bulk: BulkConnection, *, since: int) -> Iterator[batch.VehicleColumns]:
    """Give typed-in vehicles that changed after a change number, a bounded number at a time."""
    where = f"source = 'ui' AND row_version > {since}"
    ids = bulk.table(f"SELECT vehicle_id FROM vehicles WHERE {where} ORDER BY vehicle_id", _IDS)  # noqa: S608
    found = to_numpy(ids["vehicle_id"])
    for start in range(0, len(found), CHUNK):
        chunk = found[start : start + CHUNK]
        yield batch.read_range(bulk, int(chunk[0]), int(chunk[-1]), where=where)


def _rows(vehicles: batch.VehicleColumns, chosen: batch.Array, as_of: datetime) -> Iterator[OnlineRow]:
    """Compute the chosen vehicles together and give their rows."""
    raw = {name: values[chosen] for name, values in vehicles.columns.items()}
    features = VEHICLE_VIEW.compute(raw)
    batch.check_skew(raw, features)
    values = zip(*(features[name].astype(float).tolist() for name in VEHICLE_VIEW.columns), strict=True)
    named = ("vehicle_id", "row_version", *VEHICLE_VIEW.attributes)
    for own, numbers in zip(zip(*(raw[name].tolist() for name in named), strict=True), values, strict=True):
        vehicle_id, row_version, actual_price, recommended_price = own
        yield OnlineRow(
            vehicle_id=vehicle_id,
            row_version=row_version,
            view=VIEW_ID,
            materialized_at=as_of,
            features=dict(zip(VEHICLE_VIEW.columns, numbers, strict=True)),
            actual_price=actual_price,
            recommended_price=recommended_price,
        )
