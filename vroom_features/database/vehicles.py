"""The source database: SQLite or PostgreSQL, by URL."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import Connection, Engine, delete, func, insert, not_, select

from vroom_features.addresses import ServiceAddress
from vroom_features.database import queries
from vroom_features.database.engine import connect, reading, translated, writing
from vroom_features.database.queries import (
    Changes,
    Kind,
    LastChange,
    SavedVehicle,
    StoredVehicle,
    VehicleCounts,
    VehicleFilter,
    VehiclePage,
)
from vroom_features.errors import (
    IdempotencyConflictError,
    NotDeletableError,
    SourceStoreError,
    VehicleNotFoundError,
)
from vroom_features.vehicle import VehicleCreate

__all__ = [
    "SORTS",
    "SavedVehicle",
    "SourceStore",
    "StoredVehicle",
    "VehicleCounts",
    "VehicleFilter",
    "VehiclePage",
]

SORTS = tuple(queries.SORTS)
"""Names that ``list_vehicles`` can sort by."""


class SourceStore:
    """Vehicles and reservations in a database.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        Of a database that has the schema; ``SourceStore.open`` makes both.
    address : ServiceAddress
        Where it is.
    """

    def __init__(self, engine: Engine, address: ServiceAddress) -> None:
        self.engine = engine
        self.address = address

    @classmethod
    def open(cls, url: str | ServiceAddress) -> "SourceStore":
        """Open a database, creating its schema where there is none and upgrading an old one.

        Parameters
        ----------
        url : str or ServiceAddress
            ``sqlite:///path/to/file.db`` or ``postgresql://user:password@host:port/name``.

        Raises
        ------
        SourceStoreError
            If it cannot be opened, or holds the schema of a newer program.
        """
        address = ServiceAddress(url)
        return cls(connect(address), address)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection whose queries all see one moment."""
        with translated(self.address), reading(self.engine) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give a connection that no other writer runs beside; commit at the end."""
        with translated(self.address), writing(self.engine) as connection:
            connection.execute(select(queries.state).with_for_update())
            yield connection

    def save_vehicle(
        self, vehicle: VehicleCreate, *, saved_at: datetime, idempotency_key: str | None = None
    ) -> SavedVehicle:
        """Save a vehicle that was typed in; when this returns it is on the disk.

        Parameters
        ----------
        vehicle : VehicleCreate
            Validated before.
        saved_at : datetime
            The moment, with its zone.
        idempotency_key : str, optional
            A second save with the same key returns the first one's vehicle.

        Raises
        ------
        IdempotencyConflictError
            If the key was used for a vehicle that differs.
        VehicleNotFoundError
            If the key's vehicle was deleted since.
        SourceStoreError
            If the database cannot be written; then nothing was saved.
        """
        values = vehicle.model_dump()
        with self.writing() as connection:
            if idempotency_key is not None and (
                found := connection.execute(
                    select(queries.keys).where(queries.keys.c.key == idempotency_key)
                ).first()
            ):
                if not _is_same(json.loads(found.body), values):
                    raise IdempotencyConflictError(idempotency_key)
                saved = queries.get_one(connection, found.vehicle_id)
                if saved is None:
                    raise VehicleNotFoundError(found.vehicle_id)
                return SavedVehicle(saved, created=False)
            row_version = queries.next_change(connection)
            row = insert(queries.vehicles).values(
                source="ui", row_version=row_version, saved_at=saved_at, **values
            )
            vehicle_id = connection.execute(row).inserted_primary_key[0]  # type: ignore[index]  # one row has one
            if idempotency_key is not None:
                connection.execute(
                    insert(queries.keys).values(
                        key=idempotency_key, body=vehicle.model_dump_json(), vehicle_id=vehicle_id
                    )
                )
            saved = queries.get_one(connection, vehicle_id)
        if saved is None:
            raise SourceStoreError(f"vehicle {vehicle_id} is not there right after it was saved")
        return SavedVehicle(saved, created=True)

    def delete_vehicle(self, vehicle_id: int) -> int:
        """Delete a vehicle that was typed in and never booked.

        Returns
        -------
        int
            The deletion's row version, for ``OnlineStore.delete``.

        Raises
        ------
        VehicleNotFoundError
            If there is none.
        NotDeletableError
            If it came from a CSV file, or was booked.
        """
        with self.writing() as connection:
            vehicle = queries.get_one(connection, vehicle_id)
            if vehicle is None:
                raise VehicleNotFoundError(vehicle_id)
            if not vehicle.is_new_arrival:
                raise NotDeletableError(vehicle_id)
            row_version = queries.next_change(connection)
            connection.execute(delete(queries.vehicles).where(queries.vehicles.c.vehicle_id == vehicle_id))
            connection.execute(
                insert(queries.deletions).values(vehicle_id=vehicle_id, row_version=row_version)
            )
        return row_version

    def get_vehicle(self, vehicle_id: int) -> StoredVehicle | None:
        """Return a vehicle, or None when there is none with this id."""
        with self.reading() as connection:
            return queries.get_one(connection, vehicle_id)

    def list_vehicles(
        self,
        *,
        kind: Kind | None = None,
        search: str = "",
        where: VehicleFilter | None = None,
        sort: str = "vehicle_id",
        descending: bool = False,
        page: int = 1,
        page_size: int = 50,
    ) -> VehiclePage:
        """Return one page of the vehicles, sorted and counted by the database.

        Parameters
        ----------
        kind : {'fleet', 'new'}, optional
            Only those watched, or only new arrivals.
        search : str
            The first digits of an id; empty for all.
        where : VehicleFilter, optional
            What else is wanted.
        sort : str
            One of ``SORTS``; ties are in the order of ids.
        descending : bool
            Largest first.
        page, page_size : int
            From 1.
        """
        if sort not in queries.SORTS or page < 1 or page_size < 1:
            raise ValueError(
                f"expected sort in {SORTS}, page and page_size >= 1; got {sort!r}, {page}, {page_size}"
            )
        wanted = queries.wanted(kind, search, where)
        skipped = (page - 1) * page_size
        with self.reading() as connection:
            total: int = connection.execute(
                select(func.count()).select_from(queries.vehicles).where(wanted)
            ).scalar_one()
            num_rows = min(page_size, total - skipped)
            if num_rows <= 0:
                return VehiclePage((), total)
            left = total - skipped - num_rows
            is_nearer_the_end = left < skipped  # then a database sorts less from there
            # Bookings are counted for the page's vehicles alone, not for those that it skips.
            ids = select(queries.vehicles.c.vehicle_id).where(wanted)
            ids = ids.order_by(*queries.order(sort, descending, reverse=is_nearer_the_end))
            ids = ids.limit(num_rows).offset(left if is_nearer_the_end else skipped)
            query = queries.select_vehicles().where(queries.vehicles.c.vehicle_id.in_(ids))
            rows = connection.execute(query.order_by(*queries.order(sort, descending)))
            return VehiclePage(tuple(queries.stored(row) for row in rows), total)

    def list_vehicle_ids(
        self, *, kind: Kind | None, search: str, where: VehicleFilter, sort: str, descending: bool, limit: int
    ) -> tuple[int, ...]:
        """Return the ids that all pages of ``list_vehicles`` hold at this moment, up to a limit."""
        ids = select(queries.vehicles.c.vehicle_id).where(queries.wanted(kind, search, where))
        ids = ids.order_by(*queries.order(sort, descending)).limit(limit)
        with self.reading() as connection:
            return tuple(connection.execute(ids).scalars())

    def get_vehicles(self, vehicle_ids: Sequence[int]) -> tuple[StoredVehicle, ...]:
        """Return the vehicles with these ids, in their order; what is gone is left out."""
        query = queries.select_vehicles().where(queries.vehicles.c.vehicle_id.in_(vehicle_ids))
        with self.reading() as connection:
            found = {row.vehicle_id: queries.stored(row) for row in connection.execute(query)}
        return tuple(found[each] for each in vehicle_ids if each in found)

    def count_new_arrivals(self) -> int:
        """Count the vehicles that were typed in and not booked yet."""
        with self.reading() as connection:
            return int(
                connection.execute(queries.count_vehicles().where(not_(queries.is_fleet))).scalar_one()
            )

    def count_vehicles(self) -> VehicleCounts:
        """Count what the database holds."""
        everything = queries.count_vehicles()
        with self.reading() as connection:
            new = connection.execute(everything.where(not_(queries.is_fleet))).scalar_one()
            return VehicleCounts(
                fleet=connection.execute(everything).scalar_one() - new,
                new_arrivals=new,
                reservations=connection.execute(
                    select(func.count()).select_from(queries.reservations)
                ).scalar_one(),
            )

    def changes_since(self, row_version: int, *, after: int = 0, limit: int = 10_000) -> Changes:
        """Return which typed-in vehicles changed after a change number, in one consistent look.

        Parameters
        ----------
        row_version : int
            A change number seen before; 0 for everything.
        after, limit : int
            At most so many vehicles, in the order of ids, with ids above this one.
        """
        changed = (
            queries.select_vehicles()
            .where(queries.vehicles.c.source == "ui", queries.vehicles.c.row_version > row_version)
            .where(queries.vehicles.c.vehicle_id > after)
            .order_by(queries.vehicles.c.vehicle_id)
            .limit(limit)
        )
        gone = select(queries.deletions).where(queries.deletions.c.row_version > row_version)
        with self.reading() as connection:
            state = connection.execute(select(queries.state)).one()
            vehicles = tuple(queries.stored(row) for row in connection.execute(changed))
            deleted = {row.vehicle_id: row.row_version for row in connection.execute(gone)}
            return Changes(vehicles, deleted, state.change_number, complete=len(vehicles) < limit)

    def new_arrivals(self, remainders: range, divisor: int) -> tuple[StoredVehicle, ...]:
        """Return the new arrivals whose ids leave one of these remainders, which are consecutive."""
        remainder = queries.vehicles.c.vehicle_id % divisor
        query = queries.select_vehicles().where(not_(queries.is_fleet))
        query = query.where(remainder.between(remainders[0], remainders[-1]))
        with self.reading() as connection:
            return tuple(queries.stored(row) for row in connection.execute(query))

    def last_change(self) -> LastChange:
        """Return which change of which database was the last."""
        with self.reading() as connection:
            state = connection.execute(select(queries.state)).one()
            return LastChange(state.database_id, state.change_number)

    def revision(self) -> str:
        """Return what differs after any change of a vehicle or a booking."""
        last = self.last_change()
        return f"{last.database_id}-{last.number}"

    def ping(self) -> None:
        """Raise SourceStoreError unless the database answers."""
        with self.reading() as connection:
            connection.execute(select(queries.state.c.change_number)).scalar_one()

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def _is_same(saved: Mapping[str, object], vehicle: Mapping[str, object]) -> bool:
    """Return whether a vehicle is the one that was saved, as far as the columns of that day go."""
    return all(vehicle[name] == value for name, value in saved.items() if name in vehicle)
