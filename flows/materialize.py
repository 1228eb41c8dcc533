"""Seed the source database from the CSVs, then compute the features and write both stores."""

from asyncio import to_thread
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from prefect import State, flow, get_run_logger, task
from prefect.states import Completed

from flows.tasks.endings import ENDS, fails_in_a_sentence
from flows.tasks.partitions import PartitionRunner
from flows.tasks.promotions import is_worth_repeating
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


@task(retries=2, retry_delay_seconds=[1, 5], timeout_seconds=1800, retry_condition_fn=is_worth_repeating)
async def seed_source(
    settings: Settings,
    data_dir: Path,
    *,
    is_asked_for: bool = True,
    allow_removals: bool = False,
    complete_through: date | None = None,
) -> SeedReport | None:
    """Bring the source database up to date with the CSVs; a repeated task changes nothing.

    Returns None, and reads nothing, if nobody named this folder and its sample would replace another fleet.
    """
    with closing(SourceStore.open(settings.source_database)) as source:
        if not is_asked_for and await to_thread(is_sample_over_fleet, source, data_dir):
            return None
        report = await to_thread(
            seed,
            source,
            data_dir,
            max_bad_share=settings.max_bad_share,
            max_removed_vehicle_share=settings.max_removed_vehicle_share,
            max_removed_reservation_share=settings.max_removed_reservation_share,
            allow_removals=allow_removals,
            watch_days=settings.watch_days or None,
            complete_through=complete_through,
        )
    get_run_logger().info("read %s: %s", data_dir, report)
    return report


@task(retries=2, retry_delay_seconds=[1, 5], timeout_seconds=3600, retry_condition_fn=is_worth_repeating)
async def write_stores(settings: Settings, now: datetime) -> MaterializeReport:
    """Write the offline and the online store; a repeated task writes the same."""
    offline = OfflineStore(settings.offline_store)
    online = OnlineStore.connect(settings.redis, settings.redis_prefix)
    with closing(SourceStore.open(settings.source_database)) as source:
        oldest = now - timedelta(days=settings.keep_audit_days)
        AuditLog(source.engine, source.address).delete_old(older_than=oldest)
        report = await to_thread(
            materialize,
            source,
            offline,
            online,
            now=now,
            partition_vehicles=settings.partition_vehicles,
            keep_snapshots=settings.keep_snapshots,
            map_ranges=PartitionRunner(str(settings.dask_address)),
        )
    get_run_logger().info("wrote %s", report)
    return report


@task(retries=2, retry_delay_seconds=[1, 5], timeout_seconds=3600, retry_condition_fn=is_worth_repeating)
async def write_past_snapshot(settings: Settings, as_of: datetime, now: datetime) -> MaterializeReport:
    """Write the snapshot of a past moment beside the others; a repeated task writes the same."""
    offline = OfflineStore(settings.offline_store)
    with closing(SourceStore.open(settings.source_database)) as source:
        report = await to_thread(
            materialize,
            source,
            offline,
            None,
            now=now,
            as_of=as_of,
            partition_vehicles=settings.partition_vehicles,
            keep_snapshots=settings.keep_snapshots,
        )
    get_run_logger().info("wrote %s", report)
    return report


@task(retries=2, retry_delay_seconds=[1, 5], timeout_seconds=1800)
async def audit_online(settings: Settings, as_of: datetime) -> AuditReport:
    """Compare every online row with the pure functions, and keep the result."""
    report = await to_thread(_audit_online, settings, as_of)
    get_run_logger().info("compared the online store with the database: %s", report)
    return report


def _audit_online(settings: Settings, as_of: datetime) -> AuditReport:
    with (
        closing(OnlineStore.connect(settings.redis, settings.redis_prefix)) as online,
        closing(SourceStore.open(settings.source_database)) as source,
    ):
        return audit(source, online, as_of=as_of)


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
        past = await write_past_snapshot(settings, end_of_past_day(as_of, now), now)
        about = "The last snapshot of a past day"
        await keep_table(f"The end of {as_of}", asdict(past), key="materialize-past", about=about)
        return Completed(message=f"snapshot {past.snapshot_id} of the end of {as_of}: {_fleet(past)}")
    folder = Path(data_dir) if data_dir else settings.data_dir
    is_asked_for = bool(data_dir) or settings.is_data_dir_set
    seeded = await seed_source(
        settings,
        folder,
        is_asked_for=is_asked_for,
        allow_removals=allow_removals,
        complete_through=complete_through,
    )
    now = datetime.now(UTC)
    written = await write_stores(settings, now)
    publish(settings, VehicleMaterialized(vehicle_ids=(), materialized_at=now))
    audited = await audit_online(settings, datetime.now(UTC))
    report = {
        "read from": folder if seeded else "nothing",
        **(asdict(seeded) if seeded else {}),
        **asdict(written),
        "online rows that differ": audited.num_differences,
    }
    about = "What the last materialization read from the CSV files and wrote to both stores"
    await keep_table("Materialized", report, key="materialize", about=about)
    return Completed(message=_summary(seeded, written))


def _summary(seeded: SeedReport | None, written: MaterializeReport) -> str:
    if seeded is None:
        read = (
            "the fleet is kept, for the sample replaces it only by"
            " `python -m vroom_features seed --allow-removals`"
        )
    elif seeded.is_unchanged:
        read = "the database was up to date"
    else:
        read = (
            f"vehicles: {seeded.vehicles_added:,} added, {seeded.vehicles_updated:,} updated, "
            f"{seeded.vehicles_removed:,} removed, {seeded.vehicles_quarantined:,} quarantined; "
            f"reservations: {seeded.reservations_added:,} added, {seeded.reservations_removed:,} removed, "
            f"{seeded.reservations_quarantined:,} quarantined"
        )
    if seeded and (seeded.vehicles_kept or seeded.reservations_kept):
        vehicles = counted(seeded.vehicles_kept, "vehicle")
        read += (
            f"; {vehicles} and {counted(seeded.reservations_kept, 'reservation')} kept because of bad rows"
        )
    if seeded and seeded.reservations_set_aside:
        bookings = counted(seeded.reservations_set_aside, "reservation")
        read += f"; {bookings} set aside until the row of their vehicle is right"
    if seeded and seeded.has_new_watch:
        matured = counted(seeded.vehicles_matured, "vehicle")
        read += f"; bookings are complete through {seeded.complete_through}: the watch of {matured} ended"
    if seeded and seeded.has_new_length:
        read += f"; a watch is {seeded.watch_days} days long now, so train a new model"
    if seeded and seeded.assumed:
        read += f"; {'; '.join(seeded.assumed)}"
    stores = "the stores were up to date" if written.is_unchanged else f"snapshot {written.snapshot_id}"
    online = counted(written.num_online or 0, "new arrival")
    if written.num_online_missing:
        online += f", {counted(written.num_online_missing, 'new arrival')} missing in Redis"
    warning = f"; {written.online_warning}" if written.online_warning else ""
    return f"{read}; {stores}: {_fleet(written)}, {online}{warning}"


def _fleet(written: MaterializeReport) -> str:
    fleet = counted(written.num_fleet, "fleet vehicle")
    under_watch = written.num_fleet - written.num_labels
    return f"{fleet}, {under_watch:,} of them under watch" if under_watch else fleet
