"""Add the operator's audit log; make the ledger's table where no promotion had made it yet."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create both tables."""
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    moment = sa.BigInteger().with_variant(sa.DateTime(timezone=True), "postgresql")
    op.create_table(
        "handovers",
        sa.Column("model_name", sa.String(256), primary_key=True),
        sa.Column("epoch", sa.Integer(), primary_key=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("forced", sa.Boolean(), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("back_to", sa.Integer(), nullable=True),
        sa.Column("settled", sa.Boolean(), nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "audit_entries",
        sa.Column("id", sa.Integer() if is_sqlite else sa.BigInteger(), primary_key=True),
        sa.Column("happened_at", moment, nullable=False),
        sa.Column("actor", sa.String(64), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(256), nullable=False),
        sa.Column("client", sa.String(64), nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
    )
    op.create_index("ix_audit_entries_happened_at", "audit_entries", ["happened_at"])
