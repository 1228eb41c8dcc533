"""Seed the source database from ``vehicles.csv`` and ``reservations.csv``.

After a seed the vehicles of source ``'csv'`` and all bookings are those of the files: rows that changed are
updated, new ones added, ones that left the files removed.  Vehicles that were typed in stay.  What a bad row
may have been about stays as it was, too.  It is one transaction, and the same files again change nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from vroom_features.addresses import ServiceAddress
from vroom_features.contract import RESERVATION_COLUMNS, VEHICLE_COLUMNS, CheckedFile, check_file
from vroom_features.converge import (
    Counts,
    compare_bookings,
    put_vehicles,
    remove_vehicles,
    typed_in_ids,
    write_bookings,
)
from vroom_features.csv_files import file_sha256, find_csv
from vroom_features.errors import DataContractError
from vroom_features.limits import MAX_BAD_SHARE, MAX_REMOVED_RESERVATION_SHARE, MAX_REMOVED_VEHICLE_SHARE
from vroom_features.quarantine import sort_out_unknown, write_quarantine
from vroom_features.removals import NUM_EXAMPLES, Removal, refuse_mass_removal
from vroom_features.stores.bulk import bulk_transaction

FILES = ("vehicles.csv", "reservations.csv")
Array = npt.NDArray[Any]
Progress = Callable[[str, int, int], None]
"""Told the step, and how much of it is done of how much."""


class Located(Protocol):
    """Anything that knows its database's address: a SourceStore, or less."""

    @property
    def address(self) -> ServiceAddress:
        """Address of the source database."""


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
    source: Located,
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
    source : Located
        Its database has the schema.
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
    if unchanged := _unchanged(source.address, data_dir):
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
    with bulk_transaction(source.address, writes=True) as bulk:
        typed_in = typed_in_ids(bulk)
        columns = _in_order(vehicles, typed_in, vehicle_path)
        rejected += write_quarantine(vehicle_path, vehicles, quarantine_dir, max_bad_share)
        version = int(bulk.scalar("SELECT change_number FROM database_state") or 0) + 1
        fleet, absent = put_vehicles(bulk, columns, version)
        stays = vehicles.may_have_bad_rows(absent)
        num_set_aside = sort_out_unknown(
            reservations, [columns["vehicle_id"], typed_in, absent[stays]], vehicles
        )
        rejected += write_quarantine(reservation_path, reservations, quarantine_dir, max_bad_share)
        bookings = compare_bookings(bulk, reservations.columns)
        may_go = bookings.absent["vehicle_id"]
        is_kept = reservations.may_have_bad_rows(may_go)
        stays |= np.isin(absent, np.concatenate([reservations.bad_ids, may_go[is_kept]]))
        removed_vehicles = absent[~stays]
        removed = {name: values[~is_kept] for name, values in bookings.absent.items()}
        if not allow_removals:
            num_vehicles = fleet.updated + fleet.unchanged + len(absent)
            refuse_mass_removal(
                data_dir,
                _vehicles_to_remove(removed_vehicles, num_vehicles, max_removed_vehicle_share),
                _bookings_to_remove(removed, bookings.num_stored, max_removed_reservation_share),
            )
        write_bookings(
            bulk, bookings.added, removed, version, is_first=not bookings.num_stored, progress=progress
        )
        remove_vehicles(bulk, removed_vehicles, version)
        report = _report(
            replace(fleet, removed=len(removed_vehicles), kept=int(stays.sum())),
            Counts(
                added=len(bookings.added["vehicle_id"]),
                unchanged=bookings.num_stored - len(may_go),
                removed=len(removed["vehicle_id"]),
                kept=int(is_kept.sum()),
            ),
            bad_vehicles=vehicles.num_bad,
            bad_bookings=reservations.num_bad,
            set_aside=num_set_aside,
            rejected=rejected,
        )
        digest = f"{vehicles.sha256[:32]}{reservations.sha256[:32]}" if not rejected else ""
        bulk.execute(
            f"UPDATE database_state SET seed_digest = '{digest}',"  # noqa: S608 - hexadecimal and an integer
            f" change_number = change_number + {int(not report.is_unchanged)}"
        )
    return report


def _unchanged(database: ServiceAddress, data_dir: Path) -> SeedReport | None:
    """Return the report of a seed that has nothing to do, when the files are those of the last seed."""
    with bulk_transaction(database) as bulk:
        last = bulk.scalar("SELECT seed_digest FROM database_state")
        if not last or last != digest_of(data_dir):
            return None
        vehicles = int(bulk.scalar("SELECT COUNT(*) FROM vehicles WHERE source = 'csv'") or 0)
        bookings = int(bulk.scalar("SELECT COUNT(*) FROM reservations") or 0)
    return _report(Counts(unchanged=vehicles), Counts(unchanged=bookings))


def last_seed(source: Located) -> str:
    """Return the digest of the files that the database was last seeded from; empty when it never was."""
    with bulk_transaction(source.address) as bulk:
        return str(bulk.scalar("SELECT seed_digest FROM database_state"))


def has_fleet(source: Located) -> bool:
    """Return whether the database has vehicles of a CSV."""
    with bulk_transaction(source.address) as bulk:
        return bulk.scalar("SELECT 1 FROM vehicles WHERE source = 'csv' LIMIT 1") is not None


def digest_of(data_dir: Path) -> str:
    """Return the digest of the files in a folder, as `last_seed` would have it.

    Raises
    ------
    DataContractError
        If a file is missing.
    """
    return "".join(file_sha256(find_csv(data_dir, name))[:32] for name in FILES)


def _vehicles_to_remove(ids: Array, num_stored: int, max_share: float) -> Removal:
    examples = [f"vehicle {vehicle_id}" for vehicle_id in ids[:NUM_EXAMPLES]]
    return Removal("vehicle", len(ids), num_stored, max_share, examples)


def _bookings_to_remove(rows: dict[str, Array], num_stored: int, max_share: float) -> Removal:
    ids, moments = rows["vehicle_id"], rows["created_at"]
    first = zip(ids[:NUM_EXAMPLES], moments[:NUM_EXAMPLES].astype("datetime64[us]"), strict=True)
    examples = [f"vehicle {vehicle_id} at {np.datetime_as_string(at, unit='s')}" for vehicle_id, at in first]
    return Removal("reservation", len(ids), num_stored, max_share, examples)


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


def _in_order(file: CheckedFile, typed_in: Array, path: Path) -> dict[str, Array]:
    """Return the vehicles in the order of ids; of rows with the same id, the first counts."""
    ids = file.columns["vehicle_id"]
    taken = typed_in[np.isin(typed_in, ids)] if len(typed_in) else typed_in
    if len(taken):
        raise DataContractError(
            f"{path}: vehicle_id {taken[0]} belongs to a vehicle that was typed in;"
            " give the row another id, or delete that vehicle"
        )
    if (ids[1:] > ids[:-1]).all():
        return file.columns
    order = np.argsort(ids, kind="stable")
    is_repeat = ids[order[1:]] == ids[order[:-1]]
    if is_repeat.any():
        file.reject(order[1:][is_repeat], "an earlier row has this id")
        order = np.argsort(file.columns["vehicle_id"])
    return {name: values[order] for name, values in file.columns.items()}


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
