"""Shapley values of tree ensembles: path-dependent TreeSHAP, as XGBoost's ``pred_contribs`` gives it.

A leaf depends on the few features on its path alone.  Each of these either holds the leaf (the vehicle's
value is within the leaf's bounds) or not; while a feature is unknown, it holds with the share of training
rows that went the leaf's way.  With every feature known with probability t, feature j moves the leaf's
expected output by

    value * (holds_j - share_j) * product over the other features of (t * holds + (1 - t) * share)

and the mean of that over t from 0 to 1 is its Shapley value.  It is a polynomial in t of a degree below the
number of features on the path, which Gauss-Legendre quadrature integrates exactly with half as many points.
"""

from collections.abc import Sequence
from typing import Self

import numpy as np
import numpy.typing as npt

from vroom_model.trees import Ensemble

Array = npt.NDArray[np.float64]


class TreeShap:
    """The leaves of several boosters, averaged.  It is immutable: threads may share it.

    Rows are places on a path and columns are leaves; shorter paths end with places that always hold.

    Parameters
    ----------
    base : float
        Mean of the boosters' constants.
    value : ndarray of shape (n_leaves,)
        What each leaf adds, divided by the number of boosters.
    feature : ndarray of shape (depth, n_leaves), int
        The features on each leaf's path, each once.
    low, high : ndarray of shape (depth, n_leaves), float32
        The leaf holds where ``low <= x < high`` in every feature.
    share : ndarray of shape (depth, n_leaves)
        Product, over the path's splits on the feature, of the share of training rows that went on to the
        leaf.  Above 0, as no split leaves a side without rows.
    """

    def __init__(
        self,
        base: float,
        value: Array,
        feature: npt.NDArray[np.intp],
        low: npt.NDArray[np.float32],
        high: npt.NDArray[np.float32],
        share: Array,
    ) -> None:
        self._value = value
        self._feature = feature
        self._low = low
        self._high = high
        self._share = share
        points, weights = np.polynomial.legendre.leggauss((len(share) + 1) // 2)
        self._points = list(zip((points + 1) / 2, weights / 2, strict=True))  # from 0 to 1
        self.base = base + float(share.prod(axis=0) @ value)
        """The mean forecast over the training vehicles."""

    @classmethod
    def of(cls, ensembles: Sequence[Ensemble]) -> Self:
        """Lay out the leaves of these boosters."""
        leaves = [
            (tree, *leaf) for ensemble in ensembles for tree in ensemble.trees for leaf in tree.leaves()
        ]
        depths = (len({tree.feature[node] for node, _ in path}) for tree, _, path in leaves)
        shape = (max(1, *depths), len(leaves))
        value = np.empty(len(leaves))
        feature = np.zeros(shape, dtype=np.intp)
        low = np.full(shape, -np.inf, dtype=np.float32)
        high = np.full(shape, np.inf, dtype=np.float32)
        share = np.ones(shape)
        for column, (tree, leaf, path) in enumerate(leaves):
            value[column] = tree.threshold[leaf] / len(ensembles)
            places: dict[int, int] = {}
            for node, goes_left in path:
                at = places.setdefault(tree.feature[node], len(places)), column
                feature[at] = tree.feature[node]
                child = tree.left[node] if goes_left else tree.right[node]
                share[at] *= tree.cover[child] / tree.cover[node]
                if goes_left:
                    high[at] = min(high[at], tree.threshold[node])
                else:
                    low[at] = max(low[at], tree.threshold[node])
        base = float(np.mean([ensemble.base for ensemble in ensembles]))
        return cls(base, value, feature, low, high, share)

    def contributions(self, values: npt.NDArray[np.float32]) -> Array:
        """Return each feature's Shapley value; with ``base`` they add up to the forecast.

        Parameters
        ----------
        values : ndarray of shape (n_features,), float32
            The features of one vehicle, in the model's order.
        """
        found = values[self._feature]
        holds = (self._low <= found) & (found < self._high)
        others = np.zeros_like(self._share)
        for t, weight in self._points:
            factor = (1 - t) * self._share + t * holds
            others += weight * factor.prod(axis=0) / factor
        parts = self._value * (holds - self._share) * others
        added_up = np.bincount(self._feature.ravel(), weights=parts.ravel(), minlength=len(values))
        return added_up.astype(np.float64)  # NumPy's types take it for counts
