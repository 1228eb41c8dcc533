"""Folds: which booster of a model never saw a vehicle.

A fold is a stable hash of the vehicle id: a vehicle is in the same fold of every snapshot.
"""

import numpy as np
import numpy.typing as npt

NUM_FOLDS = 5


def fold_of(vehicle_ids: npt.ArrayLike, num_folds: int = NUM_FOLDS) -> npt.NDArray[np.int64]:
    """Return the fold of each vehicle, from 0 to ``num_folds - 1``; consecutive ids spread evenly.

    Examples
    --------
    >>> fold_of([1, 2, 3, 1_000_000_001]).tolist()
    [4, 0, 1, 1]
    """
    return (_hash(vehicle_ids) % np.uint64(num_folds)).astype(np.int64)


def out_of_fold(by_fold: npt.NDArray[np.float64], folds: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return each vehicle's raw forecast by the booster that never saw its fold."""
    return by_fold[np.arange(len(folds)), folds]


def in_sample(vehicle_ids: npt.ArrayLike, share: float) -> npt.NDArray[np.bool_]:
    """Return which vehicles are in a sample of this share, by their ids alone; it takes all folds alike."""
    return (_hash(vehicle_ids) >> np.uint64(32)) < np.uint64(int(share * 2**32))


def _hash(vehicle_ids: npt.ArrayLike) -> npt.NDArray[np.uint64]:
    """Hash ids by the finalizer of SplitMix64."""
    x = np.asarray(vehicle_ids).astype(np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
