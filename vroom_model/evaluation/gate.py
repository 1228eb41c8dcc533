"""The decision whether a candidate becomes champion, from the scores of both on the same vehicles."""

import logging
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from vroom_features.offline.snapshots import Snapshot
from vroom_model.errors import BrokenModelError
from vroom_model.evaluation.metrics import Evaluation, score
from vroom_model.records import Decision, ModelVersion, SegmentGain
from vroom_model.segments import MIN_ROWS, SEGMENTS
from vroom_model.serving.predictor import Predictor

logger = logging.getLogger(__name__)
NUM_BUCKETS = 10_000


class PromotionRules(BaseModel):
    """What a candidate must achieve to become champion."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_gain: float = Field(default=0.01, ge=0, lt=1, description="share by which the error must fall")
    min_bias_gain: float = Field(
        default=0.02,
        gt=0,
        description="or the share of the mean outcome by which forecasts must come closer to it on average, "
        "with an error that is no higher",
    )
    confidence: float = Field(
        default=0.95,
        gt=0.5,
        lt=1,
        description="of the bootstrap's one-sided lower bound, which must be above 0",
    )
    segment_margin: float = Field(
        default=0.10,
        ge=0,
        allow_inf_nan=False,
        description="share by which the error of a price segment may rise",
    )
    max_bias: float = Field(
        default=0.25, gt=0, description="share of the mean outcome by which forecasts may be off on average"
    )
    max_label_drop: float = Field(
        default=0.25,
        gt=0,
        lt=1,
        description="share by which bookings may fall: outcomes below the champion's, or within a month",
    )
    num_resamples: int = Field(default=2_000, ge=100, description="of the bootstrap")


def compare(
    chosen: ModelVersion,
    champion: ModelVersion | None,
    snapshot: Snapshot,
    *,
    load: Callable[[ModelVersion], Predictor],
    rules: PromotionRules | None = None,
) -> Decision:
    """Score a version and the champion, if there is one, on the same vehicles out of fold, and decide.

    ``load`` returns a version's predictor, or raises BrokenModelError; a broken champion counts as none.
    """
    number = chosen.version
    known = {"champion_version": champion.version if champion else None, "candidate_run_id": chosen.run_id}

    def refused(reason: str) -> Decision:
        return Decision(promote=False, reason=reason, candidate_version=number).model_copy(update=known)

    if champion and champion.version == number:
        return refused(f"version {number} is champion already")
    try:
        candidate = score(load(chosen), snapshot)
    except BrokenModelError as exc:
        return refused(f"version {number} cannot be used: {exc.problem}; train again")
    try:
        rival = score(load(champion), snapshot) if champion else None
    except BrokenModelError as exc:
        logger.warning("champion cannot be scored: %s", exc)
        rival = None
    return decide(candidate, rival, rules).model_copy(update=known)


def decide(
    candidate: Evaluation, champion: Evaluation | None, rules: PromotionRules | None = None
) -> Decision:
    """Compare the scores of a candidate with those of the champion on the same vehicles.

    The gain is the share by which the mean absolute error falls.  Without a champion the candidate is
    compared with the mean outcome by squared error, which both minimize: by absolute error a model of the
    mean loses to the median where most vehicles are never booked.

    Where outcomes rise or fall for all vehicles the error hardly shows it before forecasts are far off, but
    their mean does.  So a candidate whose mean is closer to the outcomes' is promoted too if its error is no
    higher.
    """
    rules = rules or PromotionRules()
    if champion:
        rival, measure = f"champion {champion.version}", "error"
        errors, rival_errors = candidate.errors, champion.errors
    else:
        rival, measure = "the mean", "squared error"
        errors, rival_errors = candidate.errors**2, (candidate.baseline - candidate.labels) ** 2
    error, rival_error = float(errors.mean()), float(rival_errors.mean())
    gain = 1 - error / rival_error if rival_error > 0 else 0.0
    low = gain_lower_bound(errors, rival_errors, rules)
    compared = f"its {measure} {error:.3f} against {rival}'s {rival_error:.3f}"
    promote, name = False, f"version {candidate.version}"
    if objection := _objection(candidate, champion, rules):
        reason = objection
    elif gain < 0:
        reason = f"{name} is worse than {rival} by {-gain:.1%} ({compared}); train on more or newer data"
    elif low > 0 and (gain >= rules.min_gain or champion is None):
        promote = True
        reason = f"{name} is better than {rival}: {compared}, a gain of {gain:.1%} (at least {low:.1%})"
    elif champion and _bias_gain(candidate, champion) >= rules.min_bias_gain:
        promote = True
        reason = (
            f"{name} is closer to what happened than {rival}: {candidate.labels.mean():.2f} reservations on "
            f"average, forecast {candidate.forecast.mean():.2f} against {champion.forecast.mean():.2f}, and "
            f"{compared} is no higher"
        )
    elif low <= 0:
        bound = f"{low:.1%}".replace("-", "\N{MINUS SIGN}")  # as the pages write it
        reason = (
            f"{name} is not significantly better than {rival}: {compared} is a gain of {gain:.1%}, and "
            f"chance alone could make it ({rules.confidence:.0%} bound {bound}); train on more or newer data"
        )
    else:
        reason = (
            f"{name} is better than {rival} by {gain:.1%} only ({compared}); "
            f"a change needs {rules.min_gain:.1%}"
        )
    return Decision(
        promote=promote,
        reason=reason,
        candidate_version=candidate.version,
        champion_version=champion.version if champion else None,
        candidate_mae=float(candidate.errors.mean()),
        champion_mae=rival_error if champion else None,
        gain=gain,
        gain_low=low,
        num_vehicles=len(candidate.errors),
        num_left_out=candidate.num_left_out,
        next_matures=candidate.next_matures,
        snapshot_digest=candidate.snapshot_digest,
        segments=tuple(_segment_gains(candidate, champion)) if champion else (),
    )


def _segment_gains(candidate: Evaluation, champion: Evaluation) -> Iterator[SegmentGain]:
    for number, segment in enumerate(SEGMENTS):
        rows = candidate.segments == number
        num_vehicles = int(rows.sum())
        if num_vehicles < MIN_ROWS:
            continue
        ours, theirs = candidate.errors[rows], champion.errors[rows]
        difference = float((ours - theirs).mean())
        margin = 1.96 * float((ours - theirs).std(ddof=1)) / num_vehicles**0.5
        yield SegmentGain(
            segment=segment,
            num_vehicles=num_vehicles,
            candidate_mae=float(ours.mean()),
            champion_mae=float(theirs.mean()),
            low=difference - margin,
            high=difference + margin,
        )


def _bias_gain(candidate: Evaluation, champion: Evaluation) -> float:
    """Return by which share of the mean outcome a candidate's mean forecast is closer to it."""
    outcome = float(candidate.labels.mean())
    ours, theirs = (abs(float(each.forecast.mean()) - outcome) for each in (candidate, champion))
    return (theirs - ours) / outcome if outcome > 0 else 0.0


