"""Compute the features of the whole fleet and write both stores.

Each run reads one moment of the database.  Parts of the current snapshot whose vehicles did not change are
reused.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, select

from vroom_features.addresses import ServiceAddress
from vroom_features.database.queries import count_recent, deletions, get_recent, get_watch, state, vehicles
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
MapRanges = Callable[[ServiceAddress, ServiceAddress, Sequence[Range]], Iterable["WrittenPart"]]
"""Makes the parts of ranges in other processes, from the addresses of the database and the offline store."""


@dataclass(frozen=True, slots=True)
class WrittenPart:
    """A part, and the change number and the watch of the database that was read."""

    part: Part
    change_number: int
    watch: Watch | None


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
        A past moment: the snapshot is of what was saved, held and booked before it, and bookings are complete
        through no later day.  Neither the current snapshot nor the online store changes.  Vehicles of CSV
        files have no history: they are as they are today, and a deleted vehicle is not there.
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
        return _materialize_past(source, offline, now, as_of, partition_vehicles, keep_snapshots)
    if online is not None:
        wait_for_store(source, online)
    with offline.writer_lock():
        previous = _current(offline)
        damaged = previous.damaged() if previous else set()
        elsewhere: dict[Range, WrittenPart] = {}
        if map_ranges is not None:
            with source.reading() as connection:
                plan = _plan(connection, previous, damaged, partition_vehicles)
                wanted = [span for span, part in plan if part is None]
            made = map_ranges(source.address, offline.root, wanted)
            elsewhere = {(m.part.low, m.part.high): m for m in made}
        parts, num_written = [], 0
        with source.reading() as connection:
            change_number = _change_number(connection)
            for span, part in _plan(connection, previous, damaged, partition_vehicles):
                if part is None:
                    found = elsewhere.get(span)
                    is_current = found and not _changed(connection, found, change_number)
                    part = found.part if found and is_current else _make_part(connection, offline, *span)
                    num_written += 1
                parts.append(part)
            snapshot = _snapshot(connection, offline, parts, now)
        if previous is not None and previous.digest == snapshot.digest and not num_written:
            # Only new arrivals changed, if anything.
            snapshot = replace(snapshot, id=previous.id, created_at=previous.created_at)
        if snapshot == previous:
            offline.link(snapshot)  # a store of an earlier release has no such folder
        else:
            offline.publish(snapshot)
            offline.sweep(keep_snapshots)
        filled = fill(source, online, as_of=now) if online else FillReport()
    return _report(snapshot, num_written, filled)


def _materialize_past(
    source: SourceStore,
    offline: OfflineStore,
    now: datetime,
    as_of: datetime,
    partition_vehicles: int,
    keep_snapshots: int,
) -> MaterializeReport:
    if as_of > now:
        raise OfflineStoreError(f"expected a moment that is past, got {as_of.isoformat()}")
    with offline.writer_lock():
        with source.reading() as connection:
            spans = split_ids(connection, LOWEST, HIGHEST, partition_vehicles)
            parts = [_make_part(connection, offline, *span, as_of=as_of) for span in spans]
            snapshot = _snapshot(connection, offline, parts, now, as_of=as_of)
        offline.publish(snapshot)
        offline.sweep(keep_snapshots)
    return _report(snapshot, len(parts), FillReport())


def _snapshot(
    connection: Connection,
    offline: OfflineStore,
    parts: Sequence[Part],
    now: datetime,
    as_of: datetime | None = None,
) -> Snapshot:
    """Return the snapshot of these parts."""
    found = connection.execute(select(state.c.database_id, state.c.change_number)).one()
    watch = _watch(connection, as_of)
    recent = count_recent(connection, watch) if watch and as_of else get_recent(connection)
    num_rows = sum(part.num_rows for part in parts)
    digest = digest_of((part.sums for part in parts), num_rows, watch=watch)
    name = f"{now:%Y%m%dT%H%M%S%f}" if as_of is None else f"as-of-{as_of:%Y%m%dT%H%M%S}"
    return Snapshot(
        id=f"{name}-{digest[:12]}",
        num_rows=num_rows,
        digest=digest,
        created_at=now,
        source=f"database {found.database_id} at change {found.change_number}",
        database_id=found.database_id,
        change_number=found.change_number,
        watch_days=watch.days if watch else None,
        complete_through=watch.complete_through if watch else None,
        num_booked_last=recent.last if recent else None,
        num_booked_before=recent.before if recent else None,
        as_of=as_of,
        parts=tuple(parts),
        files=offline.files,
    )


def _report(snapshot: Snapshot, num_written: int, filled: FillReport) -> MaterializeReport:
    return MaterializeReport(
        snapshot_id=snapshot.id,
        digest=snapshot.digest,
        num_fleet=snapshot.num_rows,
        num_labels=snapshot.num_labels,
        num_parts=len(snapshot.parts),
        num_parts_written=num_written,
        **asdict(filled),
    )


def make_ranges(
    database: str | ServiceAddress, root: str | ServiceAddress, ranges: Sequence[Range]
) -> list[WrittenPart]:
    """Make the parts of some ranges, in another process or on another machine."""
    offline = OfflineStore(root)
    with closing(SourceStore.open(database)) as source, source.reading() as connection:
        change_number = _change_number(connection)
        watch = get_watch(connection)
        return [WrittenPart(_make_part(connection, offline, *span), change_number, watch) for span in ranges]


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
    watch = get_watch(connection)
    return watch.ending_by(as_of) if watch and as_of else watch


def _change_number(connection: Connection) -> int:
    return int(connection.execute(select(state.c.change_number)).scalar_one())


def _current(offline: OfflineStore) -> Snapshot | None:
    """Return the current snapshot, or None where there is none that this release can read."""
    try:
        return offline.current()
    except (NoSnapshotError, UnreadableSnapshotError):
        return None


def _plan(
    connection: Connection, previous: Snapshot | None, damaged: set[int], size: int
) -> Iterator[tuple[Range, Part | None]]:
    """Yield every range of ids with the part to reuse, or None where it must be made."""
    database_id, change_number = connection.execute(select(state.c.database_id, state.c.change_number)).one()
    view = (VEHICLE_VIEW.name, VEHICLE_VIEW.version, VEHICLE_VIEW.columns)
    if (
        previous is None
        or previous.database_id != database_id
        or previous.change_number > change_number  # an older copy of the database was put back
        or previous.watch != get_watch(connection)
        or (previous.view_name, previous.view_version, previous.columns) != view
    ):
        for span in split_ids(connection, LOWEST, HIGHEST, size):
            yield span, None
        return
    touched = set(damaged)
    if previous.change_number != change_number:
        lows = [part.low for part in previous.parts]
        touched |= {bisect_right(lows, i) - 1 for i in _changed_ids(connection, previous.change_number)}
    for number, part in enumerate(previous.parts):
        if number not in touched:
            yield (part.low, part.high), part
            continue
        for span in split_ids(connection, part.low, part.high, size):
            yield span, None


def _changed_ids(connection: Connection, since: int, low: int = LOWEST, high: int = HIGHEST) -> Iterator[int]:
    """Yield the ids of vehicles that changed, were booked or were deleted after a change number."""
    for table in (vehicles, deletions):
        query = select(table.c.vehicle_id).where(table.c.row_version > since)
        yield from connection.execute(query.where(table.c.vehicle_id.between(low, high))).scalars()


def _changed(connection: Connection, made: WrittenPart, change_number: int) -> bool:
    """Return whether a vehicle in a part's range, or the watch of all, changed since it was made."""
    if made.change_number == change_number:
        return False
    if made.watch != get_watch(connection):
        return True
    ids = _changed_ids(connection, made.change_number, made.part.low, made.part.high)
    return next(ids, None) is not None
