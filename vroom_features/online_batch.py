"""The online store against the whole database at once: fill it, audit it, and repair what differs."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pyarrow as pa

from vroom_features import batch
from vroom_features.arrow import to_numpy
from vroom_features.errors import OnlineStoreError
from vroom_features.stores.audits import AuditReport, last_audit
from vroom_features.stores.bulk import BulkConnection, bulk_transaction
from vroom_features.stores.online import NUM_BUCKETS, OnlineStore, Synced
from vroom_features.stores.online_rows import VIEW_ID, OnlineRow, decode
from vroom_features.view import VEHICLE_VIEW

CHUNK = 50_000
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_IDS = pa.schema([("vehicle_id", pa.int64())])
_TYPED_IN = "source = 'ui'"
_NEW = "source = 'ui' AND NOT EXISTS (SELECT 1 FROM reservations r WHERE r.vehicle_id = vehicles.vehicle_id)"

Buckets = dict[int, dict[bytes, OnlineRow]]


@dataclass(frozen=True, slots=True)
class Followed:
    """What was done to the online store, and how many rows it should have now."""

    num_rows: int
    num_written: int
    num_removed: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A field of a bucket that is not what it should be, without a value or without an expected row.

    ``kind`` is a count of ``AuditReport``, or ``newer``: saved since the moment that was compared.
    """

    kind: str
    bucket: int
    field: bytes
    value: bytes | None
    expected: OnlineRow | None
    row_version: int = 0


def follow_bulk(bulk: BulkConnection, online: OnlineStore, *, as_of: datetime) -> Followed:
    """Bring the online store to the state of the database that this transaction sees.

    What was saved after that state has a higher row version, and stays.  Where the number of rows is not
    what it should be, or the last audit found a difference, every row is compared, and exactly the values
    that differ are repaired, while they are what was found.

    Parameters
    ----------
    bulk : BulkConnection
    online : OnlineStore
    as_of : datetime
        Written down as the rows' time of making.
    """
    database_id = str(bulk.scalar("SELECT database_id FROM database_state"))
    change = _change(bulk)
    online.drop_foreign_keys()
    synced = online.synced()
    if synced is not None and synced.database_id != database_id:
        online.clear()
        synced = None
    since = synced.change_number if synced is not None and synced.view == VIEW_ID else 0
    written, removed = _apply(bulk, online, since, change, as_of) if since < change else (0, 0)
    num_rows = int(bulk.scalar(f"SELECT COUNT(*) FROM vehicles WHERE {_NEW}") or 0)  # noqa: S608 - constant
    looked = last_audit(online)
    if online.stats().num_rows != num_rows or (looked is not None and not looked.report.is_clean):
        more_written, more_removed = _repair(bulk, online, change, as_of)
        written, removed = written + more_written, removed + more_removed
    online.mark_synced(Synced(database_id, change))
    return Followed(num_rows, written, removed)


def _repair(bulk: BulkConnection, online: OnlineStore, change: int, as_of: datetime) -> tuple[int, int]:
    """Put right whatever an audit would find, and return how many rows were written and removed."""
    written = removed = 0
    for expected in _expected(bulk, as_of):
        differences = list(_differences(bulk, online, expected, change))
        written += online.put(d.expected for d in differences if d.value is None and d.expected)
        found = [(d.bucket, d.field, d.value, d.expected) for d in differences if d.value is not None]
        written += online.replace(values for values in found if values[3] is not None)
        removed += online.replace(values for values in found if values[3] is None)
    return written, removed


def audit(bulk: BulkConnection, online: OnlineStore) -> AuditReport:
    """Compare every online row with the pure functions on its database row.

    Rows newer than the moment this transaction sees are left out: they were saved since.  One that is newer
    than the database itself is not what was written.
    """
    change = _change(bulk)
    num_new_arrivals, counts = 0, Counter[str]()
    for expected in _expected(bulk, _LONG_AGO):
        num_new_arrivals += sum(map(len, expected.values()))
        counts.update(difference.kind for difference in _differences(bulk, online, expected, change))
    kinds = ("missing", "stale", "wrong", "orphaned")
    return AuditReport(num_new_arrivals, **{kind: counts[kind] for kind in kinds})


