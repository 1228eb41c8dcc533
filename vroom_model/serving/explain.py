"""Why a forecast is what it is: Shapley values of its features, in plain words.

They are averaged over the fold boosters.  A web worker works them out from the boosters' files, without
XGBoost, which would cost it 151 MB.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from vroom_features.vehicle import COLUMNS
from vroom_features.view import VEHICLE_VIEW, FeatureView
from vroom_model.errors import BrokenModelError
from vroom_model.manifest import ModelManifest, fold_file
from vroom_model.serving.shapley import TreeShap
from vroom_model.trees import Ensemble

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
    fact : str
        The value in words.
    """

    feature: str
    value: float
    contribution: float
    fact: str

    @property
    def text(self) -> str:
        """The fact and what it adds, in words."""
        if abs(self.contribution) < 0.05:
            return f"{self.fact}: no difference"
        effect = f"{self.contribution:+.1f}".replace("-", "\N{MINUS SIGN}")  # as pages write a loss
        return f"{self.fact}: {effect} reservations"


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
    shap : TreeShap
        Of all fold boosters.
    view : FeatureView
        The features that the model takes, in its order.
    """

    def __init__(self, shap: TreeShap, view: FeatureView) -> None:
        self._shap = shap
        self._view = view

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read and verify the fold boosters of a model directory.

        Raises
        ------
        BrokenModelError
            If a file is missing or altered, or is no booster.
        """
        manifest = ModelManifest.read(directory)
        try:
            boosters = [
                Ensemble.from_json((directory / fold_file(fold)).read_bytes())
                for fold in range(manifest.num_folds)
            ]
        except (OSError, ValueError) as exc:
            raise BrokenModelError(directory, f"its boosters cannot be read: {exc}") from exc
        return cls(TreeShap.of(boosters), VEHICLE_VIEW.select(manifest.view.columns))

    def explain(self, vehicle: Mapping[str, float]) -> Explanation:
        """Explain a vehicle's forecast from its raw columns."""
        features = self._view.compute(vehicle)
        values = np.array(list(features.values()), dtype=np.float32)
        contributions = self._shap.contributions(values)
        raw = self._shap.base + float(contributions.sum())
        # Where the boosters together fall below 0, the forecast stops there and the base takes the rest up.
        forecast = max(raw, 0.0)
        reasons = [
            Reason(name, float(features[name]), float(part), _fact(name, features, vehicle))
            for name, part in zip(features, contributions, strict=True)
        ]
        reasons.sort(key=lambda reason: -abs(reason.contribution))
        return Explanation(self._shap.base + forecast - raw, tuple(reasons), forecast)


def _fact(name: str, features: Mapping[str, float], vehicle: Mapping[str, float]) -> str:
    """Return a feature's value in words."""
    value = features[name]
    match name:
        case "price_diff" if abs(value) < CENT / 2:
            return "priced at market"
        case "price_diff":
            share = abs(value) / vehicle["recommended_price"]
            percent = "under 1%" if share < 0.005 else f"{share:,.0%}"
            return f"priced {_plain(abs(value))} ({percent}) {'below' if value < 0 else 'above'} market"
        case _ if name in COLUMNS:
            return COLUMNS[name].as_reason(value)
        case _:
            return f"{name.replace('_', ' ')} of {_plain(value)}"


def _plain(value: float) -> str:
    """Write a number as people do: without an exponent, and with cents only where there are some."""
    return f"{value:,.2f}".removesuffix(".00")
