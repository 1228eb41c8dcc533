"""A forest of few features is a table: the forecast of one vehicle without walking a tree.

The thresholds of a booster cut each feature into intervals, and between thresholds its answer is constant.
So every answer it can give fits in a table over those intervals, worked out once when the model is loaded; a
request looks it up with one binary search a feature.  The table adds the leaves in the order and in the
precision of the serving graph, so both answer the same to the last bit.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Self

import numpy as np
import numpy.typing as npt

from vroom_model.trees import LEAVES_A_STEP, Ensemble, LeafTable, Pause, no_pause

MAX_CELLS = 250_000
"""Of one booster; beyond it a table costs more memory and time to make than it saves."""
FLOATS_A_STEP = 8_192


@dataclass(frozen=True, slots=True)
class _BoosterTable:
    """One booster's answers: for each feature it uses its position, stride and thresholds."""

    cuts: tuple[tuple[int, int, tuple[float, ...]], ...]
    answers: tuple[float, ...]

    @classmethod
    def of(cls, ensemble: Ensemble, num_features: int, pause: Pause) -> Self | None:
        leaves = LeafTable.of([ensemble], num_features, pause=pause)
        thresholds = [np.unique(column[np.isfinite(column)]) for column in leaves.low.T]
        shape = tuple(len(cuts) + 1 for cuts in thresholds)
        if np.prod(shape, dtype=np.float64) > MAX_CELLS:
            return None
        # Interval i of a feature begins at its threshold i - 1; a leaf holds from its low to before its high.
        begin = np.column_stack(
            [np.searchsorted(t, low, side="right") for t, low in zip(thresholds, leaves.low.T, strict=True)]
        )
        end = np.column_stack(
            [
                np.searchsorted(t, high, side="left") + 1
                for t, high in zip(thresholds, leaves.high.T, strict=True)
            ]
        )
        answers = np.zeros(shape, dtype=np.float32)
        rows = zip(begin.tolist(), end.tolist(), leaves.value.astype(np.float32), strict=True)
        for number, (first, last, value) in enumerate(rows):
            answers[tuple(map(slice, first, last))] += value
            if number % LEAVES_A_STEP == 0:
                pause()
        answers += np.float32(ensemble.base)
        strides = [int(np.prod(shape[position + 1 :])) for position in range(num_features)]
        cuts = tuple(
            (position, strides[position], tuple(map(float, found)))
            for position, found in enumerate(thresholds)
            if len(found)
        )
        return cls(cuts, tuple(_floats(answers.ravel(), pause)))


def _floats(values: npt.NDArray[np.float32], pause: Pause) -> Iterator[float]:
    for start in range(0, len(values), FLOATS_A_STEP):
        yield from values[start : start + FLOATS_A_STEP].tolist()
        pause()


class ForestTable:
    """Every answer of the boosters of a model.

    Parameters
    ----------
    boosters : sequence of _BoosterTable
        One a fold.
    num_features : int
        Length of a row.
    """

    def __init__(self, boosters: Sequence[_BoosterTable], num_features: int) -> None:
        self._boosters = tuple((booster.cuts, booster.answers) for booster in boosters)
        self._float32 = Struct(f"{num_features}f")

    @classmethod
    def of(cls, ensembles: Sequence[Ensemble], num_features: int, *, pause: Pause = no_pause) -> Self | None:
        """Work the table out, or return None where it would be too large.

        Parameters
        ----------
        ensembles : sequence of Ensemble
            One booster a fold.
        num_features : int
            Length of a row.
        pause : callable
            Called after every fraction of a millisecond of work.
        """
        boosters = [_BoosterTable.of(ensemble, num_features, pause) for ensemble in ensembles]
        found = [booster for booster in boosters if booster is not None]
        return cls(found, num_features) if len(found) == len(boosters) else None

    def mean(self, row: Sequence[float]) -> float:
        """Return the mean of the boosters' raw forecasts of one row of features."""
        values = self._float32.unpack(self._float32.pack(*row))
        total = 0.0
        for cuts, answers in self._boosters:
            cell = 0
            for position, stride, thresholds in cuts:
                cell += stride * bisect_right(thresholds, values[position])
            total += answers[cell]
        return total / len(self._boosters)
