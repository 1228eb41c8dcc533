"""The feature view: the one ordered list of what a model sees."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vroom_features.errors import MissingColumnsError
from vroom_features.features import price_diff

Column = Any  # a float, an array or a Series: whatever the caller's rows are made of


@dataclass(frozen=True)
class Feature:
    """One model input.

    Parameters
    ----------
    name : str
        Its column.
    function : callable
        What makes it from the columns of ``sources``, in their order.
    sources : tuple of str
        Raw columns that it reads.
    label, unit : str
        For people: what it is, and what a value of 1 is; empty for a raw column.
    """

    name: str
    function: Callable[..., Column]
    sources: tuple[str, ...]
    label: str = ""
    unit: str = ""


def unchanged(value: Column) -> Column:
    """Return a raw column as it is."""
    return value


def raw(name: str) -> Feature:
    """Return the feature that is a raw column as it is; :mod:`vroom_features.vehicle` has its words."""
    return Feature(name, unchanged, (name,))


def computed(function: Callable[..., Column], label: str, unit: str) -> Feature:
    """Return the feature that a function computes from the columns that its parameters are named as."""
    return Feature(function.__name__, function, tuple(inspect.signature(function).parameters), label, unit)


@dataclass(frozen=True)
class FeatureView:
    """A named, versioned, ordered tuple of features of one entity.

    Parameters
    ----------
    name, version : str, int
        Together the identity of the view; a model is bound to both.
    join_key : str
        The entity's key.
    label : str
        The outcome learned; never one of the features.
    attributes : tuple of str
        Columns kept beside the features for people and what-if questions, never given to a model.
    features : tuple of Feature
        In the order in which a model takes them.
    """

    name: str
    version: int
    join_key: str
    label: str
    attributes: tuple[str, ...]
    features: tuple[Feature, ...]

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the model inputs, in the model's order."""
        return tuple(feature.name for feature in self.features)

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Names of the raw columns that the features read, without repetition."""
        return tuple(dict.fromkeys(name for feature in self.features for name in feature.sources))

    def feature(self, name: str) -> Feature | None:
        """Return a feature by its name; None when the view has none."""
        return next((feature for feature in self.features if feature.name == name), None)

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
            If a raw column is not there.

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


VEHICLE_VIEW = FeatureView(
    name="vehicle_forecast",
    version=1,
    join_key="vehicle_id",
    label="num_reservations",
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
