"""The ledger of champions: who became champion, when and why, numbered by a rising epoch.

It stands in the source database, because MLflow's aliases are last-write-wins: of two promotions at once, the
database lets one have the next epoch and makes the other decide again.
"""

from datetime import UTC, datetime
from typing import Literal

from sqlalchemy import Engine, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlmodel import Field, SQLModel

from vroom_model.errors import LedgerError

Kind = Literal["promotion", "rollback", "adopted"]


class Handover(SQLModel, table=True):
    """One change of champion."""

    __tablename__ = "handovers"

    model_name: str = Field(primary_key=True, max_length=256)
    epoch: int = Field(primary_key=True, description="rises by 1 with each change")
    version: int = Field(description="champion from then on")
    kind: str = Field(max_length=16)
    reason: str
    forced: bool = False
    decided_at: datetime = Field(description="UTC")
    back_to: int | None = Field(default=None, description="epoch whose champion a rollback restores")
    settled: bool = Field(default=False, description="the alias was moved and the message sent")


class Ledger:
    """The handovers of one model.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        Of the source database; the table is made where it is missing.
    model_name : str
        Registered model.

    Raises
    ------
    LedgerError
        From each method, if the database cannot be used.
    """

    def __init__(self, engine: Engine, model_name: str) -> None:
        self._engine = engine.execution_options(vroom_writes=True)  # SQLite: take the write lock at once
        self.model_name = model_name
        self._table = SQLModel.metadata.tables[Handover.__tablename__]
        try:
            SQLModel.metadata.create_all(engine, tables=[self._table])
        except SQLAlchemyError as exc:
            raise LedgerError(f"the ledger's table cannot be made: {exc}") from exc

    def head(self) -> Handover | None:
        """Return the last handover, or None."""
        entries = self.entries(limit=1)
        return entries[0] if entries else None

    def entry(self, epoch: int) -> Handover:
        """Return the handover of an epoch."""
        for entry in self.entries(epoch=epoch):
            return entry
        raise LedgerError(f"the ledger of {self.model_name} has no epoch {epoch}")

    def entries(self, *, limit: int | None = None, epoch: int | None = None) -> list[Handover]:
        """Return handovers, the last first."""
        columns = self._table.c
        query = select(self._table).where(columns.model_name == self.model_name)
        if epoch is not None:
            query = query.where(columns.epoch == epoch)
        try:
            with self._engine.connect() as connection:
                rows = connection.execute(query.order_by(columns.epoch.desc()).limit(limit)).mappings()
                return [Handover(**row) for row in rows]
        except SQLAlchemyError as exc:
            raise LedgerError(f"the ledger cannot be read: {exc}") from exc

    def append(
        self,
        *,
        after: Handover | None,
        version: int,
        kind: Kind,
        reason: str,
        decided_at: datetime,
        back_to: int | None,
        forced: bool = False,
        settled: bool = False,
    ) -> Handover | None:
        """Write the next handover if ``after`` is still the last; return None if another got in between."""
        epoch = after.epoch + 1 if after else 1
        values = {
            "model_name": self.model_name,
            "epoch": epoch,
            "version": version,
            "kind": kind,
            "reason": reason,
            "forced": forced,
            "decided_at": decided_at.astimezone(UTC),
            "back_to": back_to,
            "settled": settled,
        }
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(self._table).values(**values))
        except IntegrityError:
            return None  # the epoch is taken: its primary key is the compare-and-set
        except SQLAlchemyError as exc:
            raise LedgerError(f"the ledger cannot be written: {exc}") from exc
        return self.entry(epoch)

    def settle(self, epoch: int) -> None:
        """Note that an epoch's alias was moved and its message sent."""
        columns = self._table.c
        change = (
            update(self._table)
            .where(columns.model_name == self.model_name, columns.epoch == epoch)
            .values(settled=True)
        )
        try:
            with self._engine.begin() as connection:
                connection.execute(change)
        except SQLAlchemyError as exc:
            raise LedgerError(f"the ledger cannot be written: {exc}") from exc
