"""The feature view: the one ordered list of what a model sees."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from vroom_features.errors import MissingColumnsError
from vroom_features.features import price_diff

if TYPE_CHECKING:
    import pandas as pd

Column = Any  # a float, an array or a Series: whatever the caller's rows are made of


@dataclass(frozen=True)
class Feature:
    """One model input.

    Parameters
    ----------
    name : str
        Its column.
    function : callable
        Computes it from the columns of ``sources``, in their order.
    sources : tuple of str
        Raw columns that it reads.
    label, unit : str
        For people; empty for a raw column, which `vroom_features.vehicle` describes.
    version : int, default 1
        Raised when the function changes its meaning: models trained on another version are not served.
    """

    name: str
    function: Callable[..., Column]
    sources: tuple[str, ...]
    label: str = ""
    unit: str = ""
    version: int = 1


def unchanged(value: Column) -> Column:
    return value


def raw(name: str) -> Feature:
    """Return the feature that is a raw column as it is."""
    return Feature(name, unchanged, (name,))


def computed(function: Callable[..., Column], label: str, unit: str, version: int = 1) -> Feature:
    """Return the feature that a function computes; its parameters name the columns it reads."""
    sources = tuple(inspect.signature(function).parameters)
    return Feature(function.__name__, function, sources, label, unit, version)


@dataclass(frozen=True)
class FeatureView:
    """A named, versioned, ordered tuple of features of one entity.

    Parameters
    ----------
    name, version : str, int
        Together the identity of what the stores hold.
    join_key : str
        The entity's key.
    count, label : str
        Columns of the reservations so far, and of the outcome that is learned from; never features.
    attributes : tuple of str
        Columns stored with the features for people and what-if questions, never given to a model.
    features : tuple of Feature
        In the order of a model's inputs.
    retired : tuple of str
        Features that the next training does not take; they are still computed, for models that take them.
    """

    name: str
    version: int
    join_key: str
    count: str
    label: str
    attributes: tuple[str, ...]
    features: tuple[Feature, ...]
    retired: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"FeatureView({self.name} v{self.version}: {', '.join(self.columns)})"

    @cached_property
    def columns(self) -> tuple[str, ...]:
        return tuple(feature.name for feature in self.features)

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Names of the features that the next training takes, in order."""
        return tuple(name for name in self.columns if name not in self.retired)

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Names of the raw columns that the features read, without repetition."""
        return tuple(dict.fromkeys(name for feature in self.features for name in feature.sources))

    def feature(self, name: str) -> Feature | None:
        return next((feature for feature in self.features if feature.name == name), None)

    def select(self, columns: Iterable[str]) -> "FeatureView":
        """Return the view of these features alone, in this order."""
        features = {feature.name: feature for feature in self.features}
        return replace(self, features=tuple(features[name] for name in columns), retired=())

    def compute(self, rows: Mapping[str, Column]) -> dict[str, Column]:
        """Compute every feature of a vehicle, or of many at once.

        Parameters
        ----------
        rows : mapping of column name to float, array or Series
            One vehicle as a dict, or a DataFrame.

        Returns
        -------
        dict
            A value of the same kind for each of ``columns``, in order.

        Raises
        ------
        MissingColumnsError
            If a raw column is missing.

        Examples
        --------
        >>> car = {"technology": 1, "actual_price": 45.0, "recommended_price": 50.0,
        ...        "num_images": 4, "street_parked": 0, "description": 120}
        >>> VEHICLE_VIEW.compute(car)["price_diff"]
        -5.0
        """
        if missing := [name for name in self.sources if name not in rows]:
            raise MissingColumnsError(missing, rows)
        return {f.name: f.function(*[rows[name] for name in f.sources]) for f in self.features}

    def transform(self, frame: "pd.DataFrame") -> "pd.DataFrame":
        """Compute every feature of many vehicles.

        Parameters
        ----------
        frame : DataFrame of shape (n_vehicles, ...)
            Raw columns, as in ``vehicles.csv``; others are ignored.

        Returns
        -------
        DataFrame of shape (n_vehicles, n_features)
            ``columns``, in order, on the index of ``frame``; missing where a raw column of theirs is.

        Raises
        ------
        MissingColumnsError
            If a raw column is missing.

        Examples
        --------
        >>> import pandas as pd
        >>> cars = pd.DataFrame({"actual_price": [45.0, 62.0], "recommended_price": 50}, index=[7, 8])
        >>> VEHICLE_VIEW.select(["price_diff"]).transform(cars)
           price_diff
        7        -5.0
        8        12.0
        """
        features = self.compute(frame)  # type: ignore[arg-type]  # a frame is a mapping but for its type
        return frame.assign(**features)[list(self.columns)]


VEHICLE_VIEW = FeatureView(
    name="vehicle_forecast",
    version=1,
    join_key="vehicle_id",
    count="num_reservations",
    label="training_label",
    attributes=("actual_price", "recommended_price"),
    features=(
        raw("technology"),
        raw("num_images"),
        raw("street_parked"),
        raw("description"),
        computed(price_diff, "Price against the market", "listing currency per day"),
    ),
)
"""What the forecast is made from."""
