"""Feature functions: pure, and the same for one request and for a whole fleet.

A function is named as the column it makes and its parameters as the columns it reads.  Nothing here imports
pandas or NumPy, so importing this module costs nothing.
"""

from datetime import date
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from vroom_features.errors import MissingColumnsError
from vroom_features.watch import Watch

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

Source = Literal["csv", "ui"]
Numeric = TypeVar("Numeric", float, "np.ndarray", "pd.Series[float]")
Flag = TypeVar("Flag", bool, "np.ndarray", "pd.Series[bool]")


def price_diff(actual_price: Numeric, recommended_price: Numeric) -> Numeric:
    """Return how far the owner's price is above the market price.

    Parameters
    ----------
    actual_price : float, or array or Series of shape (n_vehicles,)
        Set by the owner, in listing currency per day.  Source: ``vehicles.csv`` or the web form.
    recommended_price : same kind and shape
        Market price, same unit and source.

    Returns
    -------
    same kind and shape
        Listing currency per day; negative when cheaper than the market.

    Examples
    --------
    >>> price_diff(45.0, 50.0)
    -5.0
    """
    difference: Numeric = actual_price - recommended_price
    return difference


def num_reservations(
    vehicles: "pd.DataFrame", reservations: "pd.DataFrame", *, source: Source | None = None
) -> "pd.Series[int]":
    """Count each vehicle's reservations.

    Parameters
    ----------
    vehicles : DataFrame of shape (n_vehicles, ...)
        ``vehicle_id`` as a column or the index, and column ``source`` (``'csv'`` or ``'ui'``).
    reservations : DataFrame of shape (n_reservations, ...)
        ``vehicle_id`` as a column or the index.  Rows of vehicles not in ``vehicles`` are left out.
    source : {'csv', 'ui'}, optional
        Of all vehicles, in place of the column, which ``vehicles.csv`` does not have.

    Returns
    -------
    Series of shape (n_vehicles,), dtype Int64
        On the index of ``vehicles``.  Without any reservation: 0 for a csv vehicle (watched, never booked),
        missing for a ui vehicle (not watched yet).

    Raises
    ------
    MissingColumnsError
        If a column named above is missing.

    Examples
    --------
    >>> import pandas as pd
    >>> vehicles = pd.DataFrame({"vehicle_id": [1, 2, 3], "source": ["csv", "csv", "ui"]})
    >>> num_reservations(vehicles, pd.DataFrame({"vehicle_id": [1, 1]})).tolist()
    [2, 0, <NA>]
    """
    index = vehicles.index
    vehicles, reservations = _with_ids(vehicles, source), _with_ids(reservations)
    _require(vehicles, "vehicle_id", "source")
    _require(reservations, "vehicle_id")
    counts = reservations["vehicle_id"].value_counts()
    return observed_count(vehicles["vehicle_id"].map(counts), vehicles["source"]).set_axis(index)


def observed_count(count: "pd.Series[int]", source: "pd.Series[str]") -> "pd.Series[int]":
    """Turn counted bookings into ``num_reservations``: none means 0 only for a vehicle that was watched.

    Parameters
    ----------
    count : Series of shape (n_vehicles,)
        Reservations counted per vehicle; missing or 0 where there are none.
    source : Series of shape (n_vehicles,)
        ``'csv'`` or ``'ui'``.

    Returns
    -------
    Series of shape (n_vehicles,), dtype Int64, named ``num_reservations``

    Examples
    --------
    >>> import pandas as pd
    >>> observed_count(pd.Series([None, 0, 3]), pd.Series(["csv", "ui", "ui"])).tolist()
    [0, <NA>, 3]
    """
    counted = count.astype("Int64").fillna(0)
    return counted.where(is_observed(source == "csv", counted)).rename("num_reservations")


def is_observed(is_csv: Flag, count: Any) -> Flag:  # a number, or an array or Series of them
    """Return whether ``num_reservations`` is known: the vehicle came from the fleet's files, or was booked.

    Parameters
    ----------
    is_csv : bool, or array or Series of shape (n_vehicles,)
        True where the source is ``'csv'``.
    count : int, or the same kind and shape
        Reservations counted, 0 where there are none.

    Examples
    --------
    >>> is_observed(False, 0), is_observed(True, 0), is_observed(False, 2)
    (False, True, True)
    """
    watched: Flag = is_csv | (count > 0)
    return watched


