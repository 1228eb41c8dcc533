"""Keep the numbers of each decision in the ledger."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column; older entries have their numbers on the model version alone."""
    op.add_column("handovers", sa.Column("decision", sa.String(), nullable=True))