def _change(bulk: BulkConnection) -> int:
    """Return the last change that a transaction sees."""
    return int(bulk.scalar("SELECT change_number FROM database_state") or 0)


def _expected(bulk: BulkConnection, as_of: datetime) -> Iterator[Buckets]:
    """Give the rows that the store should hold, so many buckets at a time that memory stays bounded."""
    num_rows = int(bulk.scalar(f"SELECT COUNT(*) FROM vehicles WHERE {_TYPED_IN}") or 0)  # noqa: S608 - constant
    step = max(1, NUM_BUCKETS * CHUNK // max(num_rows, CHUNK))
    for start in range(0, NUM_BUCKETS, step):
        end = min(start + step, NUM_BUCKETS)
        expected: Buckets = {bucket: {} for bucket in range(start, end)}
        where = f"{_TYPED_IN} AND vehicle_id % {NUM_BUCKETS} BETWEEN {start} AND {end - 1}"
        for vehicles in _vehicles(bulk, where):
            for row in _rows(vehicles, ~vehicles.is_fleet, as_of):
                expected[row.vehicle_id % NUM_BUCKETS][b"%d" % row.vehicle_id] = row
        yield expected


def _differences(
    bulk: BulkConnection, online: OnlineStore, expected: Buckets, change: int
) -> Iterator[Difference]:
    """Compare buckets with what they should hold, and give every difference."""
    newer = []
    for bucket, rows in expected.items():
        found = online.bucket(bucket)
        for field in rows.keys() - found.keys():
            yield Difference("missing", bucket, field, None, rows[field])
        for field, value in found.items():
            difference = _difference(bucket, field, value, rows.get(field), change)
            if difference is None:
                continue
            if difference.kind == "newer":
                newer.append(difference)
            else:
                yield difference
    if not newer:
        return
    with bulk_transaction(
        bulk.address
    ) as later:  # a row is saved after its change: none can be ahead of this
        newest = _change(later)
    for difference in newer:
        if difference.row_version > newest:
            yield replace(difference, kind="orphaned" if difference.expected is None else "wrong")


def _difference(
    bucket: int, field: bytes, value: bytes, expected: OnlineRow | None, change: int
) -> Difference | None:
    """Say how a stored value differs from the row it should be."""
    try:
        found = decode(expected.vehicle_id if expected else 0, value)
    except OnlineStoreError:
        kind = "orphaned" if expected is None else "wrong"
        return Difference(kind, bucket, field, value, expected)
    if found.row_version > change:
        kind = "newer"
    elif expected is None:
        kind = "orphaned"
    elif (found.row_version, found.view) != (expected.row_version, expected.view):
        kind = "stale"
    elif found._replace(materialized_at=expected.materialized_at) != expected:
        kind = "wrong"
    else:
        return None
    return Difference(kind, bucket, field, value, expected, found.row_version)


def _apply(
    bulk: BulkConnection, online: OnlineStore, since: int, change: int, as_of: datetime
) -> tuple[int, int]:
    """Write what changed after a change number, take out what left, and return how many of each."""
    written = removed = 0
    for vehicles in _vehicles(bulk, f"{_TYPED_IN} AND row_version > {since}"):
        left = vehicles.columns["vehicle_id"][vehicles.is_fleet].tolist()
        removed += online.delete(left, row_version=change)
        written += online.put(_rows(vehicles, ~vehicles.is_fleet, as_of))
    for gone in bulk.batches(f"SELECT vehicle_id FROM deletions WHERE row_version > {since}"):  # noqa: S608
        removed += online.delete(gone.column(0).to_pylist(), row_version=change)
    return written, removed


def _vehicles(bulk: BulkConnection, where: str) -> Iterator[batch.VehicleColumns]:
    """Give the vehicles of which a condition is true, a bounded number at a time."""
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
        vehicle_id, row_version, *attributes = own
        yield OnlineRow(
            vehicle_id=vehicle_id,
            row_version=row_version,
            view=VIEW_ID,
            materialized_at=as_of,
            features=dict(zip(VEHICLE_VIEW.columns, numbers, strict=True)),
            attributes=dict(zip(VEHICLE_VIEW.attributes, attributes, strict=True)),
        )
