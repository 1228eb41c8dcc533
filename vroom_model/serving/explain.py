"""Why a forecast is what it is: Shapley values of its features, in plain words.

They are those of XGBoost's ``pred_contribs`` (path-dependent TreeSHAP), averaged over the fold boosters, and
computed without XGBoost, which would cost a web worker 151 MB.

A leaf's output depends on the few features on its path.  Each of these matches (the vehicle's value is within
the leaf's bounds) or not; while a feature is unknown, it matches with the share of training rows that went
the leaf's way.  With every feature known with probability t, feature j moves the leaf's expected output by

    value * (match_j - share_j) * product over the other features of (t * match + (1 - t) * share)

and the mean of that over t from 0 to 1 is its Shapley value.  It is a polynomial in t of a degree below the
number of features on the path, which Gauss-Legendre quadrature integrates exactly with half as many points.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from vroom_features.vehicle import COLUMNS
from vroom_features.view import VEHICLE_VIEW
from vroom_model.errors import BrokenModelError
from vroom_model.manifest import ModelManifest, fold_file
from vroom_model.serving.inputs import compute_features
from vroom_model.trees import Ensemble

Array = npt.NDArray[np.float64]
CENT = 0.01
"""Prices that differ by less than half of it are the same."""


@dataclass(frozen=True, slots=True)
class Reason:
    """What one feature adds to the forecast, in reservations, and its value in words."""

    feature: str
    contribution: float
    fact: str
    compared: str = ""
    """What the training vehicles have on average; empty for a model of an earlier release."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A forecast in parts: ``base``, the mean over the training vehicles, and one reason a feature.

    Base and contributions add up to the forecast.  The largest contribution is first.
    """

    base: float
    reasons: tuple[Reason, ...]

    def times(self, factor: float) -> Self:
        """Return the reasons for the forecast of so many times the days."""
        reasons = [replace(each, contribution=each.contribution * factor) for each in self.reasons]
        return replace(self, base=self.base * factor, reasons=tuple(reasons))


class TreeShap:
    """The leaves of several boosters, averaged.  It is immutable: threads may share it.

    Each array has a column per leaf and a row per feature on its path; unused rows always match.
    """

    def __init__(self, boosters: Sequence[Ensemble]) -> None:
        leaves = [(tree, *leaf) for booster in boosters for tree in booster.trees for leaf in tree.leaves()]
        depths = (len({tree.feature[node] for node, _ in path}) for tree, _, path in leaves)
        shape = (max(1, *depths), len(leaves))
        self._value = np.empty(len(leaves))
        self._feature = np.zeros(shape, dtype=np.intp)
        self._low = np.full(shape, -np.inf, dtype=np.float32)
        self._high = np.full(shape, np.inf, dtype=np.float32)
        self._share = np.ones(shape)
        for column, (tree, leaf, path) in enumerate(leaves):
            self._value[column] = tree.threshold[leaf] / len(boosters)
            rows: dict[int, int] = {}
            for node, goes_left in path:
                at = rows.setdefault(tree.feature[node], len(rows)), column
                self._feature[at] = tree.feature[node]
                child = tree.left[node] if goes_left else tree.right[node]
                self._share[at] *= tree.cover[child] / tree.cover[node]  # above 0: no side is empty
                if goes_left:
                    self._high[at] = min(self._high[at], tree.threshold[node])
                else:
                    self._low[at] = max(self._low[at], tree.threshold[node])
        points, weights = np.polynomial.legendre.leggauss((len(self._share) + 1) // 2)
        self._points = list(zip((points + 1) / 2, weights / 2, strict=True))  # from 0 to 1
        constant = float(np.mean([booster.base for booster in boosters]))
        self.base = constant + float(self._share.prod(axis=0) @ self._value)
        """The mean forecast over the training vehicles."""

    def contributions(self, values: npt.NDArray[np.float32]) -> Array:
        """Return the Shapley values of a vehicle's features; with ``base`` they add up to its forecast."""
        found = values[self._feature]
        match = (self._low <= found) & (found < self._high)
        others = np.zeros_like(self._share)
        for t, weight in self._points:
            factor = (1 - t) * self._share + t * match
            others += weight * factor.prod(axis=0) / factor
        parts = self._value * (match - self._share) * others
        sums = np.bincount(self._feature.ravel(), weights=parts.ravel(), minlength=len(values))
        return sums.astype(np.float64)  # for NumPy's types it has counts


class Explainer:
    """Explains forecasts of one model.  It is immutable: threads may share it."""

    def __init__(self, shap: TreeShap, manifest: ModelManifest) -> None:
        self._shap = shap
        self._view = VEHICLE_VIEW.select(manifest.view.columns)
        self._compared = {name: _average(name, manifest) for name in self._view.columns}

    @classmethod
    def load(cls, directory: Path | str) -> Self:
        """Read the fold boosters of a model directory; BrokenModelError if they cannot be used."""
        directory = Path(directory)
        manifest = ModelManifest.read(directory)
        try:
            boosters = [
                Ensemble.from_json((directory / fold_file(fold)).read_bytes())
                for fold in range(manifest.num_folds)
            ]
        except (OSError, ValueError) as exc:
            raise BrokenModelError(directory, f"its boosters cannot be read: {exc}") from exc
        return cls(TreeShap(boosters), manifest)

    def explain(self, vehicle: Mapping[str, float]) -> Explanation:
        """Explain a vehicle's forecast from its raw columns; MissingValueError without one of them."""
        features = compute_features(self._view, vehicle)
        values = np.array(list(features.values()), dtype=np.float32)
        contributions = self._shap.contributions(values)
        raw = self._shap.base + float(contributions.sum())
        # A forecast is never below 0; the base takes the difference.
        base = self._shap.base + max(raw, 0.0) - raw
        reasons = [
            Reason(name, float(part), _fact(name, features, vehicle), self._compared[name])
            for name, part in zip(features, contributions, strict=True)
        ]
        reasons.sort(key=lambda reason: -abs(reason.contribution))
        return Explanation(base, tuple(reasons))


def _fact(name: str, features: Mapping[str, float], vehicle: Mapping[str, float]) -> str:
    """Return the value of a feature in words."""
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


def _average(name: str, manifest: ModelManifest) -> str:
    """Return in words what the training vehicles have of a feature on average."""
    ratio, seen = manifest.mean_price_ratio, manifest.ranges.get(name)
    if name == "price_diff" and ratio is not None:
        where = "above market" if ratio > 1 else "below market"
        return f"the average car of the fleet asks {abs(ratio - 1):.0%} {where}"
    if seen is None:
        return ""
    if COLUMNS[name].choices:
        return f"{seen.mean:.0%} of the fleet: {COLUMNS[name].as_reason(1)}"
    return f"the average car of the fleet: {seen.mean:,.1f}".removesuffix(".0")


def _plain(value: float) -> str:
    """Write a number without an exponent, and with cents only if there are any."""
    return f"{value:,.2f}".removesuffix(".00")
