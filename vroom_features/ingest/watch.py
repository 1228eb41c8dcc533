"""What a seed learns about the watch: its length, the day through which bookings are complete, its starts."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Self

import pandas as pd
from sqlalchemy import Connection, false, func, or_, select, true, update

from vroom_features.database.queries import state, vehicles
from vroom_features.database.tables import EPOCH, MICROSECOND
from vroom_features.watch import Watch, midnight

Days = tuple[date, date]


def booked_days(bookings: pd.DataFrame, vehicle_ids: pd.Index) -> Days | None:
    """Return the first and the last day (UTC) of the bookings of these vehicles; None without any."""
    moments = bookings.loc[bookings["vehicle_id"].isin(vehicle_ids), "created_at"]
    if moments.empty:
        return None
    first, last = ((EPOCH + int(moment) * MICROSECOND).date() for moment in (moments.min(), moments.max()))
    return first, last


@dataclass(frozen=True, slots=True)
class WatchUpdate:
    """The watch before and after a seed, None while no booking of a csv vehicle is known.

    ``start`` is where the watch starts of csv vehicles that the seed adds, or of all of them where it
    ``is_first``: the first seed of the csv vehicles that there are now.
    """

    before: Watch | None
    after: Watch | None
    start: datetime | None
    is_first: bool

    @property
    def has_new_length(self) -> bool:
        return bool(self.before and self.after and self.before.days != self.after.days)

    @classmethod
    def plan(
        cls, before: Watch | None, days: Days | None, told: Callable[[Watch], Watch], *, is_first: bool
    ) -> Self:
        """Return what the days of the csv vehicles' bookings say, as changed by what the operator told.

        At the first seed a watch is as long as they are; after it, only a later last day is learned.
        """
        if before is None or (is_first and days is not None):
            found = days and told(Watch((days[1] - days[0]).days + 1, days[1]))
            return cls(before, found, found.start if found else None, is_first=True)
        last = max(days[1], before.complete_through) if days else before.complete_through
        after = told(Watch(before.days, last))
        return cls(before, after, midnight(before.complete_through), is_first=False)

    def write(self, connection: Connection, version: int) -> int:
        """Write the watch and the starts of watches, and return how many vehicles became mature."""
        start, is_csv = vehicles.c.watch_start, vehicles.c.source == "csv"
        is_missing = start.is_(None)
        is_to_set = or_(is_missing, start != self.start) if self.is_first and self.start else is_missing
        connection.execute(update(vehicles).where(is_csv, is_to_set).values(watch_start=self.start))
        connection.execute(
            update(vehicles).where(~is_csv, is_missing).values(watch_start=vehicles.c.saved_at)
        )
        if self.after is None or self.after == self.before:
            return 0
        is_over = start < midnight(self.after.first_day)
        was_over = start < midnight(self.before.first_day) if self.before else false()
        entered_or_left = update(vehicles).where(~is_csv, is_over != was_over)  # the online store
        connection.execute(entered_or_left.values(row_version=version))
        watch = {"watch_days": self.after.days, "complete_through": self.after.complete_through}
        connection.execute(update(state).values(over_before=midnight(self.after.first_day), **watch))
        is_new = true() if self.is_first else ~was_over
        matured = select(func.count()).select_from(vehicles).where(is_over, is_new)
        return int(connection.execute(matured).scalar_one())
