"""Upgrades of the source database's schema, by Alembic's operations.

Each file of ``versions`` takes the schema one version further; its ``revision`` is that version in four
digits.  The version a database has stands in ``database_state``, so there is no table of Alembic's beside it.
A new database is created as ``tables`` says, and a test holds that an upgraded one is the same.
"""

from pathlib import Path

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Connection


def upgrade(connection: Connection, found: int) -> None:
    """Bring a schema of an older version up to date, inside the connection's transaction.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        In a transaction that nobody else's opening runs beside.
    found : int
        Version the database has.
    """
    scripts = ScriptDirectory(str(Path(__file__).parent))
    steps = list(scripts.iterate_revisions("head", f"{found:04d}"))
    with Operations.context(MigrationContext.configure(connection)):
        for step in reversed(steps):
            step.module.upgrade()
