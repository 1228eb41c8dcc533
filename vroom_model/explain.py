"""Why a forecast is what it is: Shapley values of its features, in plain words.

These are the values that XGBoost's ``pred_contribs`` gives (path-dependent TreeSHAP), averaged over the fold
boosters.  With so few features all subsets can be summed outright, so a web worker needs neither XGBoost nor
the 170 MB it brings; a test holds the two equal.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from math import factorial
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from vroom_features.vehicle import COLUMNS
from vroom_features.view import VEHICLE_VIEW
from vroom_model.errors import BrokenModelError
from vroom_model.manifest import fold_file
from vroom_model.trees import Ensemble, LeafTable

CENT = 0.01
"""Prices closer than half of it are the same."""


@dataclass(frozen=True, slots=True)
class Reason:
    """What one feature adds to the forecast.

    Parameters
    ----------
    feature : str
        Its column.
    value : float
        The vehicle's value.
    contribution : float
        Reservations added (or taken, when negative).
    text : str
        The same in words.
    """

    feature: str
    value: float
    contribution: float
    text: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """A forecast in parts: ``base`` and all contributions add up to ``forecast``.

    Parameters
    ----------
    base : float
        The mean forecast over the fleet.
    reasons : tuple of Reason
        One a feature, the weightiest first.
    forecast : float
        Their sum; at least 0.
    """

    base: float
    reasons: tuple[Reason, ...]
    forecast: float


class Explainer:
    """Explains forecasts of one model.  It is immutable: threads may share it.

    Parameters
    ----------
    leaves : LeafTable
        Of all fold boosters.
    """

    def __init__(self, leaves: LeafTable) -> None:
        self._leaves = leaves
        # A feature that no tree splits on adds nothing, and need not double the number of subsets.
        self._used = np.flatnonzero((leaves.share != 1).any(axis=0))
        self._subsets, self._weights = _shapley_weights(len(self._used))

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read the fold boosters of a verified model directory.

        Raises
        ------
        BrokenModelError
            If a booster is missing or is not one.
        """
        ensembles: list[Ensemble] = []
        while (path := directory / fold_file(len(ensembles))).exists():
            try:
                ensembles.append(Ensemble.from_json(path.read_bytes()))
            except ValueError as exc:
                raise BrokenModelError(directory, f"{path.name}: {exc}") from exc
        if not ensembles:
            raise BrokenModelError(directory, "it holds no fold booster")
        return cls(LeafTable.of(ensembles, len(VEHICLE_VIEW.columns)))

    def explain(self, vehicle: Mapping[str, float]) -> Explanation:
        """Explain a vehicle's forecast from its raw columns."""
        features = VEHICLE_VIEW.compute(vehicle)
        values = np.array([features[name] for name in VEHICLE_VIEW.columns], dtype=np.float32)
        base, contributions = self.contributions(values)
        raw = base + float(contributions.sum())
        # Where the boosters together fall below 0, the forecast stops there and the base takes the rest up.
        forecast = max(raw, 0.0)
        reasons = [
            Reason(name, float(features[name]), float(part), _words(name, features, vehicle, float(part)))
            for name, part in zip(VEHICLE_VIEW.columns, contributions, strict=True)
        ]
        reasons.sort(key=lambda reason: -abs(reason.contribution))
        return Explanation(base + forecast - raw, tuple(reasons), forecast)

    def contributions(self, values: npt.NDArray[np.float32]) -> tuple[float, npt.NDArray[np.float64]]:
        """Return the mean forecast, and each feature's Shapley value.

        Parameters
        ----------
        values : ndarray of shape (n_features,), float32
            The vehicle's features, in the view's order.
        """
        leaves = self._leaves
        used = self._used
        share = leaves.share[:, used]
        holds = (leaves.low[:, used] <= values[used]) & (values[used] < leaves.high[:, used])
        # A leaf's weight, given the features of a subset: 1 or 0 for each known one, the training share of
        # each unknown one.  Its expected output is linear in these weights, so leaves are summed last.
        expected = np.empty(len(self._subsets))
        for row, known in enumerate(self._subsets):
            weight = np.where(known, holds, share).prod(axis=1)
            expected[row] = leaves.base + weight @ leaves.value
        contributions = np.zeros(len(values))
        contributions[used] = self._weights @ expected
        return float(expected[0]), contributions


def _shapley_weights(num_features: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Return all subsets, and the matrix that turns their expected outputs into Shapley values."""
    subsets = np.array(list(itertools.product((False, True), repeat=num_features)), dtype=bool)
    sizes = subsets.sum(axis=1)
    weights = np.empty((num_features, len(subsets)))
    for feature in range(num_features):
        for row, known in enumerate(subsets):
            others = int(sizes[row]) - int(known[feature])
            share = factorial(others) * factorial(num_features - others - 1) / factorial(num_features)
            weights[feature, row] = share if known[feature] else -share
    return subsets, weights


def _words(
    name: str, features: Mapping[str, float], vehicle: Mapping[str, float], contribution: float
) -> str:
    """Say what one feature adds."""
    value = features[name]
    match name:
        case "price_diff" if abs(value) < CENT / 2:
            what = "priced at market"
        case "price_diff":
            share = abs(value) / vehicle["recommended_price"]
            percent = "under 1%" if share < 0.005 else f"{share:,.0%}"
            what = f"priced {_plain(abs(value))} ({percent}) {'below' if value < 0 else 'above'} market"
        case _ if name in COLUMNS:
            what = COLUMNS[name].as_reason(value)
        case _:
            what = f"{name.replace('_', ' ')} of {_plain(value)}"
    if abs(contribution) < 0.05:
        return f"{what}: no difference"
    effect = f"{contribution:+.1f}".replace("-", "\N{MINUS SIGN}")  # as pages write a loss
    return f"{what}: {effect} reservations"


def _plain(value: float) -> str:
    """Write a number as people do: without an exponent, and with cents only where there are some."""
    return f"{value:,.2f}".removesuffix(".00")
