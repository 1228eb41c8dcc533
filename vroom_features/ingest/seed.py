"""Seed the source database from ``vehicles.csv`` and ``reservations.csv``.

After a seed the csv vehicles and all bookings are those of the files: changed rows are updated, new ones
added, absent ones removed.  Vehicles of the web form stay, and so does whatever a bad row may describe.  A
seed is one transaction, and the same files again change nothing.
"""

from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import func, select, update

from vroom_features.database.bulk import read_frame
from vroom_features.database.queries import (
    count_recent,
    count_vehicles,
    get_last_change,
    reservations,
    state,
    vehicles,
)
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import DataContractError
from vroom_features.ingest.contract import (
    VEHICLE_COLUMNS,
    CheckedFile,
    reservation_columns,
    sort_out_unknown,
    write_quarantine,
)
from vroom_features.ingest.csv_files import Progress, check_file, file_sha256, find_csv
from vroom_features.ingest.upsert import (
    compare_bookings,
    mass_removal,
    remove_vehicles,
    upsert_vehicles,
    write_bookings,
)
from vroom_features.ingest.watch import WatchUpdate, booked_days
from vroom_features.settings import MAX_BAD_SHARE, MAX_REMOVED_RESERVATION_SHARE, MAX_REMOVED_VEHICLE_SHARE
from vroom_features.watch import FIRST_DAY, Watch

FILES = ("vehicles.csv", "reservations.csv")


@dataclass(frozen=True, slots=True)
class SeedReport:
    """What a seed did with each file's rows.

    ``removed`` and ``kept`` rows were in the database and are not in the file; a bad row may describe those
    kept.  Bookings are ``set_aside`` if a bad row may describe their vehicle.  ``watch_days`` and
    ``complete_through`` are the new watch; ``vehicles_matured`` got a training label by it.  ``assumed`` says
    how the files were read where they are not in the plain form.
    """

    vehicles_added: int = 0
    vehicles_updated: int = 0
    vehicles_unchanged: int = 0
    vehicles_removed: int = 0
    vehicles_kept: int = 0
    vehicles_quarantined: int = 0
    reservations_added: int = 0
    reservations_unchanged: int = 0
    reservations_removed: int = 0
    reservations_kept: int = 0
    reservations_quarantined: int = 0
    reservations_set_aside: int = 0
    watch_days: int | None = None
    complete_through: str | None = None
    vehicles_matured: int = 0
    has_new_watch: bool = False
    has_new_length: bool = False
    quarantine: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()

    @property
    def is_unchanged(self) -> bool:
        """True when the database was up to date."""
        changed = (
            self.vehicles_added,
            self.vehicles_updated,
            self.vehicles_removed,
            self.reservations_added,
            self.reservations_removed,
            self.has_new_watch,
        )
        return not any(changed)


