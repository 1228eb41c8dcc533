"""Keep the online store equal to the database: new arrivals in, booked and deleted vehicles out.

`sync` applies the changes since the last one in the store; a full sync also repairs what `audit` would find.
Neither needs pandas, so web workers run both.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal, cast

import orjson
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import OnlineStoreError, StoreInUseError
from vroom_features.online.redis_client import memory_info, memory_warning
from vroom_features.online.rows import OnlineRow, decode, online_row
from vroom_features.online.store import BEAT_TTL_S, NUM_BUCKETS, OnlineStore, Synced, translated

logger = logging.getLogger(__name__)
CHUNK = 10_000
"""Vehicles read and rows compared at a time."""

Kind = Literal["missing", "stale", "wrong", "orphaned"]
"""How a row differs, see `AuditReport`."""


@dataclass(frozen=True, slots=True)
class SyncReport:
    """Rows that were written and removed."""

    num_written: int = 0
    num_removed: int = 0

    @property
    def num_changed(self) -> int:
        return self.num_written + self.num_removed


@dataclass(frozen=True, slots=True)
class FillReport:
    """What a full sync did, and what was there at its end: rows, new arrivals without one, a warning."""

    num_online: int | None = None
    num_online_written: int = 0
    num_online_removed: int = 0
    num_online_missing: int = 0
    online_warning: str = ""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """How the online store differs from the pure functions on the database; all 0 when it does not.

    ``missing``: a new arrival has no row.  ``stale``: its row was made from an older version or another
    view.  ``wrong``: its row has other values, or a version that its vehicle never had.  ``orphaned``: a row
    of no new arrival.
    """

    num_new_arrivals: int
    missing: int
    stale: int
    wrong: int
    orphaned: int

    @property
    def num_differences(self) -> int:
        return self.missing + self.stale + self.wrong + self.orphaned

    @property
    def is_clean(self) -> bool:
        return self.num_differences == 0


@dataclass(frozen=True, slots=True)
class LastAudit:
    """An audit and its moment."""

    audited_at: datetime
    report: AuditReport


@dataclass(frozen=True, slots=True)
class Difference:
    """A field of a bucket whose value is not the expected row; either may be missing."""

    kind: Kind
    bucket: int
    field: bytes
    value: bytes | None
    expected: OnlineRow | None


def sync(source: SourceStore, online: OnlineStore, *, as_of: datetime, full: bool) -> SyncReport:
    """Make the online store equal to the database; rows saved meanwhile have a higher version and stay.

    Not ``full`` applies what changed since the last time, and does nothing to a store of another view.
    ``full`` replaces the rows of such a store, and compares every row if their number is wrong or the last
    audit found a difference.  A store without a recorded change is always synced in full; one of another
    database, or of later changes than it has, is filled anew.  ``as_of`` is the rows' ``materialized_at``.
    """
    if full:
        online.drop_foreign_keys()
    synced = online.synced()
    # After the store's: else another sync between them looks like a later history.
    last = source.last_change()
    target = Synced(last.database_id, last.number)
    since, problem = 0, ""
    if synced is None:
        full = True
    elif synced.database_id != target.database_id:
        problem = "the online store held the features of another database, so it is filled anew"
    elif synced.change_number > target.change_number:
        problem = "the database was put back to an earlier change, so the online store is filled anew"
    elif not full and (synced == target or synced.view != target.view):
        return SyncReport()
    elif synced.view == target.view:
        since = synced.change_number
    if problem:
        logger.warning(problem)
        online.clear()
        full = True
    written, removed = _apply_changes(source, online, since, as_of) if since != last.number else (0, 0)
    if full and _needs_repair(source, online):
        for differences in _differences(source, online, as_of):
            written += online.put(d.expected for d in differences if d.value is None and d.expected)
            found = [(d.bucket, d.field, d.value, d.expected) for d in differences if d.value is not None]
            written += online.replace(values for values in found if values[3] is not None)
            removed += online.replace(values for values in found if values[3] is None)
    online.mark_synced(target)
    return SyncReport(written, removed)


def fill(source: SourceStore, online: OnlineStore, *, as_of: datetime) -> FillReport:
    """Sync in full, and count what is there afterwards: Redis may have dropped rows meanwhile."""
    synced = sync(source, online, as_of=as_of, full=True)
    num_rows = online.count_rows()
    num_missing = max(0, source.count_new_arrivals() - num_rows)
    warning = memory_warning(memory_info(online.client))
    return FillReport(num_rows, synced.num_written, synced.num_removed, num_missing, warning)


@retry(
    retry=retry_if_exception_type(StoreInUseError),
    wait=wait_fixed(0.5),
    stop=stop_after_delay(BEAT_TTL_S + 1),
    reraise=True,
)
def wait_for_store(source: SourceStore, online: OnlineStore) -> None:
    """Wait for web workers to see that their database was restored, which makes it another one."""
    online.refuse_another(source.last_change().database_id)


def audit(source: SourceStore, online: OnlineStore, *, as_of: datetime) -> AuditReport:
    """Compare every online row with the pure functions on its database row, and record the result.

    Rows saved during the comparison are not counted.
    """
    counts = Counter(d.kind for differences in _differences(source, online, as_of) for d in differences)
    report = AuditReport(
        source.count_new_arrivals(),
        missing=counts["missing"],
        stale=counts["stale"],
        wrong=counts["wrong"],
        orphaned=counts["orphaned"],
    )
    record_audit(online, report, as_of=as_of)
    return report


def record_audit(online: OnlineStore, report: AuditReport, *, as_of: datetime) -> None:
    """Record an audit in the store itself, so that it is lost with the rows."""
    note = orjson.dumps({"audited_at": as_of, **asdict(report)})
    with translated():
        online.client.set(online.last_audit, note)


def last_audit(online: OnlineStore) -> LastAudit | None:
    """Return the last audit; None when there is none that can be read."""
    with translated():
        note = cast("bytes | None", online.client.get(online.last_audit))
    if note is None:
        return None
    try:
        found = orjson.loads(note)
        audited_at = datetime.fromisoformat(found.pop("audited_at"))
        return LastAudit(audited_at, AuditReport(**{name: int(value) for name, value in found.items()}))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _apply_changes(source: SourceStore, online: OnlineStore, since: int, as_of: datetime) -> tuple[int, int]:
    """Apply the changes after a change number; return how many rows were written and removed."""
    changes = source.changes_since(since, limit=CHUNK)
    written, removed = 0, online.delete(changes.deleted, row_version=changes.change_number)
    while True:
        expected = {
            v.vehicle_id: online_row(v, materialized_at=as_of) for v in changes.vehicles if v.is_new_arrival
        }
        found = online.values(expected)
        written += online.put(row for key, row in expected.items() if _kind(found.get(key), row))
        left = [v.vehicle_id for v in changes.vehicles if not v.is_new_arrival]
        removed += online.delete(left, row_version=changes.change_number)
        if changes.complete:
            return written, removed
        changes = source.changes_since(since, after=changes.vehicles[-1].vehicle_id, limit=CHUNK)


def _needs_repair(source: SourceStore, online: OnlineStore) -> bool:
    """Return whether a row is known to differ, from the number of rows or the last audit."""
    last = last_audit(online)
    has_failed = last is not None and not last.report.is_clean
    return has_failed or online.count_rows() != source.count_new_arrivals()


def _differences(source: SourceStore, online: OnlineStore, as_of: datetime) -> Iterator[list[Difference]]:
    """Compare every row with the expected one, as many buckets at a time as memory allows."""
    before = source.last_change().number
    step = max(1, NUM_BUCKETS * CHUNK // max(source.count_new_arrivals(), CHUNK))
    for start in range(0, NUM_BUCKETS, step):
        buckets = range(start, min(start + step, NUM_BUCKETS))
        expected = {
            (v.vehicle_id % NUM_BUCKETS, b"%d" % v.vehicle_id): online_row(v, materialized_at=as_of)
            for v in source.new_arrivals(buckets, NUM_BUCKETS)
        }
        found = {
            (bucket, field): value for bucket in buckets for field, value in online.bucket(bucket).items()
        }
        # A row is written after its change is saved, so no row can be newer than this change.
        meanwhile = range(before + 1, source.last_change().number + 1)
        yield [
            Difference(kind, *place, found.get(place), expected.get(place))
            for place in expected.keys() | found.keys()
            if (kind := _kind(found.get(place), expected.get(place), meanwhile))
        ]


def _kind(value: bytes | None, expected: OnlineRow | None, meanwhile: range = range(0)) -> Kind | None:
    """Return how a value differs from the expected row; a version saved meanwhile is no difference."""
    if expected is not None and expected.row_version in meanwhile:
        return None
    if value is None:
        return "missing"
    try:
        row = decode(expected.vehicle_id if expected else 0, value)
    except OnlineStoreError:
        return "wrong" if expected else "orphaned"
    if row.row_version in meanwhile:
        return None
    if expected is None:
        return "orphaned"
    if row.row_version < expected.row_version or row.view != expected.view:
        return "stale"
    return None if row._replace(materialized_at=expected.materialized_at) == expected else "wrong"
