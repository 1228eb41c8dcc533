"""``/fleet``: the vehicles with a booking history, as a list, as a file and as points of a chart."""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Self

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from vroom_features.database.queries import VehicleFilter
from vroom_features.database.vehicles import SourceStore
from vroom_features.vehicle import COLUMNS
from vroom_features.view import VEHICLE_VIEW
from webapp.rendering.formats import scale_top
from webapp.rendering.listing import read_page
from webapp.services import services
from webapp.serving.current_model import LoadedModel, current_model
from webapp.serving.fleet_rows import FleetRow, fleet_rows

SORTS = {
    "vehicle_id": "Car",
    "num_reservations": "Booked",
    "actual_price": "Price",
    "recommended_price": "Market",
    "num_images": COLUMNS["num_images"].label,
}
"""Columns that the list can be sorted by, with their titles."""
SEARCH_MAX_DIGITS = 19
EXPORT_MAX = 50_000
EXPORT_BATCH_SIZE = 1_000
EXPORT_FIELDS = ("vehicle_id", *COLUMNS, VEHICLE_VIEW.count)
FORECAST_FIELDS = ("predicted_reservations", "low", "high", "model_version", "forecast_days")
WATCH_FIELDS = (
    VEHICLE_VIEW.label,
    "watch_days",
    "days_watched",
    "num_in_watch",
    "predicted_so_far",
    "withdrawn_at",
)
"""The label is empty under watch, ``predicted_so_far`` after it; no watch, or no model: empty, too."""
bp = Blueprint("fleet", __name__)


@dataclass(frozen=True, slots=True)
class Filter:
    """What the list can be narrowed by, with its name in the address and its field of ``VehicleFilter``."""

    name: str
    label: str
    field: str
    choices: Mapping[str, tuple[int, str]]
    """By its name in the address, each value of the field and its text."""

    @classmethod
    def of_column(cls, name: str, column: str, **values: int) -> Self:
        """Return the filter of a raw column: its choices, each by a name for the address."""
        words = COLUMNS[column].choices
        return cls(name, COLUMNS[column].label, column, {key: (v, words[v]) for key, v in values.items()})


FILTERS = (
    Filter.of_column("booking", "technology", instant=1, arranged=0),
    Filter.of_column("parking", "street_parked", own=0, street=1),
    Filter(
        "price",
        "Price",
        "is_overpriced",
        {"above": (True, "Above market"), "market": (False, "At market or below")},
    ),
)


@dataclass(frozen=True, slots=True)
class Query:
    """Which vehicles in which order; what is not understood is left at its default."""

    search: str
    chosen: Mapping[str, str]
    """By the name of a filter, the name of a choice."""
    sort: str
    order: str

    @classmethod
    def read(cls, args: Mapping[str, str]) -> Self:
        sort = args.get("sort", "")
        return cls(
            search=args.get("q", "").strip()[:SEARCH_MAX_DIGITS],
            chosen={each.name: args[each.name] for each in FILTERS if args.get(each.name) in each.choices},
            sort=sort if sort in SORTS else "vehicle_id",
            order="desc" if args.get("order") == "desc" else "asc",
        )

    def listed(self) -> dict[str, Any]:
        """Return what ``SourceStore`` lists, as its arguments."""
        where: dict[str, Any] = {
            each.field: each.choices[self.chosen[each.name]][0]
            for each in FILTERS
            if each.name in self.chosen
        }
        return {
            "kind": "fleet",
            "search": self.search,
            "where": VehicleFilter(**where),
            "sort": self.sort,
            "descending": self.order == "desc",
        }

    def link(self, endpoint: str = "fleet.show", **changes: Any) -> str:
        here = {"q": self.search or None, **self.chosen, "sort": self.sort, "order": self.order}
        return url_for(endpoint, **(here | changes))


