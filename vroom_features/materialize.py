"""Compute the features of the whole fleet and write both stores.

Each run reads one moment of the database.  Parts of the current snapshot whose vehicles did not change are
reused.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from sqlalchemy import Connection, select

from vroom_features.addresses import ServiceAddress
from vroom_features.database.queries import (
    LastChange,
    count_recent,
    deletions,
    get_last_change,
    get_recent,
    vehicles,
)
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import NoSnapshotError, OfflineStoreError, UnreadableSnapshotError
from vroom_features.offline.files import Part
from vroom_features.offline.partition import (
    HIGHEST,
    LOWEST,
    digest_of,
    fleet_rows,
    order_free_checksum,
    read_partition,
    split_ids,
)
from vroom_features.offline.snapshots import OfflineStore, Snapshot
from vroom_features.online.store import OnlineStore
from vroom_features.online.sync import FillReport, fill, wait_for_store
from vroom_features.settings import KEEP_SNAPSHOTS, PARTITION_VEHICLES
from vroom_features.view import VEHICLE_VIEW
from vroom_features.watch import Watch

Range = tuple[int, int]
MapRanges = Callable[[ServiceAddress, ServiceAddress, Sequence[Range]], Iterable[Part]]
"""Makes the parts of ranges in other processes, from the addresses of the database and the offline store."""
Plan = Sequence[tuple[Range, Part | None]]
"""Every range of ids with the part to reuse, or None where it must be made."""
EVERYTHING: Plan = (((LOWEST, HIGHEST), None),)


@dataclass(frozen=True, slots=True)
class MaterializeReport:
    """What a run did; vehicles with a label, and what the online store held and lacked at the end."""

    snapshot_id: str
    digest: str
    num_fleet: int
    num_labels: int
    num_parts: int
    num_parts_written: int
    num_online: int | None
    num_online_written: int
    num_online_removed: int
    num_online_missing: int
    online_warning: str

    @property
    def is_unchanged(self) -> bool:
        """True when both stores were up to date."""
        return not (self.num_parts_written or self.num_online_written or self.num_online_removed)


def materialize(
    source: SourceStore,
    offline: OfflineStore,
    online: OnlineStore | None,
    *,
    now: datetime,
    as_of: datetime | None = None,
    partition_vehicles: int = PARTITION_VEHICLES,
    keep_snapshots: int = KEEP_SNAPSHOTS,
    map_ranges: MapRanges | None = None,
) -> MaterializeReport:
    """Write the fleet to the offline store and the new arrivals to the online store.

    Parameters
    ----------
    source : SourceStore
        Other processes may write to it meanwhile.
    offline : OfflineStore
    online : OnlineStore, optional
        None writes only the offline store.
    now : datetime
        The time of the snapshot and of the rows.
    as_of : datetime, optional
        A past moment, with its zone: the snapshot is of what was saved, held and booked before it, and
        bookings are complete through no later day.  Neither the current snapshot nor the online store
        changes.  Vehicles of CSV files have no history: those whose watch had begun are as they are today.
        Others and deleted ones are not there.
    partition_vehicles : int
        Vehicles in a partition; the result is the same for any.
    keep_snapshots : int
        How many snapshots to keep, with this one.
    map_ranges : callable, optional
        Makes the parts in other processes or on other machines; by default they are made here, one by one.

    Raises
    ------
    SourceStoreError, OfflineStoreError, OnlineStoreError
        If a store cannot be used.  The previous snapshot stays whole, and the next run continues.
    """
    if as_of is not None:
        if as_of > now:
            raise OfflineStoreError(f"expected a moment that is past, got {as_of.isoformat()}")
        as_of = as_of.astimezone(UTC)
        online = map_ranges = None
    if online is not None:
        wait_for_store(source, online)
    with offline.writer_lock():
        previous = _current(offline) if as_of is None else None
        plan: Plan = EVERYTHING
        seen: LastChange | None = None
        if previous is not None and previous.is_of_view:
            damaged = previous.damaged()
            plan = [((p.low, p.high), None if i in damaged else p) for i, p in enumerate(previous.parts)]
            seen = LastChange(previous.database_id, previous.change_number, previous.watch)
        old = {part for _, part in plan if part}
        if map_ranges is not None:  # what changes while others make parts is made again below
            with source.reading() as connection:
                plan = _updated(connection, plan, seen, partition_vehicles)
                seen = get_last_change(connection)
            wanted = [span for span, part in plan if part is None]
            made = {(p.low, p.high): p for p in map_ranges(source.address, offline.root, wanted)}
            plan = [(span, part or made.get(span)) for span, part in plan]
        with source.reading() as connection:
            plan = _updated(connection, plan, seen, partition_vehicles)
            parts = [part or _make_part(connection, offline, *span, as_of=as_of) for span, part in plan]
            snapshot = _snapshot(connection, offline, parts, now, as_of)
        num_written = sum(part not in old for _, part in plan)
        if previous is not None and previous.digest == snapshot.digest and not num_written:
            # Only new arrivals changed, if anything.
            snapshot = replace(snapshot, id=previous.id, created_at=previous.created_at)
        if snapshot != previous:
            offline.publish(snapshot)
            offline.sweep(keep_snapshots)
        filled = fill(source, online, as_of=now) if online else FillReport()
    return MaterializeReport(
        snapshot_id=snapshot.id,
        digest=snapshot.digest,
        num_fleet=snapshot.num_rows,
        num_labels=snapshot.num_labels,
        num_parts=len(parts),
        num_parts_written=num_written,
        **asdict(filled),
    )


def _snapshot(
    connection: Connection,
    offline: OfflineStore,
    parts: Sequence[Part],
    now: datetime,
    as_of: datetime | None,
) -> Snapshot:
    """Return the snapshot of these parts."""
    last, watch = get_last_change(connection), _watch(connection, as_of)
    recent = count_recent(connection, watch) if watch and as_of else get_recent(connection)
    num_rows = sum(part.num_rows for part in parts)
    digest = digest_of((part.sums for part in parts), num_rows, watch=watch)
    name = f"{now:%Y%m%dT%H%M%S%f}" if as_of is None else f"as-of-{as_of:%Y%m%dT%H%M%S}"
    return Snapshot(
        id=f"{name}-{digest[:12]}",
        num_rows=num_rows,
        digest=digest,
        created_at=now,
        source=f"database {last.database_id} at change {last.number}",
        database_id=last.database_id,
        change_number=last.number,
        watch_days=watch.days if watch else None,
        complete_through=watch.complete_through if watch else None,
        num_booked_last=recent.last if recent else None,
        num_booked_before=recent.before if recent else None,
        as_of=as_of,
        parts=tuple(parts),
        files=offline.files,
    )


def make_ranges(
    database: str | ServiceAddress, root: str | ServiceAddress, ranges: Sequence[Range]
) -> list[Part]:
    """Make the parts of some ranges, in another process or on another machine."""
    offline = OfflineStore(root)
    with closing(SourceStore.open(database)) as source, source.reading() as connection:
        return [_make_part(connection, offline, *span) for span in ranges]


def _make_part(
    connection: Connection, offline: OfflineStore, low: int, high: int, *, as_of: datetime | None = None
) -> Part:
    watch = _watch(connection, as_of)
    partition = read_partition(connection, low, high, watch=watch, as_of=as_of)
    rows = fleet_rows(partition, watch=watch)
    num_labels = int(rows[VEHICLE_VIEW.label].notna().sum())
    file, sha256 = offline.write_part(rows)
    return Part(low, high, len(partition), len(rows), num_labels, order_free_checksum(rows), file, sha256)


def _watch(connection: Connection, as_of: datetime | None) -> Watch | None:
    watch = get_last_change(connection).watch
    return watch.ending_by(as_of) if watch and as_of else watch


def _current(offline: OfflineStore) -> Snapshot | None:
    """Return the current snapshot, or None where there is none that this release can read."""
    try:
        return offline.current()
    except (NoSnapshotError, UnreadableSnapshotError):
        return None


def _updated(connection: Connection, plan: Plan, seen: LastChange | None, size: int) -> Plan:
    """Return a plan of an earlier moment without the parts that changed since, in ranges of a size."""
    now = get_last_change(connection)
    changed: set[int] = set()
    if seen is None or replace(seen, number=now.number) != now or seen.number > now.number:
        plan = EVERYTHING  # of a lower number is an older copy of the database that was put back
    elif seen != now:
        lows = [low for (low, _), _ in plan]
        changed = {bisect_right(lows, i) - 1 for i in _changed_ids(connection, seen.number)}
    updated: list[tuple[Range, Part | None]] = []
    for number, (span, part) in enumerate(plan):
        if part is None or number in changed:
            updated += [(each, None) for each in split_ids(connection, *span, size)]
        else:
            updated.append((span, part))
    return updated


def _changed_ids(connection: Connection, since: int) -> Iterator[int]:
    """Yield the ids of vehicles that changed, were booked or were deleted after a change number."""
    for table in (vehicles, deletions):
        query = select(table.c.vehicle_id).where(table.c.row_version > since)
        yield from connection.execute(query).scalars()