def training_label(
    vehicles: "pd.DataFrame",
    reservations: "pd.DataFrame",
    *,
    watch_days: int,
    complete_through: date,
    source: Source | None = None,
) -> "pd.Series[int]":
    """Count each vehicle's reservations in its watch: the label, known when the watch is over.

    Parameters
    ----------
    vehicles : DataFrame of shape (n_vehicles, ...)
        ``vehicle_id`` as a column or the index, ``source`` (``'csv'`` or ``'ui'``) and ``watch_start`` (a
        moment in UTC; for a csv vehicle the day before its first).
    reservations : DataFrame of shape (n_reservations, ...)
        ``vehicle_id`` as a column or the index, and ``created_at`` (in UTC where it has no zone).
    watch_days : int
        L, the length of a watch in days.
    complete_through : date
        D, the day through which bookings are complete.  The clock on the wall says nothing.
    source : {'csv', 'ui'}, optional
        Of all vehicles, in place of the column.  With ``'csv'`` ``watch_start`` may be missing too: the
        vehicles are those of a first ``vehicles.csv``, whose watch ends at D.

    Returns
    -------
    Series of shape (n_vehicles,), dtype Int64
        On the index of ``vehicles``.  Missing until D is at least L days past the watch start.  Then a csv
        vehicle's bookings of the L days that end at D, and a ui vehicle's of its first L days.

    Raises
    ------
    MissingColumnsError
        If a column named above is missing.

    Examples
    --------
    >>> import pandas as pd
    >>> vehicles = pd.DataFrame({"vehicle_id": [1, 2], "source": ["csv", "ui"]})
    >>> vehicles["watch_start"] = pd.to_datetime(["2023-01-31", "2023-02-10"], utc=True)
    >>> bookings = pd.DataFrame({"vehicle_id": [1, 1, 2]})
    >>> bookings["created_at"] = pd.to_datetime(["2023-02-01", "2023-03-09", "2023-02-11"], utc=True)
    >>> training_label(vehicles, bookings, watch_days=30, complete_through=date(2023, 3, 2)).tolist()
    [1, <NA>]
    """
    watch, index = Watch(watch_days, complete_through), vehicles.index
    vehicles, reservations = _with_ids(vehicles, source), _with_ids(reservations)
    if source == "csv" and "watch_start" not in vehicles:
        vehicles = vehicles.assign(watch_start=watch.start)
    _require(vehicles, "vehicle_id", "source", "watch_start")
    _require(reservations, "vehicle_id", "created_at")
    at = reservations["created_at"]
    if at.dtype.kind != "M":  # text, as pandas reads it from a CSV
        at = at.astype("datetime64[us, UTC]")
    elif at.dt.tz is None:
        at = at.dt.tz_localize("UTC")
    made = reservations[["vehicle_id"]].assign(created_at=at)
    booked = made.merge(vehicles[["vehicle_id", "source", "watch_start"]], on="vehicle_id")
    is_csv, made_at = booked["source"] == "csv", booked["created_at"]
    is_in_last = (made_at >= watch.end - watch.length) & (made_at < watch.end)
    is_in_first = (made_at >= booked["watch_start"]) & (made_at < booked["watch_start"] + watch.length)
    counted = booked.loc[is_in_last.where(is_csv, is_in_first), "vehicle_id"].value_counts()
    return outcome(vehicles["vehicle_id"].map(counted), vehicles["watch_start"], watch).set_axis(index)


def outcome(count: "pd.Series[int]", watch_start: "pd.Series[Any]", watch: Watch | None) -> "pd.Series[int]":
    """Turn bookings counted in a watch into the label: missing until the watch is over.

    Parameters
    ----------
    count : Series of shape (n_vehicles,)
        Reservations of each vehicle in its watch; missing or 0 where there are none.
    watch_start : Series of shape (n_vehicles,)
        Moments in UTC.
    watch : Watch or None
        None where no booking is known: then no watch is over.

    Returns
    -------
    Series of shape (n_vehicles,), dtype Int64, named ``training_label``
    """
    counted = count.astype("Int64").fillna(0).rename("training_label")
    return counted.where(watch.is_over(watch_start) if watch else counted < 0)  # no count is


def _with_ids(frame: "pd.DataFrame", source: Source | None = None) -> "pd.DataFrame":
    """Return the frame with ``vehicle_id`` as a column where it is the index, and with this source."""
    if frame.index.name == "vehicle_id" and "vehicle_id" not in frame:
        frame = frame.reset_index()
    return frame if source is None else frame.assign(source=source)


def _require(frame: "pd.DataFrame", *columns: str) -> None:
    if missing := set(columns) - set(frame.columns):
        hint = '; for vehicles of a CSV file say source="csv"' if "source" in missing else ""
        raise MissingColumnsError(missing, frame.columns, hint)
