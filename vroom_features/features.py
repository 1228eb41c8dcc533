"""Feature functions: pure, and the same for one request and for a whole fleet.

A function is named as the column it makes and its parameters as the columns it reads.  Nothing here imports
pandas or NumPy, so importing this module costs nothing.
"""

from typing import TYPE_CHECKING, Any, TypeVar

from vroom_features.errors import MissingColumnsError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

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


def num_reservations(vehicles: "pd.DataFrame", reservations: "pd.DataFrame") -> "pd.Series[int]":
    """Count each vehicle's reservations: the label.

    Parameters
    ----------
    vehicles : DataFrame of shape (n_vehicles, ...)
        Columns ``vehicle_id`` and ``source`` (``'csv'`` or ``'ui'``).
    reservations : DataFrame of shape (n_reservations, ...)
        Column ``vehicle_id``.  Rows of vehicles not in ``vehicles`` are left out.

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
    _require(vehicles, "vehicle_id", "source")
    _require(reservations, "vehicle_id")
    counts = reservations["vehicle_id"].value_counts()
    return observed_count(vehicles["vehicle_id"].map(counts), vehicles["source"])


def observed_count(count: "pd.Series[int]", source: "pd.Series[str]") -> "pd.Series[int]":
    """Turn counted bookings into the label: none means 0 only for a vehicle that was watched.

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
    return counted.where(has_outcome(source == "csv", counted)).rename("num_reservations")


def has_outcome(is_csv: Flag, count: Any) -> Flag:  # a number, or an array or Series of them
    """Return whether a vehicle's bookings are known: it came from the fleet's files, or was booked.

    Parameters
    ----------
    is_csv : bool, or array or Series of shape (n_vehicles,)
        True where the source is ``'csv'``.
    count : int, or the same kind and shape
        Reservations counted, 0 where there are none.

    Examples
    --------
    >>> has_outcome(False, 0), has_outcome(True, 0), has_outcome(False, 2)
    (False, True, True)
    """
    watched: Flag = is_csv | (count > 0)
    return watched


def _require(frame: "pd.DataFrame", *columns: str) -> None:
    if missing := set(columns) - set(frame.columns):
        raise MissingColumnsError(missing, frame.columns)
