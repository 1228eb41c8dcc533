"""Seed the source database from the CSVs, then compute the features and write both stores."""

from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from prefect import State, flow, get_run_logger
from prefect.states import Completed

from flows.tasks.endings import ENDS, fails_in_a_sentence
from flows.tasks.partitions import PartitionRunner
from flows.tasks.promotions import library_task
from flows.tasks.reports import counted, keep_table, publish
from vroom_features.database.audit_log import AuditLog
from vroom_features.database.vehicles import SourceStore
from vroom_features.ingest.seed import FILES, SeedReport, digest_of, has_fleet, last_seed, seed
from vroom_features.materialize import MaterializeReport, materialize
from vroom_features.messages import VehicleMaterialized
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.online.store import OnlineStore
from vroom_features.online.sync import AuditReport, audit
from vroom_features.settings import SAMPLE_DIR, Settings, read_settings
from vroom_features.watch import end_of_past_day


@library_task(timeout_s=1800)
def seed_source(
    settings: Settings,
    data_dir: Path | str | None,
    *,
    now: datetime,
    allow_removals: bool = False,
    complete_through: date | None = None,
) -> SeedReport | None:
    """Bring the source database up to date with the CSVs; a repeated task changes nothing.

    Returns None, and reads nothing, if nobody named this folder and its sample would replace another fleet.
    """
    folder = Path(data_dir or settings.data_dir)
    is_asked_for = data_dir or settings.is_data_dir_set
    with closing(SourceStore.open(settings.source_database)) as source:
        if not is_asked_for and is_sample_over_fleet(source, folder):
            return None
        report = seed(
            source,
            folder,
            max_bad_share=settings.max_bad_share,
            max_removed_vehicle_share=settings.max_removed_vehicle_share,
            max_removed_reservation_share=settings.max_removed_reservation_share,
            allow_removals=allow_removals,
            watch_days=settings.watch_days or None,
            complete_through=complete_through,
            now=now,
        )
    get_run_logger().info("read %s: %s", folder, report)
    return report


@library_task(timeout_s=3600)
def write_stores(settings: Settings, now: datetime, as_of: datetime | None = None) -> MaterializeReport:
    """Write both stores, or the snapshot of a past moment beside the others, and delete old audit lines.

    Repeated it writes the same.
    """
    redis = nullcontext() if as_of else closing(OnlineStore.connect(settings.redis, settings.redis_prefix))
    with redis as online, closing(SourceStore.open(settings.source_database)) as source:
        oldest = now - timedelta(days=settings.keep_audit_days)
        AuditLog(source.engine, source.address).delete_old(older_than=oldest)
        report = materialize(
            source,
            OfflineStore(settings.offline_store),
            online,
            now=now,
            as_of=as_of,
            partition_vehicles=settings.partition_vehicles,
            keep_snapshots=settings.keep_snapshots,
            map_ranges=PartitionRunner(str(settings.dask_address)),
        )
    get_run_logger().info("wrote %s", report)
    return report


@library_task(timeout_s=1800)
def audit_online(settings: Settings, as_of: datetime) -> AuditReport:
    """Compare every online row with the pure functions, and keep the result."""
    with (
        closing(OnlineStore.connect(settings.redis, settings.redis_prefix)) as online,
        closing(SourceStore.open(settings.source_database)) as source,
    ):
        report = audit(source, online, as_of=as_of)
    get_run_logger().info("compared the online store with the database: %s", report)
    return report


def holds_sample(source: SourceStore) -> bool:
    """Return whether the last seed was that of the sample in ``data``."""
    return last_seed(source) == _sample_digest()


def is_sample_over_fleet(source: SourceStore, data_dir: Path) -> bool:
    """Return whether seeding would replace a fleet that is not the sample by the sample."""
    if holds_sample(source) or not has_fleet(source):
        return False
    return digest_of(data_dir) == _sample_digest()


def _sample_digest() -> str:
    """Return the digest of the files as the generator wrote them, whatever is in their place now."""
    lines = (SAMPLE_DIR / "SHA256SUMS").read_text().splitlines()
    sums = {name: sha256 for sha256, name in map(str.split, lines)}
    return "".join(sums[name][:32] for name in FILES)


