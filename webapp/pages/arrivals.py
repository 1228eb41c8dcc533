"""``/arrivals``: the vehicles saved here that have no bookings yet."""

from functools import partial
from typing import Literal

from flask import Blueprint, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from vroom_features.database.queries import StoredVehicle, VehicleFilter
from vroom_features.online.rows import freshness
from vroom_features.vehicle import NAME_MAX
from webapp.pages.my_cars import deletion
from webapp.pages.operations import is_confirmed
from webapp.rendering.formats import scale_top
from webapp.rendering.listing import read_page
from webapp.security.sign_in import is_operator, require_operator
from webapp.services import services
from webapp.serving import vehicles
from webapp.serving.current_model import current_model
from webapp.serving.vehicles import predict_vehicles

bp = Blueprint("arrivals", __name__, url_prefix="/arrivals")


@bp.get("")
def show() -> str:
    search, where = request.args.get("q", "").strip()[:NAME_MAX], VehicleFilter(in_names=is_operator())
    page, model = read_page(kind="new", search=search, where=where, descending=True), current_model()
    forecasts = list(predict_vehicles(model, page.vehicles)) if model else [None] * len(page.vehicles)
    return render_template(
        "arrivals/show.html",
        page=page,
        rows=list(zip(page.vehicles, forecasts, read_freshness(page.vehicles), strict=True)),
        top=scale_top(*(forecast.high for forecast in forecasts if forecast)),
        search=search,
        deletion=deletion,
        highlighted=request.args.get("saved", type=int),
        link=partial(url_for, "arrivals.show", q=search or None),
    )


@bp.post("/<int:vehicle_id>/delete")
def delete(vehicle_id: int) -> Response | str:
    confirmed = is_confirmed()
    require_operator(changes=confirmed)
    if not confirmed:
        return render_template("operations/confirm.html", action=deletion(vehicle_id, page="arrivals.show"))
    vehicles.delete(services(), vehicle_id, erase_booked=True)
    flash(f"Car {vehicle_id} is deleted.", "good")
    return redirect(url_for("arrivals.show", page=request.args.get("page", type=int)), 303)


def read_freshness(
    vehicles: tuple[StoredVehicle, ...],
) -> list[Literal["fresh", "stale", "missing", "unknown"]]:
    """Return for each vehicle whether the online store holds today's row; unknown without Redis."""
    app = services()
    rows = app.heartbeat.try_redis(app.online.get_many, [vehicle.vehicle_id for vehicle in vehicles])
    if rows is None:
        return ["unknown"] * len(vehicles)
    return [freshness(rows.get(vehicle.vehicle_id), vehicle) for vehicle in vehicles]
