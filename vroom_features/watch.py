"""The watch: how long bookings of a vehicle are counted before the count is an outcome to learn from."""

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Self, TypeVar

from vroom_features.errors import VroomFeaturesError

Moments = TypeVar("Moments", datetime, Any)  # a datetime, or an array or Series of them
FIRST_DAY = date(2000, 1, 1)
"""No booking is older."""
DAYS_A_YEAR = 365
RECENT_DAYS = 30
CHANCE = 3
"""Standard deviations of a difference of counts that are not taken for chance."""
MONTHS_A_YEAR = 12


def midnight(day: date) -> datetime:
    """Return the first moment of a day (UTC)."""
    return datetime.combine(day, time(), UTC)


def end_of_past_day(day: date, now: datetime) -> datetime:
    """Return the end of a day; VroomFeaturesError if it is not over, or before all bookings."""
    today = now.astimezone(UTC).date()
    if not FIRST_DAY <= day < today:
        raise VroomFeaturesError(
            f"expected a day that is over, from {FIRST_DAY} on, got {day}; today is {today}"
        )
    return midnight(day) + timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Watch:
    """The length of a watch, and the day through which bookings are complete.

    Parameters
    ----------
    days : int
        L: a vehicle's bookings are an outcome when it was watched for so many days.
    complete_through : date
        D: every booking up to the end of this day (UTC) is known.

    Examples
    --------
    >>> watch = Watch(364, date(2023, 12, 30))
    >>> watch.first_day
    datetime.date(2023, 1, 1)
    >>> [watch.is_over(midnight(day)) for day in (date(2022, 12, 31), date(2023, 1, 1))]
    [True, False]
    """

    days: int
    complete_through: date

    @classmethod
    def known(cls, days: int | None, complete_through: date | None) -> Self | None:
        """Return the watch; None while either is unknown, for no booking of a csv vehicle is known."""
        return None if days is None or complete_through is None else cls(days, complete_through)

    @property
    def first_day(self) -> date:
        """The first of the L days that end at D."""
        return self.complete_through - timedelta(days=self.days - 1)

    @property
    def start(self) -> datetime:
        """Where a watch began that is over at D; a csv vehicle of the first seed began then."""
        return midnight(self.first_day) - timedelta(days=1)

    @property
    def end(self) -> datetime:
        """The end of D."""
        return midnight(self.complete_through) + timedelta(days=1)

    @property
    def length(self) -> timedelta:
        return timedelta(days=self.days)

    def is_over(self, watch_start: Moments) -> Any:  # a bool, or an array or Series of them
        """Return whether watches that began then are over: D is at least L days past the day."""
        return watch_start < midnight(self.first_day)

    def over_on(self, watch_start: datetime) -> date:
        """Return the D at which a watch that began then will be over."""
        return watch_start.date() + self.length

    def days_watched(self, watch_start: datetime) -> int:
        """Return for how many of the L days a vehicle was watched."""
        return min(max((self.complete_through - watch_start.date()).days, 0), self.days)

    def ending_by(self, moment: datetime) -> "Watch":
        """Return the watch as it was known then: D is not after the last whole day."""
        last_day = (moment - timedelta(days=1)).date()
        return Watch(self.days, min(self.complete_through, last_day))

    @property
    def recent(self) -> tuple[datetime, datetime, datetime]:
        """Where the 30 days before the last 30 begin, where the last 30 begin, and the end of D."""
        length = timedelta(days=RECENT_DAYS)
        return self.end - 2 * length, self.end - length, self.end

    def per_year(self, reservations: float) -> float:
        """Return reservations of a watch as so many in 365 days."""
        return reservations * DAYS_A_YEAR / self.days

    def per_month(self, reservations: float) -> float:
        """Return reservations of a watch as so many in a twelfth of a year."""
        return self.per_year(reservations) / MONTHS_A_YEAR


def watch_scale(of_model: Watch | None, of_fleet: Watch | None) -> float:
    """Return what turns reservations per watch of a model into those per watch of a fleet or a snapshot.

    1 for a model of an earlier release, which did not know its watch.
    """
    return of_fleet.days / of_model.days if of_model and of_fleet else 1.0


@dataclass(frozen=True, slots=True)
class RecentBookings:
    """Bookings of the last 30 days through D and of the 30 days before, of vehicles watched in all of them.

    These are the same vehicles, so a fleet that grows has no more bookings for that.
    """

    last: int
    before: int

    def problem(self, max_drop: float) -> str | None:
        """Return what is wrong if bookings fell by more than a share and more than chance makes them.

        Where nothing changed the difference of two counts is 0, give or take the root of their sum.

        Examples
        --------
        >>> RecentBookings(last=260, before=530).problem(0.25)
        'the same vehicles were booked 260 times in the last 30 days and 530 times in the 30 days before'
        >>> RecentBookings(last=420, before=530).problem(0.25)  # 21 % less
        >>> RecentBookings(last=13, before=26).problem(0.25)  # a small fleet: it may be chance
        """
        fall = self.before - self.last
        if fall <= max_drop * self.before or fall <= CHANCE * math.sqrt(self.before + self.last):
            return None
        return (
            f"the same vehicles were booked {self.last:,} times in the last {RECENT_DAYS} days and "
            f"{self.before:,} times in the {RECENT_DAYS} days before"
        )
