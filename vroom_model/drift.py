"""Watching a model: whether new vehicles look like those it learned from, and its forecasts came true."""

from collections.abc import Mapping
from datetime import datetime

import numpy as np
import numpy.typing as npt

from vroom_model.dataset import Dataset, TrainingSnapshot, load_dataset
from vroom_model.evaluation import out_of_fold
from vroom_model.manifest import Histogram
from vroom_model.predictor import Predictor, with_range
from vroom_model.records import MIN_ARRIVALS, FeatureDrift, MonitorReport, Outcomes, Verdict

PSI_SOME, PSI_LARGE = 0.1, 0.25


def watch(
    predictor: Predictor,
    snapshot: TrainingSnapshot,
    arrivals: Mapping[str, npt.NDArray[np.float64]],
    *,
    as_of: datetime,
) -> MonitorReport:
    """Compare new arrivals with a model's training vehicles, and its forecasts with outcomes.

    Parameters
    ----------
    predictor : Predictor
        The model.
    snapshot : Snapshot
        The current one; the outcomes are those of its csv vehicles, each forecast out of fold.
    arrivals : mapping of feature name to ndarray of shape (n_arrivals,)
        The new arrivals; features that the model does not take are ignored.
    as_of : datetime
        The moment of looking.
    """
    manifest = predictor.manifest
    dataset = load_dataset(snapshot, inputs=manifest.view.columns, num_folds=manifest.num_folds)
    return MonitorReport(
        version=predictor.version,
        as_of=as_of,
        num_arrivals=len(arrivals[dataset.inputs[0]]),
        features=tuple(
            feature_drift(name, manifest.reference[name], arrivals[name]) for name in dataset.inputs
        ),
        outcomes=_outcomes(predictor, dataset),
        num_left_out=dataset.num_left_out,
    )


def feature_drift(name: str, reference: Histogram, values: npt.NDArray[np.float64]) -> FeatureDrift:
    """Return the drift of one feature; too few values get no number."""
    if len(values) < MIN_ARRIVALS:
        return FeatureDrift(feature=name, psi=None, verdict="too few")
    index = psi(reference, values)
    verdict: Verdict = "steady"
    if index >= PSI_SOME:
        verdict = "large drift" if index >= PSI_LARGE else "some drift"
    return FeatureDrift(feature=name, psi=index, verdict=verdict)


def psi(reference: Histogram, values: npt.NDArray[np.float64]) -> float:
    """Return the population stability index of values against a histogram.

    Examples
    --------
    >>> coin = Histogram(edges=(0.0,), counts=(500, 500))
    >>> round(psi(coin, np.repeat([0.0, 1.0], [500, 500])), 3)
    0.0
    >>> round(psi(coin, np.repeat([0.0, 1.0], [900, 100])), 2)
    0.88
    """
    expected = np.asarray(reference.counts, dtype=np.float64)
    # The edges are values that a model learned from, float32: rounded otherwise, one would miss its own bin.
    bins = np.searchsorted(reference.edges, values.astype(np.float32))
    found = np.bincount(bins, minlength=len(expected))
    # Half a vehicle in each bin keeps an empty one from making the index infinite.
    ours, theirs = (
        (counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (found.astype(np.float64), expected)
    )
    return float(np.sum((ours - theirs) * np.log(ours / theirs)))


def _outcomes(predictor: Predictor, dataset: Dataset) -> Outcomes:
    """Return how forecasts fared, each by the booster that never learned from the vehicle."""
    raw = out_of_fold(predictor.predict_by_fold(dataset.features), dataset.folds)
    forecasts = with_range(raw, predictor.manifest.interval)
    held = (forecasts.low <= dataset.labels) & (dataset.labels <= forecasts.high)
    return Outcomes(
        num_vehicles=len(dataset),
        mean_forecast=float(forecasts.predicted_reservations.mean()),
        mean_outcome=float(dataset.labels.mean()),
        mae=float(np.abs(forecasts.predicted_reservations - dataset.labels).mean()),
        held=float(held.mean()),
    )
