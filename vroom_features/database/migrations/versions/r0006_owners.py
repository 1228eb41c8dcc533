"""Keep the operator's reason in the audit log; let whoever saves a vehicle own and name it."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the columns; older lines have no reason, older vehicles no owner."""
    op.add_column("audit_entries", sa.Column("reason", sa.String(500), nullable=False, server_default=""))
    op.add_column("vehicles", sa.Column("owner_hash", sa.String(64)))
    op.add_column("vehicles", sa.Column("name", sa.String(80)))
    for table in ("vehicles", "vehicle_history"):
        op.add_column(table, sa.Column("saved_forecast", sa.String()))
    is_owned = sa.text("owner_hash IS NOT NULL")
    op.create_index(
        "vehicle_owner", "vehicles", ["owner_hash"], sqlite_where=is_owned, postgresql_where=is_owned
    )
