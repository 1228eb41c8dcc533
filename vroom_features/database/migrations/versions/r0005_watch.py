"""Keep how long bookings are counted, since when for each vehicle, and what a vehicle was before a change."""

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
_FIRST_UI_ID = 1_000_000_001
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def upgrade() -> None:
    """Find the watch of the csv vehicles from their bookings, as a first seed does."""
    connection = op.get_bind()
    is_sqlite = connection.dialect.name == "sqlite"
    moment = sa.BigInteger() if is_sqlite else sa.DateTime(timezone=True)
    for name in ("watch_start", "withdrawn_at"):
        op.add_column("vehicles", sa.Column(name, moment, nullable=True))
    for name in ("watch_days", "num_booked_last", "num_booked_before"):
        op.add_column("database_state", sa.Column(name, sa.Integer(), nullable=True))
    op.add_column("database_state", sa.Column("complete_through", sa.Date(), nullable=True))
    op.add_column("database_state", sa.Column("over_before", moment, nullable=True))
    op.create_table(
        "vehicle_history",
        sa.Column("vehicle_id", sa.BigInteger(), sa.ForeignKey("vehicles.vehicle_id"), primary_key=True),
        sa.Column("held_until", moment, primary_key=True),
        sa.Column("held_from", moment, nullable=False),
        sa.Column("watch_start", moment, nullable=False),
        sa.Column("attributes", sa.String(), nullable=False),
    )
    op.execute("UPDATE vehicles SET watch_start = saved_at")
    query = sa.text("SELECT min(created_at), max(created_at) FROM reservations WHERE vehicle_id < :first")
    first, last = connection.execute(query, {"first": _FIRST_UI_ID}).one()
    if first is None:
        return

    def day(value: Any) -> datetime:  # microseconds, or a datetime
        known = _EPOCH + timedelta(microseconds=value) if is_sqlite else value.astimezone(UTC)
        return known.replace(hour=0, minute=0, second=0, microsecond=0)

    def kept(value: datetime) -> Any:  # as above
        return (value - _EPOCH) // timedelta(microseconds=1) if is_sqlite else value

    days = (day(last) - day(first)).days + 1
    start = day(last) - timedelta(days=days)
    values = {
        "days": days,
        "through": day(last).date().isoformat() if is_sqlite else day(last).date(),
        "before": kept(start + timedelta(days=1)),
    }
    connection.execute(
        sa.text(
            "UPDATE database_state SET watch_days = :days, complete_through = :through, over_before = :before"
        ),
        values,
    )
    connection.execute(
        sa.text("UPDATE vehicles SET watch_start = :start WHERE source = 'csv'"), {"start": kept(start)}
    )