def gain_lower_bound(
    errors: npt.NDArray[np.float64], rival_errors: npt.NDArray[np.float64], rules: PromotionRules
) -> float:
    """Return the lower bound of the gain: a paired bootstrap over vehicles, the same for the same errors."""
    rng = np.random.default_rng(0)
    # More vehicles than that are resampled in groups: the bound stays the same, and the work is limited.
    bucket = np.arange(len(errors)) % NUM_BUCKETS
    saved = np.bincount(bucket, weights=rival_errors - errors)
    had = np.bincount(bucket, weights=rival_errors)
    gains = np.empty(rules.num_resamples)
    for resample in range(rules.num_resamples):
        drawn = rng.integers(0, len(saved), len(saved))
        gains[resample] = saved[drawn].sum() / max(had[drawn].sum(), 1e-12)
    return float(np.quantile(gains, 1 - rules.confidence))


def _objection(candidate: Evaluation, champion: Evaluation | None, rules: PromotionRules) -> str | None:
    """Return why the candidate must not serve whatever its mean error is, or None."""
    name = f"version {candidate.version}"
    labels = candidate.labels
    bias = float((candidate.forecast - labels).mean())
    if abs(bias) > rules.max_bias * labels.mean():
        return (
            f"{name} forecasts {candidate.forecast.mean():.2f} reservations on average where "
            f"{labels.mean():.2f} happened; it was trained on other outcomes, so check the reservations"
        )
    if champion is None:
        return None
    if lost := candidate.recent and candidate.recent.problem(rules.max_label_drop):
        return (
            f"{lost}; bookings seem to be missing, so check reservations.csv, seed and materialize again, or "
            f"promote {name} by force if demand fell"
        )
    if champion.snapshot_digest != candidate.snapshot_digest:
        return "the two were scored on different snapshots; score both again"
    if labels.mean() < (1 - rules.max_label_drop) * champion.trained_mean_label:
        return (
            f"vehicles have {labels.mean():.2f} reservations on average, down from the "
            f"{champion.trained_mean_label:.2f} that champion {champion.version} learned from; "
            "reservations seem to be missing, so check reservations.csv and materialize again"
        )
    for gain in _segment_gains(candidate, champion):
        if gain.candidate_mae > (1 + rules.segment_margin) * gain.champion_mae:
            return (
                f"{name} is worse for vehicles {gain.segment}: error {gain.candidate_mae:.3f} against "
                f"{gain.champion_mae:.3f}, more than {rules.segment_margin:.0%} above champion "
                f"{champion.version}"
            )
    return None
