"""Upgrades of the source database's schema, by Alembic's operations.

Each file of ``versions`` makes the next version of the schema; its ``revision`` is that version in four
digits.  A database's version is in ``database_state``, not in a table of Alembic.  A new database is created
from ``tables``; a test compares it with an upgraded one.
"""

from pathlib import Path

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Connection


def upgrade(connection: Connection, found: int) -> None:
    """Upgrade a schema of an older version, inside the connection's transaction."""
    scripts = ScriptDirectory(str(Path(__file__).parent))
    steps = list(scripts.iterate_revisions("head", f"{found:04d}"))
    with Operations.context(MigrationContext.configure(connection)):
        for step in reversed(steps):
            step.module.upgrade()
