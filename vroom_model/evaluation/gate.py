"""The decision whether a candidate becomes champion, from the scores of both on the same vehicles."""

import logging
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from vroom_model.dataset import SEGMENTS, TrainingSnapshot
from vroom_model.errors import BrokenModelError
from vroom_model.evaluation.metrics import Evaluation, score
from vroom_model.records import Decision, ModelVersion
from vroom_model.serving.predictor import Predictor

logger = logging.getLogger(__name__)
NUM_BUCKETS = 10_000


class PromotionRules(BaseModel):
    """What a candidate must do to become champion."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_gain: float = Field(default=0.01, ge=0, lt=1, description="share by which the error must fall")
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
    segment_min_rows: int = Field(default=30, ge=1, description="smaller segments are not judged")
    max_bias: float = Field(
        default=0.25, gt=0, description="share of the mean outcome by which forecasts may be off on average"
    )
    max_label_drop: float = Field(
        default=0.25, gt=0, lt=1, description="share by which outcomes may fall below those of the champion"
    )
    num_resamples: int = Field(default=2_000, ge=100, description="of the bootstrap")


def compare(
    chosen: ModelVersion,
    champion: ModelVersion | None,
    snapshot: TrainingSnapshot,
    *,
    load: Callable[[ModelVersion], Predictor],
    rules: PromotionRules | None = None,
) -> Decision:
    """Score a version and the champion on a snapshot, and decide.

    Parameters
    ----------
    chosen : ModelVersion
        The one that may become champion.
    champion : ModelVersion or None
        One that is broken counts as none.
    snapshot : Snapshot
        Both are scored on its csv vehicles, out of fold.
    load : callable
        Returns a version's predictor; BrokenModelError if it cannot be used.
    rules : PromotionRules, optional
        What counts.
    """
    known = {"champion_version": champion.version if champion else None, "candidate_run_id": chosen.run_id}
    number = chosen.version
    if champion and champion.version == number:
        reason = f"version {number} is champion already"
        return Decision(promote=False, reason=reason, candidate_version=number, champion_version=number)
    try:
        candidate = score(load(chosen), snapshot)
    except BrokenModelError as exc:
        reason = f"version {number} cannot be used: {exc.problem}; train again"
        return Decision(promote=False, reason=reason, candidate_version=number).model_copy(update=known)
    try:
        rival = score(load(champion), snapshot) if champion else None
    except BrokenModelError as exc:
        logger.warning("champion cannot be scored: %s", exc)
        rival = None
    return decide(candidate, rival, rules).model_copy(update=known)


def decide(
    candidate: Evaluation, champion: Evaluation | None, rules: PromotionRules | None = None
) -> Decision:
    """Compare a candidate with the champion.

    Parameters
    ----------
    candidate : Evaluation
        Out-of-fold scores on the current snapshot.
    champion : Evaluation or None
        The same of the champion, on the same vehicles; None when there is no champion that can be scored.
    rules : PromotionRules, optional
        What counts.

    Returns
    -------
    Decision
        The gain is the share by which the error falls, the rival being the median where there is no champion.
    """
    rules = rules or PromotionRules()
    rival_errors = champion.errors if champion else candidate.baseline_errors
    rival = f"champion {champion.version}" if champion else "the median"
    low = gain_lower_bound(candidate.errors, rival_errors, rules)
    gain = float(1 - candidate.errors.mean() / rival_errors.mean()) if rival_errors.mean() > 0 else 0.0
    promote, reason = _judge(candidate, champion, rules, gain=gain, low=low, rival=rival)
    return Decision(
        promote=promote,
        reason=reason,
        candidate_version=candidate.version,
        champion_version=champion.version if champion else None,
        candidate_mae=float(candidate.errors.mean()),
        champion_mae=float(champion.errors.mean()) if champion else None,
        gain=gain,
        gain_low=low,
        num_vehicles=len(candidate.errors),
        num_left_out=candidate.num_left_out,
        snapshot_digest=candidate.snapshot_digest,
    )


def gain_lower_bound(
    errors: npt.NDArray[np.float64], rival_errors: npt.NDArray[np.float64], rules: PromotionRules
) -> float:
    """Return the lower bound of the gain: a paired bootstrap over vehicles, the same for the same errors.

    Parameters
    ----------
    errors, rival_errors : ndarray of shape (n_vehicles,)
        Absolute errors of both on each vehicle.
    rules : PromotionRules
        Confidence and number of resamples.
    """
    rng = np.random.default_rng(0)
    # Beyond so many vehicles they are resampled in groups, which keeps the bound and bounds the work.
    bucket = np.arange(len(errors)) % NUM_BUCKETS
    saved = np.bincount(bucket, weights=rival_errors - errors)
    had = np.bincount(bucket, weights=rival_errors)
    gains = np.empty(rules.num_resamples)
    for resample in range(rules.num_resamples):
        drawn = rng.integers(0, len(saved), len(saved))
        gains[resample] = saved[drawn].sum() / max(had[drawn].sum(), 1e-12)
    return float(np.quantile(gains, 1 - rules.confidence))


def _judge(
    candidate: Evaluation,
    champion: Evaluation | None,
    rules: PromotionRules,
    *,
    gain: float,
    low: float,
    rival: str,
) -> tuple[bool, str]:
    """Return the verdict and the sentence that goes with it; the first objection counts."""
    if objection := _objection(candidate, champion, rules):
        return False, objection
    compared = (
        f"its error {candidate.errors.mean():.3f} against {rival}'s "
        f"{(champion.errors if champion else candidate.baseline_errors).mean():.3f}"
    )
    name = f"version {candidate.version}"
    if gain < 0:
        return False, f"{name} is worse than {rival} by {-gain:.1%} ({compared}); train on more or newer data"
    if low <= 0:
        return False, (
            f"{name} is not surely better than {rival}: {compared} is a gain of {_share(gain)}, and chance "
            f"alone could make it ({rules.confidence:.0%} bound {_share(low)}); train on more or newer data"
        )
    if gain < rules.min_gain and champion:
        return False, (
            f"{name} is better than {rival} by {gain:.1%} only ({compared}); "
            f"a change needs {rules.min_gain:.1%}"
        )
    return True, f"{name} is better than {rival}: {compared}, a gain of {gain:.1%} (at least {low:.1%})"


def _share(value: float) -> str:
    """Write a share as pages do: a loss has a minus sign, not a hyphen."""
    return f"{value:.1%}".replace("-", "\N{MINUS SIGN}")


def _objection(candidate: Evaluation, champion: Evaluation | None, rules: PromotionRules) -> str | None:
    """Return why the candidate must not serve whatever its mean error, or None."""
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
    if champion.snapshot_digest != candidate.snapshot_digest:
        return "the two were scored on different snapshots; score both again"
    if candidate.version == champion.version:
        return f"{name} is champion already"
    if labels.mean() < (1 - rules.max_label_drop) * champion.trained_mean_label:
        return (
            f"vehicles have {labels.mean():.2f} reservations on average, down from the "
            f"{champion.trained_mean_label:.2f} that champion {champion.version} learned from; "
            "reservations seem to be missing, so check reservations.csv and materialize again"
        )
    for number, segment in enumerate(SEGMENTS):
        rows = candidate.segments == number
        if rows.sum() < rules.segment_min_rows:
            continue
        ours, theirs = float(candidate.errors[rows].mean()), float(champion.errors[rows].mean())
        if ours > (1 + rules.segment_margin) * theirs:
            return (
                f"{name} is worse for vehicles {segment}: error {ours:.3f} against {theirs:.3f}, "
                f"more than {rules.segment_margin:.0%} above champion {champion.version}"
            )
    return None