@flow(name="vroom_forecast_materialize", timeout_seconds=7200, **ENDS)
@fails_in_a_sentence
async def vroom_forecast_materialize(
    data_dir: str | None = None,
    *,
    allow_removals: bool = False,
    complete_through: date | None = None,
    as_of: date | None = None,
) -> State[None]:
    """Seed, then materialize.

    Args:
        data_dir: Folder with ``vehicles.csv`` and ``reservations.csv``; by default the setting
            ``VROOM_DATA_DIR``. Without either, the sample in ``data`` replaces no other fleet.
        allow_removals: Remove whatever the files lack, however much it is. Otherwise a seed that would remove
            more of the database than ``VROOM_MAX_REMOVED_VEHICLE_SHARE`` or
            ``VROOM_MAX_REMOVED_RESERVATION_SHARE`` is refused.
        complete_through: Day through which bookings are complete; by default that of the last booking of a
            vehicle of the CSV files.
        as_of: A past day (UTC). Seeds nothing and leaves both stores as they are: makes the snapshot of the
            end of that day alone, for training and comparing in the past.
    """
    settings = read_settings()
    if as_of is not None:
        now = datetime.now(UTC)
        past = await write_stores(settings, now, end_of_past_day(as_of, now))
        about = "The last snapshot of a past day"
        await keep_table(f"The end of {as_of}", asdict(past), key="materialize-past", about=about)
        return Completed(message=f"snapshot {past.snapshot_id} of the end of {as_of}: {_fleet(past)}")
    seeded = await seed_source(
        settings,
        data_dir,
        now=datetime.now(UTC),
        allow_removals=allow_removals,
        complete_through=complete_through,
    )
    now = datetime.now(UTC)
    written = await write_stores(settings, now)
    publish(settings, VehicleMaterialized(materialized_at=now))
    audited = await audit_online(settings, datetime.now(UTC))
    report = {
        "read from": data_dir or settings.data_dir if seeded else "nothing",
        **(asdict(seeded) if seeded else {}),
        **asdict(written),
        "online rows that differ": audited.num_differences,
    }
    about = "What the last materialization read from the CSV files and wrote to both stores"
    await keep_table("Materialized", report, key="materialize", about=about)
    return Completed(message=_summary(seeded, written))


def _summary(seeded: SeedReport | None, written: MaterializeReport) -> str:
    stores = "the stores were up to date" if written.is_unchanged else f"snapshot {written.snapshot_id}"
    online = counted(written.num_online or 0, "new arrival")
    if written.num_online_missing:
        online += f", {counted(written.num_online_missing, 'new arrival')} missing in Redis"
    parts = [*_read(seeded), f"{stores}: {_fleet(written)}, {online}", written.online_warning]
    return "; ".join(filter(None, parts))


def _read(seeded: SeedReport | None) -> Iterator[str]:
    """Yield what was done with the rows of the files."""
    if seeded is None:
        command = "python -m vroom_features seed --allow-removals"
        yield f"the fleet is kept, for the sample replaces it only by `{command}`"
        return
    if seeded.is_unchanged:
        yield "the database was up to date"
    else:
        yield (
            f"vehicles: {seeded.vehicles_added:,} added, {seeded.vehicles_updated:,} updated, "
            f"{seeded.vehicles_removed:,} removed, {seeded.vehicles_quarantined:,} quarantined"
        )
        yield (
            f"reservations: {seeded.reservations_added:,} added, {seeded.reservations_removed:,} removed, "
            f"{seeded.reservations_quarantined:,} quarantined"
        )
    if seeded.vehicles_kept or seeded.reservations_kept:
        bookings = counted(seeded.reservations_kept, "reservation")
        yield f"{counted(seeded.vehicles_kept, 'vehicle')} and {bookings} kept because of bad rows"
    if number := seeded.reservations_set_aside:
        yield f"{counted(number, 'reservation')} set aside until the row of their vehicle is right"
    if seeded.has_new_watch:
        matured = counted(seeded.vehicles_matured, "vehicle")
        yield f"bookings are complete through {seeded.complete_through}: the watch of {matured} ended"
    if seeded.has_new_length:
        yield f"a watch is {seeded.watch_days} days long now, so train a new model"
    yield from seeded.assumed


def _fleet(written: MaterializeReport) -> str:
    fleet = counted(written.num_fleet, "fleet vehicle")
    under_watch = written.num_fleet - written.num_labels
    return f"{fleet}, {under_watch:,} of them under watch" if under_watch else fleet
