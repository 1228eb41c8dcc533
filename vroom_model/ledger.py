"""The ledger of champions: who became champion, when and why, numbered by a rising epoch.

It stands in the source database, because MLflow's aliases are last-write-wins: of two promotions at once, the
database lets one have the next epoch and makes the other decide again.
"""

from datetime import UTC, datetime
from typing import Literal

from sqlalchemy import Engine, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlmodel import SQLModel

from vroom_features.tables import Handover
from vroom_model.errors import LedgerError

__all__ = ["Handover", "Kind", "Ledger"]

Kind = Literal["promotion", "rollback", "adopted"]


class Ledger:
    """The handovers of one model.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        Of the source database.
    model_name : str
        Registered model.

    Raises
    ------
    LedgerError
        From each method, if the database cannot be used.
    """

    def __init__(self, engine: Engine, model_name: str) -> None:
        self._engine = engine
        self._writer = engine.execution_options(vroom_writes=True)  # SQLite: take the write lock at once
        self.model_name = model_name
        self._table = SQLModel.metadata.tables[Handover.__tablename__]

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
        decision: str | None = None,
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
            "decision": decision,
            "forced": forced,
            "decided_at": decided_at.astimezone(UTC),
            "back_to": back_to,
            "settled": settled,
        }
        try:
            with self._writer.begin() as connection:
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
            with self._writer.begin() as connection:
                connection.execute(change)
        except SQLAlchemyError as exc:
            raise LedgerError(f"the ledger cannot be written: {exc}") from exc
