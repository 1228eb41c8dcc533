"""Keep the operator's reason in the audit log."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column; older lines have no reason."""
    op.add_column("audit_entries", sa.Column("reason", sa.String(500), nullable=False, server_default=""))
