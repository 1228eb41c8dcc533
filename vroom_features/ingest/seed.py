"""Seed the source database from ``vehicles.csv`` and ``reservations.csv``.

After a seed the vehicles of source ``'csv'`` and all bookings are those of the files: rows that changed are
updated, new ones added, ones that left the files removed.  Vehicles that were typed in stay.  What a bad row
may have been about stays as it was, too.  It is one transaction, and the same files again change nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from sqlalchemy import Connection, func, select, true, update

from vroom_features.database.bulk import read_frame
from vroom_features.database.queries import reservations as reservations_table
from vroom_features.database.queries import state
from vroom_features.database.queries import vehicles as vehicles_table
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import DataContractError
from vroom_features.ingest.contract import (
    RESERVATION_COLUMNS,
    VEHICLE_COLUMNS,
    CheckedFile,
    sort_out_unknown,
    write_quarantine,
)
from vroom_features.ingest.csv_files import check_file, file_sha256, find_csv
from vroom_features.ingest.upsert import (
    Counts,
    Removal,
    compare_bookings,
    refuse_mass_removal,
    remove_vehicles,
    upsert_vehicles,
    write_bookings,
)
from vroom_features.settings import MAX_BAD_SHARE, MAX_REMOVED_RESERVATION_SHARE, MAX_REMOVED_VEHICLE_SHARE

FILES = ("vehicles.csv", "reservations.csv")
Progress = Callable[[str, int, int], None]
"""Told the step, and how much of it is done of how much."""


@dataclass(frozen=True, slots=True)
class SeedReport:
    """What a seed did with each file's rows.

    ``removed`` were in the database and not in the file.  ``kept`` were so, too, and stay because a bad row
    may have been about them.  Bookings are ``set_aside`` while a bad row keeps their vehicle out.
    """

    vehicles_added: int
    vehicles_updated: int
    vehicles_unchanged: int
    vehicles_removed: int
    vehicles_kept: int
    vehicles_quarantined: int
    reservations_added: int
    reservations_unchanged: int
    reservations_removed: int
    reservations_kept: int
    reservations_quarantined: int
    reservations_set_aside: int
    quarantine: tuple[str, ...]

    @property
    def is_unchanged(self) -> bool:
        """True when the database was up to date."""
        changed = (
            self.vehicles_added,
            self.vehicles_updated,
            self.vehicles_removed,
            self.reservations_added,
            self.reservations_removed,
        )
        return not any(changed)


def seed(
    source: SourceStore,
    data_dir: Path,
    *,
    quarantine_dir: Path | None = None,
    max_bad_share: float = MAX_BAD_SHARE,
    max_removed_vehicle_share: float = MAX_REMOVED_VEHICLE_SHARE,
    max_removed_reservation_share: float = MAX_REMOVED_RESERVATION_SHARE,
    allow_removals: bool = False,
    progress: Progress | None = None,
) -> SeedReport:
    """Bring the database to what the two files say.

    Parameters
    ----------
    source : SourceStore
    data_dir : Path
        Folder with ``vehicles.csv`` and ``reservations.csv``, or either with ``.gz`` behind.
    quarantine_dir : Path, optional
        Where rows that break the data contract are written with line, column and reason; by default the
        folder ``quarantine`` beside a SQLite file, or in ``data_dir``.
    max_bad_share : float
        Refuse a file with more bad rows than this share of its rows.
    max_removed_vehicle_share, max_removed_reservation_share : float
        Refuse to remove more than this share of the csv vehicles, or of the bookings, in the database.
    allow_removals : bool
        Remove whatever the files lack, however much it is.
    progress : callable, optional

    Raises
    ------
    DataContractError
        If a file cannot be taken, or too much would be removed; the database is as it was.
    SourceStoreError
        If the database cannot be written; it is as it was.
    """
    vehicle_path, reservation_path = (find_csv(data_dir, name) for name in FILES)
    if unchanged := _unchanged(source, data_dir):
        return unchanged
    vehicles = check_file(vehicle_path, VEHICLE_COLUMNS, progress=_told(progress, vehicle_path))
    reservations = check_file(
        reservation_path, RESERVATION_COLUMNS, progress=_told(progress, reservation_path)
    )
    if quarantine_dir is None:
        url = source.address.url
        database = url.partition(":///")[2] if url.startswith("sqlite") else ""
        quarantine_dir = (Path(database).parent if database else data_dir) / "quarantine"
    rejected: list[Path] = []
    with source.writing() as connection:
        typed_in = _typed_in_ids(connection)
        wanted = _in_order(vehicles, typed_in, vehicle_path)
        rejected += write_quarantine(vehicle_path, vehicles, quarantine_dir, max_bad_share)
        version = connection.execute(select(state.c.change_number)).scalar_one() + 1
        fleet, absent = upsert_vehicles(connection, wanted, version)
        stays = vehicles.may_have_bad_rows(absent.to_numpy())
        known = [ids.to_numpy() for ids in (wanted.index, typed_in, absent[stays])]
        del wanted  # the bookings take the memory
        num_set_aside = sort_out_unknown(reservations, known, vehicles)
        rejected += write_quarantine(reservation_path, reservations, quarantine_dir, max_bad_share)
        bookings = compare_bookings(connection, reservations.take_columns())
        is_kept = reservations.may_have_bad_rows(bookings.absent["vehicle_id"].to_numpy())
        kept, removed = bookings.absent[is_kept], bookings.absent[~is_kept]
        stays |= np.isin(absent, np.concatenate([reservations.bad_ids, kept["vehicle_id"]]))
        removed_vehicles = absent[~stays]
        if not allow_removals:
            num_vehicles = fleet.updated + fleet.unchanged + len(absent)
            refuse_mass_removal(
                data_dir,
                Removal.of_vehicles(removed_vehicles, num_vehicles, max_removed_vehicle_share),
                Removal.of_bookings(removed, bookings.num_stored, max_removed_reservation_share),
            )
        is_first = not bookings.num_stored
        write_bookings(connection, bookings.added, removed, version, is_first=is_first, progress=progress)
        remove_vehicles(connection, removed_vehicles, version)
        report = _report(
            replace(fleet, removed=len(removed_vehicles), kept=int(stays.sum())),
            Counts(
                added=len(bookings.added),
                unchanged=bookings.num_stored - len(bookings.absent),
                removed=len(removed),
                kept=len(kept),
            ),
            bad_vehicles=vehicles.num_bad,
            bad_bookings=reservations.num_bad,
            set_aside=num_set_aside,
            rejected=rejected,
        )
        connection.execute(
            update(state).values(
                seed_digest=f"{vehicles.sha256[:32]}{reservations.sha256[:32]}" if not rejected else "",
                change_number=state.c.change_number + int(not report.is_unchanged),
            )
        )
    return report


def _unchanged(source: SourceStore, data_dir: Path) -> SeedReport | None:
    """Return the report of a seed that has nothing to do, when the files are those of the last seed."""
    last = last_seed(source)
    if not last or last != digest_of(data_dir):
        return None
    with source.reading() as connection:
        num_vehicles, num_bookings = (
            connection.execute(select(func.count()).select_from(table).where(which)).scalar_one()
            for table, which in (
                (vehicles_table, vehicles_table.c.source == "csv"),
                (reservations_table, true()),
            )
        )
    return _report(Counts(unchanged=num_vehicles), Counts(unchanged=num_bookings))


def last_seed(source: SourceStore) -> str:
    """Return the digest of the files that the database was last seeded from; empty when it never was."""
    with source.reading() as connection:
        return str(connection.execute(select(state.c.seed_digest)).scalar_one())


def has_fleet(source: SourceStore) -> bool:
    """Return whether the database has vehicles of a CSV."""
    some = select(vehicles_table.c.vehicle_id).where(vehicles_table.c.source == "csv").limit(1)
    with source.reading() as connection:
        return connection.execute(some).first() is not None


def digest_of(data_dir: Path) -> str:
    """Return the digest of the files in a folder, as `last_seed` would have it.

    Raises
    ------
    DataContractError
        If a file is missing.
    """
    return "".join(file_sha256(find_csv(data_dir, name))[:32] for name in FILES)


def _report(
    fleet: Counts,
    bookings: Counts,
    *,
    bad_vehicles: int = 0,
    bad_bookings: int = 0,
    set_aside: int = 0,
    rejected: Sequence[Path] = (),
) -> SeedReport:
    return SeedReport(
        vehicles_added=fleet.added,
        vehicles_updated=fleet.updated,
        vehicles_unchanged=fleet.unchanged,
        vehicles_removed=fleet.removed,
        vehicles_kept=fleet.kept,
        vehicles_quarantined=bad_vehicles,
        reservations_added=bookings.added,
        reservations_unchanged=bookings.unchanged,
        reservations_removed=bookings.removed,
        reservations_kept=bookings.kept,
        reservations_quarantined=bad_bookings,
        reservations_set_aside=set_aside,
        quarantine=tuple(map(str, rejected)),
    )


def _typed_in_ids(connection: Connection) -> pd.Index:
    query = select(vehicles_table.c.vehicle_id).where(vehicles_table.c.source == "ui")
    return read_frame(connection, query).set_index("vehicle_id").index


def _in_order(file: CheckedFile, typed_in: pd.Index, path: Path) -> pd.DataFrame:
    """Return the vehicles on their ids, in order; of rows with the same id, the first counts."""
    ids = pd.Index(file.columns["vehicle_id"])
    if len(taken := typed_in.intersection(ids)):
        raise DataContractError(
            f"{path}: vehicle_id {taken[0]} belongs to a vehicle that was typed in;"
            " give the row another id, or delete that vehicle"
        )
    file.reject(file.columns["vehicle_id"].duplicated(), "an earlier row has this id")
    return file.take_columns().set_index("vehicle_id").sort_index()


def _told(progress: Progress | None, path: Path) -> Callable[[int], None] | None:
    """Turn bytes read into progress over a file."""
    if progress is None:
        return None
    total, done = path.stat().st_size, 0

    def tell(num_bytes: int) -> None:
        nonlocal done
        done += num_bytes
        progress(f"reading {path.name}", min(done, total), total)

    return tell
