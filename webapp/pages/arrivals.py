"""``/arrivals``: the vehicles saved here that have no bookings yet."""

from functools import partial

from flask import Blueprint, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from webapp.pages.operations import Action, is_confirmed
from webapp.rendering.formats import scale_top
from webapp.rendering.listing import Listing, forecasts_of, freshness_of
from webapp.security.sign_in import require_operator
from webapp.services import services
from webapp.serving import saving
from webapp.serving.current_model import current_model

bp = Blueprint("arrivals", __name__, url_prefix="/arrivals")


@bp.get("")
def show() -> str:
    """List the vehicles, the newest first."""
    asked = Listing.of(request.args, kind="new", sort="vehicle_id", descending=True)
    listing, found = asked.shown(services().source)
    forecasts = forecasts_of(found.items, current_model())
    fresh = freshness_of(found.items, services())
    rows = [
        {
            "vehicle": vehicle,
            "forecast": forecasts.get(vehicle.vehicle_id),
            "freshness": fresh[vehicle.vehicle_id],
        }
        for vehicle in found.items
    ]
    return render_template(
        "arrivals/show.html",
        arrivals=rows,
        deletion=_deletion,
        highlighted=request.args.get("saved", type=int),
        scale_top=scale_top(*(f.high for f in forecasts.values())),
        link=partial(listing.link, "arrivals.show"),
        **listing.position(found.total),
    )


def _deletion(vehicle_id: int) -> Action:
    """Return what is asked before a vehicle is deleted."""
    return Action(
        "delete",
        "Delete it",
        f"Delete car {vehicle_id}?",
        "It leaves the list and both stores, and cannot be brought back.",
        page="arrivals.show",
    )


@bp.post("/<int:vehicle_id>/delete")
def delete(vehicle_id: int) -> Response | str:
    """Delete a vehicle that was saved here, after it was confirmed."""
    confirmed = is_confirmed()
    require_operator(changes=confirmed)
    if not confirmed:
        return render_template("operations/confirm.html", action=_deletion(vehicle_id))
    saving.delete(services(), vehicle_id)
    flash(f"Car {vehicle_id} is deleted.", "good")
    return redirect(url_for("arrivals.show", page=request.args.get("page", type=int)), 303)
