"""What the forecast page tells beside the number: reasons, the rank among the fleet, other prices."""

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask import current_app

from vroom_features.vehicle import VehicleCreate
from vroom_model.champion import ChampionRef, ChampionSource
from vroom_model.errors import VroomModelError
from vroom_model.explain import Explainer, Explanation
from vroom_model.predictor import Forecast
from vroom_model.whatif import what_if
from webapp.fleet_overview import FleetOverview
from webapp.formats import sentence
from webapp.model_slot import Served
from webapp.services import Services, services

logger = logging.getLogger(__name__)

KEY = "vroom-insight"


@dataclass(frozen=True, slots=True)
class Push:
    """How far one fact moves the forecast, and where its bar lies in a drawing with 0 in the middle."""

    text: str
    contribution: float
    start: str
    width: str


class Explainers:
    """The explainer of the model that serves; read from disk once per model."""

    def __init__(self, champion: ChampionSource) -> None:
        self._champion = champion
        self._lock = threading.Lock()
        self._kept: tuple[ChampionRef, Explainer] | None = None

    def explain(self, served: Served, vehicle: Mapping[str, float]) -> Explanation:
        """Explain a forecast of this model.

        Raises
        ------
        VroomModelError
            If the model's files cannot be read.
        """
        with self._lock:
            if self._kept is None or self._kept[0] != served.ref:
                self._kept = (served.ref, Explainer.load(self._champion.fetch(served.ref)))
            explainer = self._kept[1]
        return explainer.explain(vehicle)


class Insight:
    """Everything a page tells beside a forecast.

    Parameters
    ----------
    app : Services
        Of this worker.
    """

    def __init__(self, app: Services) -> None:
        settings = app.settings
        champion = ChampionSource(settings.mlflow, settings.model_name, cache_dir=settings.home / "models")
        self._explainers = Explainers(champion)

    @classmethod
    def of_app(cls) -> "Insight":
        """Return the one of the app that handles this request."""
        extensions = current_app.extensions
        if KEY not in extensions:
            extensions[KEY] = cls(services())
        found: Insight = extensions[KEY]
        return found

    def beside(self, served: Served, vehicle: VehicleCreate, forecast: Forecast) -> dict[str, Any]:
        """Return what the page shows beside a forecast, by the same model."""
        row = vehicle.model_dump()
        try:
            explanation: Explanation | None = self._explainers.explain(served, row)
        except VroomModelError as exc:
            logger.warning("no reasons model_version=%s: %s", served.version, exc)
            explanation = None  # the page leaves the reasons out and shows the rest
        return {
            "standing": FleetOverview.of_app().standing(served, forecast.predicted_reservations),
            "explanation": explanation,
            "pushes": pushes(explanation) if explanation else [],
            "curve": what_if(served.predictor, row),
        }


def pushes(explanation: Explanation) -> list[Push]:
    """Return a bar for each reason, all on one scale."""
    widest = max((abs(reason.contribution) for reason in explanation.reasons), default=0.0) or 1.0
    found = []
    for reason in explanation.reasons:
        length = abs(reason.contribution) / widest * 50
        found.append(
            Push(
                text=sentence(reason.fact),
                contribution=reason.contribution,
                start=f"{50 - length if reason.contribution < 0 else 50:.1f}%",
                width=f"{length:.1f}%",
            )
        )
    return found
