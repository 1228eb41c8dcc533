"""Bookings of a watch, for pages; :mod:`vroom_features.offline.partition` counts the same for training."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import and_, case, func, select

from vroom_features.database.queries import microseconds, reservations, vehicles
from vroom_features.database.tables import MICROSECOND
from vroom_features.database.vehicles import SourceStore
from vroom_features.watch import Watch

DAY = timedelta(days=1)


def count_in_watch(source: SourceStore, watch: Watch, vehicle_ids: Sequence[int]) -> dict[int, int]:
    """Return how often vehicles were booked in their watches, by id; one without a booking is left out.

    Of a vehicle whose watch is over that is the training label; of another, what is known of it so far.
    """
    at = reservations.c.created_at
    with source.reading() as connection:
        since = microseconds(connection, at) - microseconds(connection, vehicles.c.watch_start)
        is_in_watch = case(
            # The watch of a csv vehicle starts a day before its first day.
            (vehicles.c.source == "csv", and_(at >= watch.end - watch.length, since >= DAY // MICROSECOND)),
            else_=since.between(0, watch.length // MICROSECOND - 1),
        )
        query = (
            select(vehicles.c.vehicle_id, func.count().label("counted"))
            .join(reservations, reservations.c.vehicle_id == vehicles.c.vehicle_id)
            .where(vehicles.c.vehicle_id.in_(vehicle_ids), at < watch.end, is_in_watch)
            .group_by(vehicles.c.vehicle_id)
        )
        return {row.vehicle_id: row.counted for row in connection.execute(query)}
