"""The database's tables.

``Vehicle`` is a table and so validates nothing; ``VehicleCreate`` validates all input first.
"""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, DateTime, Dialect, Identity, Index, Integer, text
from sqlalchemy.types import TypeDecorator, TypeEngine
from sqlmodel import Field, SQLModel

from vroom_features.vehicle import NAME_MAX, UI_VEHICLE_ID_START, VehicleBase

SCHEMA_VERSION = max(
    int(file.name[1:5]) for file in Path(__file__).parent.glob("migrations/versions/r[0-9]*.py")
)
"""Kept in the database: an older one is upgraded when it is opened, a newer one refused."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment with its zone: ``timestamptz`` on PostgreSQL, microseconds since 1970 on SQLite."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        kind = BigInteger() if dialect.name == "sqlite" else DateTime(timezone=True)
        return dialect.type_descriptor(kind)

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:  # what the driver takes
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"expected a datetime with a zone, got {value!r}")
        return (value - EPOCH) // MICROSECOND if dialect.name == "sqlite" else value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        moment: datetime = EPOCH + value * MICROSECOND if dialect.name == "sqlite" else value
        return moment.astimezone(UTC)


_IS_OWNED = text("owner_hash IS NOT NULL")
BigId = BigInteger().with_variant(Integer(), "sqlite")  # SQLite numbers rows only in a plain INTEGER key


class Vehicle(VehicleBase, table=True):
    """A vehicle of the CSV files (``source='csv'``) or of the web form (``source='ui'``)."""

    __tablename__ = "vehicles"
    __table_args__ = (
        CheckConstraint("source IN ('csv', 'ui')", name="source_is_known"),
        Index("vehicle_owner", "owner_hash", sqlite_where=_IS_OWNED, postgresql_where=_IS_OWNED),
        {"sqlite_autoincrement": True},
    )

    vehicle_id: int | None = Field(
        default=None,
        primary_key=True,
        sa_type=BigId,
        sa_column_args=[Identity(start=UI_VEHICLE_ID_START)],
    )
    source: str = Field(max_length=3)
    row_version: int = Field(
        sa_type=BigInteger,
        description="the change that last touched the row or its bookings; only ever rises",
    )
    saved_at: datetime | None = Field(
        default=None, sa_type=UtcDateTime, description="when the web form saved it (UTC); NULL for csv"
    )
    watch_start: datetime | None = Field(
        default=None,
        sa_type=UtcDateTime,
        description="since when its bookings are an outcome (UTC); NULL for csv while no booking is known",
    )
    withdrawn_at: datetime | None = Field(
        default=None, sa_type=UtcDateTime, description="when its owner took it off (UTC); it keeps its watch"
    )
    owner_hash: str | None = Field(
        default=None, max_length=64, description="SHA-256 of the id of the browser that saved it"
    )
    name: str | None = Field(default=None, max_length=NAME_MAX, description="what its owner calls it")
    saved_forecast: str | None = Field(
        default=None, description="its forecast when it became what it is, with range and model, as JSON"
    )


class VehicleHistory(SQLModel, table=True):
    """What a vehicle of the web form was before a change."""

    __tablename__ = "vehicle_history"

    vehicle_id: int = Field(
        primary_key=True,
        foreign_key="vehicles.vehicle_id",
        sa_type=BigInteger,
        sa_column_kwargs={"autoincrement": False},
    )
    held_until: datetime = Field(primary_key=True, sa_type=UtcDateTime, description="of the change (UTC)")
    held_from: datetime = Field(sa_type=UtcDateTime, description="of the change before, or of the save (UTC)")
    watch_start: datetime = Field(sa_type=UtcDateTime, description="of its watch then (UTC)")
    attributes: str = Field(description="its raw columns as JSON")
    saved_forecast: str | None = Field(default=None, description="its forecast when it became so, as JSON")


class Reservation(SQLModel, table=True):
    """A booking of a vehicle: only a key, so SQLite keeps one sorted tree and no index."""

    __tablename__ = "reservations"
    __table_args__ = ({"sqlite_with_rowid": False},)

    vehicle_id: int = Field(
        primary_key=True,
        foreign_key="vehicles.vehicle_id",
        sa_type=BigInteger,
        sa_column_kwargs={"autoincrement": False},
    )
    created_at: datetime = Field(
        primary_key=True, sa_type=UtcDateTime, description="when the booking was made (UTC)"
    )
    occurrence: int = Field(
        default=0,
        primary_key=True,
        sa_type=BigInteger,
        sa_column_kwargs={"autoincrement": False, "server_default": "0"},
        description="0, then 1, 2, ... where a vehicle has several bookings of one moment",
    )


class DatabaseState(SQLModel, table=True):
    """One row: which schema this is, and the number of the last change.

    Each transaction that changes a vehicle or its bookings takes the next number and writes it as the
    ``row_version`` of what it changed.  The first number is the time of creation in milliseconds since 1970,
    so a new database has higher numbers than the one it replaces, and its rows win in the online store.
    """

    __tablename__ = "database_state"

    id: int = Field(default=1, primary_key=True)
    schema_version: int
    database_id: str = Field(max_length=32, description="random; different in every database")
    seed_digest: str = Field(
        default="", max_length=64, description="SHA-256 of the files it was last seeded from"
    )
    change_number: int = Field(sa_type=BigInteger)
    watch_days: int | None = Field(
        default=None, description="L; NULL while no booking of a csv vehicle is known"
    )
    complete_through: date | None = Field(default=None, description="D; NULL as L is")
    over_before: datetime | None = Field(
        default=None,
        sa_type=UtcDateTime,
        description="watches that began before are over: of L and D, for queries",
    )
    num_booked_last: int | None = Field(
        default=None, description="bookings of the last 30 days through D; NULL as L is, or after an upgrade"
    )
    num_booked_before: int | None = Field(
        default=None, description="those of the 30 days before, of the same vehicles"
    )


class Deletion(SQLModel, table=True):
    """A deleted vehicle, and the change that deleted it: the stores delete its features."""

    __tablename__ = "deletions"

    vehicle_id: int = Field(
        primary_key=True,
        sa_type=BigInteger,
        sa_column_kwargs={"autoincrement": False},
    )
    row_version: int = Field(sa_type=BigInteger, index=True)


class IdempotencyKey(SQLModel, table=True):
    """A save's key, and what it saved, so that a repeated request makes no second row."""

    __tablename__ = "idempotency_keys"

    key: str = Field(primary_key=True, max_length=255)
    body: str = Field(description="the vehicle as JSON, to refuse the key for another one")
    vehicle_id: int = Field(sa_type=BigInteger)


