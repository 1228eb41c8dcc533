"""``/fleet``: the vehicles with a booking history, as a list, as a file and as points of a chart."""

import csv
import io
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import repeat

from flask import Blueprint, render_template, request
from werkzeug.wrappers import Response

from vroom_features.database.vehicles import SourceStore
from vroom_features.vehicle import COLUMNS
from vroom_features.view import VEHICLE_VIEW
from webapp.rendering.formats import scale_top
from webapp.rendering.listing import FILTERS, FLEET_COLUMNS, Listing, forecasts_of
from webapp.services import services
from webapp.serving.current_model import LoadedModel, current_model
from webapp.serving.forecasts import predict_vehicles

EXPORT_MAX = 50_000
EXPORT_BATCH_SIZE = 1_000
EXPORT_FIELDS = ("vehicle_id", *COLUMNS, VEHICLE_VIEW.label)
bp = Blueprint("fleet", __name__)


def _asked() -> Listing:
    return Listing.of(request.args, kind="fleet", sort="vehicle_id", descending=False)


@bp.get("/fleet")
def show() -> str:
    """List the vehicles: forecast against what happened."""
    source, served = services().source, current_model()
    listing, found = _asked().shown(source)
    forecasts = forecasts_of(found.items, served)
    rows = [{"vehicle": vehicle, "forecast": forecasts.get(vehicle.vehicle_id)} for vehicle in found.items]
    tops = [*(f.high for f in forecasts.values()), *(float(v.num_reservations or 0) for v in found.items)]
    return render_template(
        "fleet/show.html",
        counts=source.count_vehicles(),
        groups=services().fleet.groups(served) if served else [],
        export_max=EXPORT_MAX,
        csv_link=partial(listing.link, "fleet.download"),
        columns=FLEET_COLUMNS,
        vehicles=rows,
        search=listing.search,
        filters=FILTERS,
        chosen=listing.chosen,
        is_narrowed=listing.is_narrowed,
        sort=listing.sort,
        order="desc" if listing.descending else "asc",
        scale_top=scale_top(*tops),
        link=partial(listing.link, "fleet.show"),
        **listing.position(found.total),
    )


@bp.get("/fleet.csv")
def download() -> Response:
    """Return the list as a file, in the same order."""
    lines = csv_lines(services().source, _asked(), current_model())
    name = {"Content-Disposition": "attachment; filename=fleet.csv"}
    return Response(lines, content_type="text/csv; charset=utf-8", headers=name)


@bp.get("/fleet/points")
def points() -> dict[str, list[float]]:
    """Return forecasts and outcomes of the fleet, for the chart."""
    served = current_model()
    if served is None:
        return {"forecast": [], "outcome": [], "vehicle_id": []}
    fleet = services().fleet.predictions(served)
    return {
        "forecast": fleet.forecast.round(2).tolist(),
        "outcome": fleet.outcome.tolist(),
        "vehicle_id": fleet.vehicle_id.tolist(),
    }


def csv_lines(source: SourceStore, listing: Listing, served: LoadedModel | None) -> Iterator[str]:
    """Yield the file a batch at a time: the vehicles of a list, in its order, all forecast by one model.

    The order is that of the moment it begins; a vehicle that is gone when its batch is read is left out.

    Parameters
    ----------
    source : SourceStore
        Where vehicles are.
    listing : Listing
        Which vehicles, in which order; up to ``EXPORT_MAX``, whatever its page.
    served : LoadedModel or None
        The model; without one the forecasts are left empty.
    """
    version = served.version if served else ""
    yield _lines([[*EXPORT_FIELDS, "predicted_reservations", "low", "high", "model_version"]])
    # A list that is read page by page shifts when a vehicle goes or comes; one that is read whole does not.
    ids = listing.ids(source, limit=EXPORT_MAX)
    for start in range(0, len(ids), EXPORT_BATCH_SIZE):
        vehicles = source.get_vehicles(ids[start : start + EXPORT_BATCH_SIZE])
        figures: Iterable[list[object]] = repeat(["", "", ""], len(vehicles))
        if served is not None:
            made = predict_vehicles(served, vehicles)
            figures = ([round(each, 3) for each in (f.predicted_reservations, f.low, f.high)] for f in made)
        yield _lines(
            [
                [*(getattr(vehicle, name) for name in EXPORT_FIELDS), *forecast, version]
                for vehicle, forecast in zip(vehicles, figures, strict=True)
            ]
        )


def _lines(rows: list[list[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue()
