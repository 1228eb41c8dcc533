"""Make vehicle, moment and occurrence the key of a booking: half the space, and no separate index."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make a new table; equal bookings are counted from 0."""
    op.execute(
        "CREATE TEMPORARY TABLE kept_reservations AS SELECT vehicle_id, created_at,"
        " ROW_NUMBER() OVER (PARTITION BY vehicle_id, created_at ORDER BY id) - 1 AS occurrence"
        " FROM reservations"
    )
    op.drop_table("reservations")
    moment = sa.BigInteger().with_variant(sa.DateTime(timezone=True), "postgresql")
    op.create_table(
        "reservations",
        sa.Column("vehicle_id", sa.BigInteger(), sa.ForeignKey("vehicles.vehicle_id"), primary_key=True),
        sa.Column("created_at", moment, primary_key=True),
        sa.Column("occurrence", sa.BigInteger(), primary_key=True, server_default="0"),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO reservations (vehicle_id, created_at, occurrence)"
        " SELECT vehicle_id, created_at, occurrence FROM kept_reservations ORDER BY 1, 2, 3"
    )
    op.execute("DROP TABLE kept_reservations")
