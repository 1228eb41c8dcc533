"""The audit log: what the operator did or was about to do, in the source database."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Engine, delete, insert, select

from vroom_features.addresses import ServiceAddress
from vroom_features.database.engine import reading, translated, writing
from vroom_features.database.tables import TABLES, AuditEntry

_entries = TABLES["audit_entries"]
_LENGTHS = {column.name: column.type.length for column in _entries.c if hasattr(column.type, "length")}


class AuditLog:
    """Lines of the source database that are added and read, and deleted only when they are old."""

    def __init__(self, engine: Engine, address: ServiceAddress) -> None:
        self._engine = engine
        self._address = address

    def record(self, happened_at: datetime, **what: str) -> None:
        """Write a line: ``actor``, ``action``, ``subject``, ``client``, ``request_id`` and ``reason``.

        If that is an error, the action must not be done.
        """
        line = {name: value[: _LENGTHS[name]] for name, value in what.items()}
        with translated(self._address), writing(self._engine) as connection:
            connection.execute(insert(_entries).values(happened_at=happened_at, **line))

    def entries(
        self, *, limit: int = 100, before: int | None = None, actions: Collection[str] = (), client: str = ""
    ) -> list[AuditEntry]:
        """Return lines, newest first: older than the id ``before``, of these actions and network address."""
        query = select(_entries).order_by(_entries.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(_entries.c.id < before)
        if actions:
            query = query.where(_entries.c.action.in_(actions))
        if client:
            query = query.where(_entries.c.client == client)
        with translated(self._address), reading(self._engine) as connection:
            return [AuditEntry(**row) for row in connection.execute(query).mappings()]

    def holds(self, *, action: str, subject: str) -> bool:
        """Return whether there is a line of this action and subject."""
        query = select(_entries.c.id).where(_entries.c.action == action, _entries.c.subject == subject)
        with translated(self._address), reading(self._engine) as connection:
            return connection.execute(query.limit(1)).first() is not None

    def delete_old(self, *, older_than: datetime) -> int:
        """Delete lines, and return how many."""
        with translated(self._address), writing(self._engine) as connection:
            return connection.execute(delete(_entries).where(_entries.c.happened_at < older_than)).rowcount
