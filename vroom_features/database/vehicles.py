"""The source database: SQLite or PostgreSQL, by URL."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import Connection, Engine, delete, exists, func, insert, select

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
    deletions,
    history,
    keys,
    reservations,
    state,
    vehicles,
)
from vroom_features.errors import IdempotencyConflictError, NotDeletableError
from vroom_features.vehicle import UI_VEHICLE_ID_START, VehicleCreate
from vroom_features.watch import Watch


class SourceStore:
    """Vehicles and reservations in a database.

    ``SourceStore.open`` makes the engine, of a database that has the schema.
    """

    def __init__(self, engine: Engine, address: ServiceAddress) -> None:
        self.engine = engine
        self.address = address

    @classmethod
    def open(cls, url: str | ServiceAddress) -> "SourceStore":
        """Open a database; create its schema where there is none, upgrade an old one.

        Parameters
        ----------
        url : str or ServiceAddress
            ``sqlite:///path/to/file.db`` or ``postgresql://user:password@host:port/name``.

        Raises
        ------
        SourceStoreError
            If it cannot be opened, or has the schema of a newer program.
        """
        address = ServiceAddress(url)
        return cls(connect(address), address)

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection whose queries all see one moment."""
        with translated(self.address), reading(self.engine) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Yield the connection of the only writer; commit at the end."""
        with translated(self.address), writing(self.engine) as connection:
            connection.execute(select(state).with_for_update())
            yield connection

    def save_vehicle(
        self,
        vehicle: VehicleCreate,
        *,
        saved_at: datetime,
        idempotency_key: str | None = None,
        owner_hash: str | None = None,
        saved_forecast: str | None = None,
    ) -> SavedVehicle:
        """Save a vehicle of the web form; when this returns it is on the disk.

        Parameters
        ----------
        vehicle : VehicleCreate
        saved_at : datetime
            With its zone.
        idempotency_key : str, optional
            A second save with the same key returns the first one's vehicle.
        owner_hash : str, optional
            Whose it is; nobody's but the operator's by default.
        saved_forecast : str, optional
            Its forecast now, as JSON, for its history.

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
            if idempotency_key is not None:
                query = select(keys).where(keys.c.key == idempotency_key)
                if found := connection.execute(query).first():
                    body = json.loads(found.body)  # it lacks the columns that came later
                    if any(values[name] != value for name, value in body.items() if name in values):
                        raise IdempotencyConflictError(idempotency_key)
                    return SavedVehicle(queries.get_existing(connection, found.vehicle_id), created=False)
            row_version = queries.next_change(connection)
            when = {"saved_at": saved_at, "watch_start": saved_at}
            kept = {"owner_hash": owner_hash, "saved_forecast": saved_forecast, **when, **values}
            row = insert(vehicles).values(source="ui", row_version=row_version, **kept)
            vehicle_id = connection.execute(row).inserted_primary_key[0]  # type: ignore[index]  # one row has one
            if idempotency_key is not None:
                key = {"key": idempotency_key, "body": vehicle.model_dump_json(), "vehicle_id": vehicle_id}
                connection.execute(insert(keys).values(key))
            return SavedVehicle(queries.get_existing(connection, vehicle_id), created=True)

    def delete_vehicle(self, vehicle_id: int) -> int:
        """Delete a vehicle of the web form that was never booked; return the row version of the deletion.

        It is a NotDeletableError if it came from a CSV file, or was booked.
        """
        with self.writing() as connection:
            bookings = exists().where(reservations.c.vehicle_id == vehicle_id)
            is_csv = queries.get_existing(connection, vehicle_id).source == "csv"
            if is_csv or connection.execute(select(bookings)).scalar_one():
                raise NotDeletableError(vehicle_id, is_csv=is_csv)
            row_version = queries.next_change(connection)
            connection.execute(delete(history).where(history.c.vehicle_id == vehicle_id))
            connection.execute(delete(vehicles).where(vehicles.c.vehicle_id == vehicle_id))
            connection.execute(insert(deletions).values(vehicle_id=vehicle_id, row_version=row_version))
        return row_version

    def get_vehicle(self, vehicle_id: int) -> StoredVehicle | None:
        """Return a vehicle, or None when there is none with this id."""
        with self.reading() as connection:
            return queries.get_one(connection, vehicle_id)

    def get_vehicles(self, vehicle_ids: Sequence[int]) -> tuple[StoredVehicle, ...]:
        """Return the vehicles with these ids, in their order; those that do not exist are left out."""
        query = queries.select_vehicles().where(vehicles.c.vehicle_id.in_(vehicle_ids))
        with self.reading() as connection:
            found = {row.vehicle_id: queries.stored(row) for row in connection.execute(query)}
        return tuple(found[each] for each in vehicle_ids if each in found)

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
        """Return one page, from 1 on, of the vehicles; ``search`` is the beginning of an id.

        ``sort`` is a key of ``queries.SORTS``; ties are in the order of ids.
        """
        if sort not in queries.SORTS or page < 1 or page_size < 1:
            raise ValueError(
                f"expected sort in {tuple(queries.SORTS)}, page and page_size >= 1;"
                f" got {sort!r}, {page}, {page_size}"
            )
        condition = queries.matches(kind, search, where)
        skipped = (page - 1) * page_size
        with self.reading() as connection:
            total: int = connection.execute(queries.count_vehicles().where(condition)).scalar_one()
            num_rows = min(page_size, total - skipped)
            if num_rows <= 0:
                return VehiclePage((), total)
            after = total - skipped - num_rows
            backwards = after < skipped  # from the nearer end, a database sorts less
            # Bookings are counted for the page's vehicles alone, not for those that it skips.
            ids = select(vehicles.c.vehicle_id).where(condition)
            ids = ids.order_by(*queries.order(sort, descending=descending, backwards=backwards))
            ids = ids.limit(num_rows).offset(after if backwards else skipped)
            query = queries.select_vehicles().where(vehicles.c.vehicle_id.in_(ids))
            rows = connection.execute(query.order_by(*queries.order(sort, descending=descending)))
            return VehiclePage(tuple(queries.stored(row) for row in rows), total)

    def list_vehicle_ids(
        self, *, kind: Kind | None, search: str, where: VehicleFilter, sort: str, descending: bool, limit: int
    ) -> tuple[int, ...]:
        """Return the ids of all pages of ``list_vehicles``, up to a limit."""
        ids = select(vehicles.c.vehicle_id).where(queries.matches(kind, search, where))
        ids = ids.order_by(*queries.order(sort, descending=descending)).limit(limit)
        with self.reading() as connection:
            return tuple(connection.execute(ids).scalars())

    def count_new_arrivals(self) -> int:
        with self.reading() as connection:
            query = queries.count_vehicles().where(queries.is_new_arrival)
            return int(connection.execute(query).scalar_one())

    def count_in_watch(self, watch: Watch, vehicle_ids: Sequence[int]) -> dict[int, int]:
        """Return how often vehicles were booked in their watches, by id; one without a booking is left out.

        Of a vehicle whose watch is over that is the training label; of another, what is known of it so far.
        """
        with self.reading() as connection:
            query = (
                select(vehicles.c.vehicle_id, func.count().label("counted"))
                .join(reservations, reservations.c.vehicle_id == vehicles.c.vehicle_id)
                .where(vehicles.c.vehicle_id.in_(vehicle_ids), queries.is_in_watch(connection, watch))
                .group_by(vehicles.c.vehicle_id)
            )
            return {row.vehicle_id: row.counted for row in connection.execute(query)}

    def count_vehicles(self) -> VehicleCounts:
        with self.reading() as connection:
            fleet, new = (func.count().filter(kind) for kind in (queries.is_fleet, queries.is_new_arrival))
            counts = select(fleet, new).select_from(vehicles)
            num_fleet, num_new = connection.execute(counts).one()
            booked = connection.execute(select(func.count()).select_from(reservations)).scalar_one()
            return VehicleCounts(num_fleet, num_new, booked)

    def changes_since(self, row_version: int, *, after: int = 0, limit: int = 10_000) -> Changes:
        """Return which vehicles of the web form changed after a change number, all seen at one moment.

        They are at most ``limit``, in the order of ids, with ids above ``after``.
        """
        changed = (
            queries.select_vehicles()
            .where(vehicles.c.source == "ui", vehicles.c.row_version > row_version)
            .where(vehicles.c.vehicle_id > after)
            .order_by(vehicles.c.vehicle_id)
            .limit(limit)
        )
        gone = select(deletions.c.vehicle_id).where(
            deletions.c.vehicle_id >= UI_VEHICLE_ID_START, deletions.c.row_version > row_version
        )
        with self.reading() as connection:
            change_number = connection.execute(select(state.c.change_number)).scalar_one()
            found = tuple(queries.stored(row) for row in connection.execute(changed))
            deleted = tuple(connection.execute(gone).scalars())
            return Changes(found, deleted, change_number, complete=len(found) < limit)

    def new_arrivals(self, remainders: range, divisor: int) -> tuple[StoredVehicle, ...]:
        """Return the new arrivals whose ids have one of these consecutive remainders."""
        remainder = vehicles.c.vehicle_id % divisor
        query = queries.select_vehicles().where(queries.is_new_arrival)
        query = query.where(remainder.between(remainders[0], remainders[-1]))
        with self.reading() as connection:
            return tuple(queries.stored(row) for row in connection.execute(query))

    def watch(self) -> Watch | None:
        """Return the watch; None while no booking of a csv vehicle is known."""
        return self.last_change().watch

    def last_change(self) -> LastChange:
        with self.reading() as connection:
            return queries.get_last_change(connection)

    def revision(self) -> str:
        """Return a text that differs after any change of a vehicle or a booking."""
        last = self.last_change()
        return f"{last.database_id}-{last.number}"
