"""A page of a list of vehicles, with a forecast of each."""

from dataclasses import dataclass
from math import ceil
from typing import Any

from flask import request

from vroom_features.database.queries import StoredVehicle
from vroom_model.serving.predictor import Forecast
from webapp.rendering.formats import scale_top
from webapp.services import services
from webapp.serving.current_model import current_model
from webapp.serving.vehicles import predict_vehicles

PAGE_SIZE = 25
PAGE_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class ListPage:
    """A page of a list, by its number from 1, and how many vehicles all pages have."""

    vehicles: tuple[StoredVehicle, ...]
    forecasts: tuple[Forecast | None, ...]
    """One for each vehicle; None without a model."""
    number: int
    num_pages: int
    total: int

    @property
    def scale_top(self) -> int:
        """Where a scale for the forecasts' ranges and the bookings ends."""
        highs = [forecast.high for forecast in self.forecasts if forecast]
        return scale_top(*highs, *(vehicle.num_reservations or 0 for vehicle in self.vehicles))


def read_page(**listed: Any) -> ListPage:
    """Read the page that the query string asks for; beyond the end of the list, its last one.

    ``listed`` are arguments of ``SourceStore.list_vehicles``.
    """
    source, model = services().source, current_model()
    number = min(max(request.args.get("page", 1, type=int), 1), PAGE_MAX)
    found = source.list_vehicles(page=number, page_size=PAGE_SIZE, **listed)
    num_pages = max(1, ceil(found.total / PAGE_SIZE))
    if number > num_pages:
        number = num_pages
        found = source.list_vehicles(page=number, page_size=PAGE_SIZE, **listed)
    forecasts = predict_vehicles(model, found.items) if model else [None] * len(found.items)
    return ListPage(found.items, tuple(forecasts), number, num_pages, found.total)
