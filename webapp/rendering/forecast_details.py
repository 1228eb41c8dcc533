"""What the forecast page tells beside the number: reasons, the rank among the fleet, other prices."""

import logging
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from vroom_features.vehicle import VehicleCreate
from vroom_model.errors import VroomModelError
from vroom_model.registry.model_cache import ModelCache
from vroom_model.serving.explain import Explainer, Explanation
from vroom_model.serving.predictor import Forecast, what_if
from webapp.rendering.formats import sentence
from webapp.serving.current_model import LoadedModel
from webapp.serving.fleet_overview import FleetOverview

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ContributionBar:
    """How far one fact moves the forecast, and where its bar lies in a drawing with 0 in the middle."""

    text: str
    contribution: float
    start: str
    width: str


class ForecastDetails:
    """Everything a page tells beside a forecast.

    Parameters
    ----------
    cache : ModelCache
        Where the model's files are.
    fleet : FleetOverview
        Forecasts that this one is ranked among.
    """

    def __init__(self, cache: ModelCache, fleet: FleetOverview) -> None:
        # Read from disk once per model; an error is not kept.
        self._explainer = lru_cache(maxsize=1)(lambda ref: Explainer.load(cache.fetch(ref)))
        self._fleet = fleet

    def build(self, served: LoadedModel, vehicle: VehicleCreate, forecast: Forecast) -> dict[str, Any]:
        """Return what the page shows beside a forecast, by the same model."""
        row = vehicle.model_dump()
        try:
            explanation: Explanation | None = self._explainer(served.ref).explain(row)
        except VroomModelError as exc:
            logger.warning("no reasons model_version=%s: %s", served.version, exc)
            explanation = None  # the page leaves the reasons out and shows the rest
        return {
            "percentile": self._fleet.percentile(served, forecast.predicted_reservations),
            "explanation": explanation,
            "contribution_bars": contribution_bars(explanation) if explanation else [],
            "curve": what_if(served.predictor, row),
        }


def contribution_bars(explanation: Explanation) -> list[ContributionBar]:
    """Return a bar for each reason, all on one scale."""
    widest = max((abs(reason.contribution) for reason in explanation.reasons), default=0.0) or 1.0
    found = []
    for reason in explanation.reasons:
        length = abs(reason.contribution) / widest * 50
        found.append(
            ContributionBar(
                text=sentence(reason.fact),
                contribution=reason.contribution,
                start=f"{50 - length if reason.contribution < 0 else 50:.1f}%",
                width=f"{length:.1f}%",
            )
        )
    return found