class PromotionRecord(SQLModel, table=True):
    """One change of champion; :mod:`vroom_model.registry.promotion` writes and reads them.

    The table and three of its columns keep the names of the first release, which may still run while a system
    is upgraded.
    """

    __tablename__ = "handovers"

    model_name: str = Field(primary_key=True, max_length=256)
    number: int = Field(
        primary_key=True, sa_column_kwargs={"name": "epoch"}, description="rises by 1 with each record"
    )
    version: int = Field(description="champion from then on")
    kind: str = Field(max_length=16)
    reason: str
    decision: str | None = Field(default=None, description="the decision with its numbers, as JSON")
    forced: bool = False
    decided_at: datetime = Field(description="UTC")
    previous: int | None = Field(
        default=None,
        sa_column_kwargs={"name": "back_to"},
        description="number of the record whose champion a rollback restores",
    )
    is_closed: bool = Field(
        default=False,
        sa_column_kwargs={"name": "settled"},
        description="the alias was moved, or never will be",
    )

    @property
    def run_id(self) -> str | None:
        """MLflow's run of the version, which no other has again; None in records of the first release."""
        found: str | None = json.loads(self.decision).get("candidate_run_id") if self.decision else None
        return found


class AuditEntry(SQLModel, table=True):
    """Something an operator did, or was about to do: it is written before it is done."""

    __tablename__ = "audit_entries"

    id: int | None = Field(default=None, primary_key=True, sa_type=BigId)
    happened_at: datetime = Field(sa_type=UtcDateTime, index=True, description="UTC")
    actor: str = Field(max_length=64, description="operator by cookie, token, password or sign-in link")
    action: str = Field(max_length=64, description="what, as in delete-vehicle or train")
    subject: str = Field(max_length=256, description="to which vehicle, version or run")
    client: str = Field(max_length=64, description="network address")
    request_id: str = Field(max_length=64, description="of the request, as in the logs")
    reason: str = Field(default="", max_length=500, description="the operator's, where one is asked for")


TABLES = dict(SQLModel.metadata.tables)
"""Every table by its name."""