def seed(
    source: SourceStore,
    data_dir: Path | str,
    *,
    max_bad_share: float = MAX_BAD_SHARE,
    max_removed_vehicle_share: float = MAX_REMOVED_VEHICLE_SHARE,
    max_removed_reservation_share: float = MAX_REMOVED_RESERVATION_SHARE,
    allow_removals: bool = False,
    watch_days: int | None = None,
    complete_through: date | None = None,
    now: datetime | None = None,
    progress: Progress | None = None,
) -> SeedReport:
    """Make the csv vehicles and all bookings of the database those of the two files.

    Parameters
    ----------
    source : SourceStore
    data_dir : Path or str
        Folder with ``vehicles.csv`` and ``reservations.csv``, either may be gzipped.
    max_bad_share : float
        Refuse a file with more bad rows than this share of its rows.  Bad rows are listed in the folder
        ``quarantine`` next to a SQLite database, else in ``data_dir``.
    max_removed_vehicle_share, max_removed_reservation_share : float
        Refuse to remove more than this share of the csv vehicles, or of the bookings, in the database.
    allow_removals : bool
        Remove whatever the files lack, however much it is.
    watch_days : int, optional
        Length of a watch; by default as it was, and at the first seed the days that the csv vehicles'
        bookings span.
    complete_through : date, optional
        The day through which bookings are complete, from 2000 to today; by default that of the csv vehicles'
        last booking.
    now : datetime, optional
        In UTC.  Bookings more than a day after it are bad rows; by default no day is too late.
    progress : callable, optional

    Raises
    ------
    DataContractError
        If a file or ``complete_through`` is refused, or too much would be removed; the database is unchanged.
    SourceStoreError
        If the database cannot be written; it is unchanged.
    """

    def told(watch: Watch) -> Watch:
        return Watch(watch_days or watch.days, complete_through or watch.complete_through)

    today = now.date() if now else date.max
    if complete_through is not None and not FIRST_DAY <= complete_through <= today:
        raise DataContractError(
            f"expected complete_through from {FIRST_DAY} to today, got {complete_through}; today is {today}"
        )
    data_dir = Path(data_dir)
    vehicle_path, reservation_path = (find_csv(data_dir, name) for name in FILES)
    digest = digest_of(data_dir)
    watch = source.watch()
    if digest == last_seed(source) and (watch is None or told(watch) == watch):
        return _unchanged(source)
    vehicle_file = check_file(vehicle_path, VEHICLE_COLUMNS, progress=progress)
    booking_file = check_file(reservation_path, reservation_columns(now), progress=progress)
    notes = {vehicle_path.name: vehicle_file.notes, reservation_path.name: booking_file.notes}
    is_sqlite = source.engine.dialect.name == "sqlite"
    quarantine = (Path(str(source.engine.url.database)).parent if is_sqlite else data_dir) / "quarantine"
    with source.writing() as connection:
        of_form = select(vehicles.c.vehicle_id).where(vehicles.c.source == "ui")
        from_form = read_frame(connection, of_form)["vehicle_id"]
        wanted = _in_order(vehicle_file)
        rejected = write_quarantine(vehicle_path, vehicle_file, quarantine, max_bad_share)
        last = get_last_change(connection)
        version = last.number + 1
        days = booked_days(booking_file.columns, wanted.index.union(pd.Index(vehicle_file.bad_ids)))
        is_first = connection.execute(select(reservations.c.vehicle_id).limit(1)).first() is None
        new_watch = WatchUpdate.plan(last.watch, days, told, is_first=is_first)
        fleet = upsert_vehicles(connection, wanted, version, watch_start=new_watch.start)
        is_kept = vehicle_file.may_have_bad_rows(fleet.absent.to_numpy())
        known = [ids.to_numpy() for ids in (wanted.index, from_form, fleet.absent[is_kept])]
        del wanted  # the bookings take the memory
        num_set_aside = sort_out_unknown(booking_file, known, vehicle_file)
        rejected += write_quarantine(reservation_path, booking_file, quarantine, max_bad_share)
        bookings = compare_bookings(connection, booking_file.take_columns())
        is_kept_booking = booking_file.may_have_bad_rows(bookings.absent["vehicle_id"].to_numpy())
        kept, removed = bookings.absent[is_kept_booking], bookings.absent[~is_kept_booking]
        is_kept |= np.isin(fleet.absent, np.concatenate([booking_file.bad_ids, kept["vehicle_id"]]))
        removed_vehicles = fleet.absent[~is_kept]
        if not allow_removals:
            num_vehicles = fleet.num_updated + fleet.num_unchanged + len(fleet.absent)
            rows = pd.DataFrame({"vehicle_id": removed_vehicles})
            too_many = (
                mass_removal("vehicle", rows, num_vehicles, max_removed_vehicle_share),
                mass_removal("reservation", removed, bookings.num_stored, max_removed_reservation_share),
            )
            if problem := "; and ".join(filter(None, too_many)):  # a file may have been cut short
                raise DataContractError(
                    f"the files in {data_dir} lack {problem}. Nothing was changed."
                    " Give the whole files; if these rows are to go, run python -m vroom_features seed"
                    " --allow-removals, or the flow vroom_forecast_materialize with allow_removals=true"
                )
        if len(removed) == bookings.num_stored:  # another fleet
            new_watch = WatchUpdate.plan(new_watch.before, days, told, is_first=True)
        write_bookings(connection, bookings.added, removed, version, is_first=is_first, progress=progress)
        remove_vehicles(connection, removed_vehicles, version)
        num_matured = new_watch.write(connection, version)
        report = SeedReport(
            vehicles_added=fleet.num_added,
            vehicles_updated=fleet.num_updated,
            vehicles_unchanged=fleet.num_unchanged,
            vehicles_removed=len(removed_vehicles),
            vehicles_kept=int(is_kept.sum()),
            vehicles_quarantined=vehicle_file.num_bad,
            reservations_added=len(bookings.added),
            reservations_unchanged=bookings.num_stored - len(bookings.absent),
            reservations_removed=len(removed),
            reservations_kept=len(kept),
            reservations_quarantined=booking_file.num_bad,
            reservations_set_aside=num_set_aside,
            vehicles_matured=num_matured,
            has_new_watch=new_watch.after != new_watch.before,
            has_new_length=new_watch.has_new_length,
            **_of_watch(new_watch.after),
            quarantine=tuple(map(str, rejected)),
            assumed=tuple(f"{name}: {note}" for name, found in notes.items() for note in found),
        )
        change_number = state.c.change_number + int(not report.is_unchanged)
        seeded_from = "" if rejected else digest
        connection.execute(update(state).values(seed_digest=seeded_from, change_number=change_number))
        if new_watch.after is not None:
            recent = count_recent(connection, new_watch.after)
            counts = {"num_booked_last": recent.last, "num_booked_before": recent.before}
            connection.execute(update(state).values(counts))
    return report


def last_seed(source: SourceStore) -> str:
    """Return the digest of the files that the database was last seeded from; empty when there is none."""
    with source.reading() as connection:
        return str(connection.execute(select(state.c.seed_digest)).scalar_one())


def has_fleet(source: SourceStore) -> bool:
    """Return whether the database has vehicles of a CSV."""
    some = select(vehicles.c.vehicle_id).where(vehicles.c.source == "csv").limit(1)
    with source.reading() as connection:
        return connection.execute(some).first() is not None


def digest_of(data_dir: Path | str) -> str:
    """Return the digest of the files in a folder; DataContractError if one is missing."""
    return "".join(file_sha256(find_csv(Path(data_dir), name))[:32] for name in FILES)


def _unchanged(source: SourceStore) -> SeedReport:
    """Return the report of a seed that had nothing to do."""
    with source.reading() as connection:
        num_vehicles = connection.execute(count_vehicles().where(vehicles.c.source == "csv")).scalar_one()
        num_bookings = connection.execute(select(func.count()).select_from(reservations)).scalar_one()
    return SeedReport(
        vehicles_unchanged=num_vehicles, reservations_unchanged=num_bookings, **_of_watch(source.watch())
    )


def _of_watch(watch: Watch | None) -> dict[str, Any]:
    """Return the fields of a report about the watch."""
    if watch is None:
        return {}
    return {"watch_days": watch.days, "complete_through": watch.complete_through.isoformat()}


def _in_order(file: CheckedFile) -> pd.DataFrame:
    """Return the vehicles on their ids, in order; of rows with the same id, the first counts."""
    file.reject(file.columns["vehicle_id"].duplicated(), "an earlier row has this id")
    return file.take_columns().set_index("vehicle_id").sort_index()
