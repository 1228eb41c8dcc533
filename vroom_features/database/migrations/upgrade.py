"""Run the upgrades by Alembic, which is imported for this alone."""

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from vroom_features.database.migrations import FOLDER


def upgrade(connection: Connection, found: int) -> None:
    """Bring a schema of an older version up to date, inside the connection's transaction.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        In a transaction that nobody else's opening runs beside.
    found : int
        Version the database has.
    """
    scripts = ScriptDirectory(str(FOLDER))
    steps = list(scripts.iterate_revisions("head", f"{found:04d}"))
    with Operations.context(MigrationContext.configure(connection)):
        for step in reversed(steps):
            step.module.upgrade()
