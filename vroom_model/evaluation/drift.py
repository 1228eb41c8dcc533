"""How much new arrivals differ from the training vehicles of a model, and its forecasts from outcomes."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np
import numpy.typing as npt

from vroom_features.offline.snapshots import Snapshot
from vroom_model.evaluation.metrics import score
from vroom_model.manifest import Histogram
from vroom_model.records import MIN_ARRIVALS, FeatureDrift, MonitorReport, Outcomes, Verdict
from vroom_model.serving.predictor import Predictor

PSI_SOME, PSI_LARGE = 0.1, 0.25
MAX_DROP = 0.25


def monitor(
    predictor: Predictor,
    snapshot: Snapshot,
    arrivals: Mapping[str, npt.NDArray[np.float64]],
    *,
    as_of: datetime,
    max_drop: float = MAX_DROP,
) -> MonitorReport:
    """Compare new arrivals with a model's training vehicles, and its forecasts with outcomes.

    Parameters
    ----------
    predictor : Predictor
    snapshot : Snapshot
        The outcomes are those of its vehicles whose watch is over, each forecast out of fold.
    arrivals : mapping of feature name to ndarray of shape (n_arrivals,)
        Features that the model does not take are ignored.
    as_of : datetime
        Time of the report.
    max_drop : float
        Share by which bookings of the last 30 days may be below those of the 30 days before.
    """
    names = predictor.view.columns
    reference = predictor.manifest.reference
    evaluation = score(predictor, snapshot)
    return MonitorReport(
        version=predictor.version,
        as_of=as_of,
        num_arrivals=len(arrivals[names[0]]),
        features=tuple(feature_drift(name, reference[name], arrivals[name]) for name in names),
        outcomes=Outcomes(
            num_vehicles=len(evaluation.labels),
            mean_forecast=float(evaluation.forecast.mean()),
            mean_outcome=float(evaluation.labels.mean()),
            mae=evaluation.metrics["mae"],
            held=evaluation.metrics["coverage"],
        ),
        num_left_out=evaluation.num_left_out,
        next_matures=evaluation.next_matures,
        lost_bookings=snapshot.recent.problem(max_drop) if snapshot.recent else None,
        matured=evaluation.matured,
    )


def feature_drift(name: str, reference: Histogram, values: npt.NDArray[np.float64]) -> FeatureDrift:
    """Return the drift of one feature, without a number where there are too few values."""
    # The edges are training values, which are float32: a value that is not rounded alike may miss its bin.
    counts = Histogram.of(values.astype(np.float32), reference.edges).counts
    if len(values) < MIN_ARRIVALS:
        return FeatureDrift(feature=name, psi=None, verdict="too few", counts=counts)
    index = psi(reference.counts, counts)
    verdict: Verdict = "steady"
    if index >= PSI_SOME:
        verdict = "large drift" if index >= PSI_LARGE else "some drift"
    return FeatureDrift(feature=name, psi=index, verdict=verdict, counts=counts)


def psi(expected: Sequence[int], found: Sequence[int]) -> float:
    """Return the population stability index of the counts in the bins of a histogram.

    Examples
    --------
    >>> round(psi((500, 500), (500, 500)), 3), round(psi((500, 500), (900, 100)), 2)
    (0.0, 0.88)
    """
    # Half a vehicle more in each bin: an empty bin would make the index infinite.
    theirs, ours = (np.array(counts) + 0.5 for counts in (expected, found))
    theirs, ours = theirs / theirs.sum(), ours / ours.sum()
    return float(np.sum((ours - theirs) * np.log(ours / theirs)))
