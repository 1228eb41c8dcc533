"""Upgrades of the source database's schema, by Alembic's operations.

Each file of ``versions`` takes the schema one version further; its ``revision`` is that version in four
digits.  The version a database has stands in ``database_state``, so there is no table of Alembic's beside it.
A new database is created as ``tables`` says, and a test holds that an upgraded one is the same.
"""

from pathlib import Path

FOLDER = Path(__file__).parent
SCHEMA_VERSION = max(int(file.name[1:5]) for file in FOLDER.glob("versions/r[0-9]*.py"))
"""Kept in the database: an older one is upgraded when it is opened, a newer one refused."""