@bp.get("/fleet")
def show() -> str:
    query, model, source = Query.read(request.args), current_model(), services().source
    page = read_page(**query.listed())
    rows = fleet_rows(source, source.watch(), model, page.vehicles)
    return render_template(
        "fleet/show.html",
        query=query,
        page=page,
        rows=rows,
        top=scale_top(
            *(row.forecast.high for row in rows if row.forecast), *(row.outcome or 0 for row in rows)
        ),
        link=query.link,
        filters=FILTERS,
        sorts=SORTS,
        export_max=EXPORT_MAX,
        counts=source.count_vehicles(),
        groups=services().fleet.groups(model) if model else [],
        compared=services().fleet.predictions(model) if model else None,
    )


@bp.get("/fleet/<int:vehicle_id>")
def car(vehicle_id: int) -> str | Response:
    """Show a vehicle of the fleet beside the forecast that did not learn from it, and similar ones."""
    source, model = services().source, current_model()
    vehicle = services().vehicle(vehicle_id)
    if not vehicle.is_fleet:
        return redirect(url_for("forecast.show", vehicle_id=vehicle_id))
    (row,) = fleet_rows(source, source.watch(), model, [vehicle])
    similar = services().fleet.similar(model, vehicle.model_dump(), but=vehicle_id) if model else []
    top = scale_top(row.forecast.high if row.forecast else 0, row.outcome or 0)
    columns = COLUMNS.values()
    return render_template("fleet/car.html", row=row, top=top, columns=columns, similar=similar)


@bp.get("/fleet.csv")
def download() -> Response:
    lines = csv_lines(services().source, Query.read(request.args), current_model())
    name = {"Content-Disposition": "attachment; filename=fleet.csv"}
    whole = chain([next(lines)], lines)  # the ids are read now: without a database the answer is an error
    return Response(whole, content_type="text/csv; charset=utf-8", headers=name)


@bp.get("/fleet/points")
def points() -> dict[str, list[float]]:
    """Return forecasts and outcomes of the vehicles whose watch is over, for the chart."""
    model = current_model()
    if model is None:
        return {"forecast": [], "outcome": [], "vehicle_id": []}
    fleet = services().fleet.predictions(model)
    return {
        "forecast": fleet.forecast.round(2).tolist(),
        "outcome": fleet.outcome.round(2).tolist(),
        "vehicle_id": fleet.vehicle_id.tolist(),
    }


def csv_lines(source: SourceStore, query: Query, model: LoadedModel | None) -> Iterator[str]:
    """Yield the file a batch at a time, all forecast by one model; without one the forecasts are empty.

    The ids are read at once, so that the file holds each vehicle once while others come and go; a vehicle
    that is gone when its batch is read is left out.
    """
    watch = source.watch()
    ids = source.list_vehicle_ids(**query.listed(), limit=EXPORT_MAX)
    yield _lines([[*EXPORT_FIELDS, *FORECAST_FIELDS, *WATCH_FIELDS]])
    for start in range(0, len(ids), EXPORT_BATCH_SIZE):
        vehicles = source.get_vehicles(ids[start : start + EXPORT_BATCH_SIZE])
        yield _lines([_line(row, model) for row in fleet_rows(source, watch, model, vehicles)])


def _line(row: FleetRow, model: LoadedModel | None) -> list[object]:
    forecast: list[object] = [""] * len(FORECAST_FIELDS)
    if model and (made := row.forecast):
        figures = (made.predicted_reservations, made.low, made.high)
        forecast = [*(round(each, 3) for each in figures), model.version, model.watch and model.watch.days]
    so_far = row.forecast_so_far if row.vehicle.is_under_watch else None
    return [
        *(getattr(row.vehicle, name) for name in EXPORT_FIELDS),
        *forecast,
        row.training_label,
        row.watch_days,
        row.days_watched,
        row.num_in_watch,
        None if so_far is None else round(so_far, 3),
        row.vehicle.withdrawn_at,
    ]


def _lines(rows: list[list[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue()
