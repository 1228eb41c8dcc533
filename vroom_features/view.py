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
    """One model input: its column, how it is made, and what it means.

    Parameters
    ----------
    name : str
        Column name, equal to the function's name.
    function : callable
        Its parameter names are the columns it reads.
    unit : str
        For people: what a value of 1 is.
    """

    name: str
    function: Callable[..., Column]
    unit: str

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Names of the columns the function reads, in order."""
        return tuple(inspect.signature(self.function).parameters)


def technology(technology: Column) -> Column:
    """Return the flag as it is: 1 when the car can be booked instantly and unlocked by phone."""
    return technology


def num_images(num_images: Column) -> Column:
    """Return the count as it is: photos in the listing."""
    return num_images


def street_parked(street_parked: Column) -> Column:
    """Return the flag as it is: 1 when the car stands on the street."""
    return street_parked


def description(description: Column) -> Column:
    """Return the count as it is: characters in the owner's description."""
    return description


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
        return {f.name: f.function(*[rows[source] for source in f.sources]) for f in self.features}


VEHICLE_VIEW = FeatureView(
    name="vehicle_forecast",
    version=1,
    join_key="vehicle_id",
    label="num_reservations",
    attributes=("actual_price", "recommended_price"),
    features=(
        Feature("technology", technology, "0 or 1"),
        Feature("num_images", num_images, "photos"),
        Feature("street_parked", street_parked, "0 or 1"),
        Feature("description", description, "characters"),
        Feature("price_diff", price_diff, "listing currency per day"),
    ),
)
"""What the forecast is made from."""
