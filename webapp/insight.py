"""What a page tells beside the number: the rank among the fleet, the reasons, other prices."""

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from flask import current_app

from vroom_features.stores.source import SourceStore, StoredVehicle
from vroom_features.tables import VehicleCreate
from vroom_features.view import VEHICLE_VIEW
from vroom_model.champion import ChampionRef, ChampionSource
from vroom_model.errors import VroomModelError
from vroom_model.explain import Explainer, Explanation
from vroom_model.predictor import Forecast
from vroom_model.whatif import what_if
from webapp.model_slot import Served
from webapp.services import Services, services

logger = logging.getLogger(__name__)

SAMPLE_PAGES = 4
SAMPLE_PAGE_SIZE = 500
SAMPLE_TTL_S = 60.0
NUM_BINS = 20
KEY = "vroom-insight"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a forecast lies among the forecasts for the fleet, all by one model.

    Parameters
    ----------
    share_below : float
        Share of the fleet with a smaller forecast.
    num_vehicles : int
        How many vehicles of the fleet were looked at.
    bars : tuple of float
        A histogram of their forecasts, the highest bar being 1.
    bin : int
        The bar this forecast falls into.
    low, high : float
        The smallest and the largest forecast of the histogram.
    """

    share_below: float
    num_vehicles: int
    bars: tuple[float, ...]
    bin: int
    low: float
    high: float


class FleetForecasts:
    """Forecasts of the fleet, or of an even sample of a large one, kept for a minute per model."""

    def __init__(self, source: SourceStore) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._kept: tuple[int, float, npt.NDArray[np.float64]] | None = None

    def standing(self, served: Served, forecast: float) -> Standing | None:
        """Return where this forecast lies; None while the fleet is empty."""
        forecasts = self._forecasts(served)
        if forecasts.size == 0:
            return None
        low, high = float(forecasts[0]), float(forecasts[-1])
        counts, edges = np.histogram(forecasts, bins=NUM_BINS, range=(low, max(high, low + 0.1)))
        found = int(np.searchsorted(edges, forecast, side="right")) - 1
        return Standing(
            share_below=float(np.searchsorted(forecasts, forecast, side="left")) / forecasts.size,
            num_vehicles=forecasts.size,
            bars=tuple((counts / counts.max()).round(3).tolist()),
            bin=min(max(found, 0), NUM_BINS - 1),
            low=low,
            high=high,
        )

    def _forecasts(self, served: Served) -> npt.NDArray[np.float64]:
        """Return the fleet's forecasts, ascending."""
        with self._lock:
            moment = time.monotonic()
            if self._kept and self._kept[0] == served.version and moment - self._kept[1] < SAMPLE_TTL_S:
                return self._kept[2]
            forecasts = self._compute(served)
            self._kept = (served.version, moment, forecasts)
            return forecasts

    def _compute(self, served: Served) -> npt.NDArray[np.float64]:
        rows = [vehicle.as_row() for vehicle in sample(self._source)]
        if not rows:
            return np.empty(0)
        columns = {name: np.array([row[name] for row in rows], dtype=float) for name in VEHICLE_VIEW.sources}
        return np.sort(served.predictor.predict_many(columns).predicted_reservations)


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
        self._fleet = FleetForecasts(app.source)

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
            "standing": self._fleet.standing(served, forecast.predicted_reservations),
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
        what = reason.text.rpartition(": ")[0]
        found.append(
            Push(
                text=what[:1].upper() + what[1:],
                contribution=reason.contribution,
                start=f"{50 - length if reason.contribution < 0 else 50:.1f}%",
                width=f"{length:.1f}%",
            )
        )
    return found


def sample(source: SourceStore) -> list[StoredVehicle]:
    """Return the whole fleet while it is small, and evenly spread pages of a large one."""
    first = source.list_vehicles(kind="fleet", page=1, page_size=SAMPLE_PAGE_SIZE)
    num_pages = -(-first.total // SAMPLE_PAGE_SIZE)
    others = sorted({round(k * (num_pages - 1) / (SAMPLE_PAGES - 1)) + 1 for k in range(SAMPLE_PAGES)} - {1})
    found = list(first.items)
    for page in others[: SAMPLE_PAGES - 1]:
        if 1 < page <= num_pages:
            found += source.list_vehicles(kind="fleet", page=page, page_size=SAMPLE_PAGE_SIZE).items
    return found
