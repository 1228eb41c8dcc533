"""``/my-cars``: what was saved in this browser: found, named, withdrawn, deleted, taken to another device."""

import secrets
from functools import partial

from flask import Blueprint, flash, make_response, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from vroom_features.database.history import list_states, move_vehicles, rename_vehicle
from vroom_features.database.queries import StoredVehicle, VehicleFilter
from vroom_features.vehicle import COLUMNS, NAME_MAX
from webapp.pages.operations import Action, is_confirmed
from webapp.problems import ProblemError
from webapp.rendering.formats import scale_top
from webapp.rendering.forms import read_name
from webapp.rendering.listing import read_page
from webapp.security import owners
from webapp.services import services
from webapp.serving import vehicles
from webapp.serving.current_model import current_model
from webapp.serving.fleet_rows import fleet_rows
from webapp.serving.vehicles import VehicleDocument, predict_vehicles

LINK = "link"
"""In the session: the private link that is to be confirmed."""
REVOKE = Action(
    "revoke",
    "Revoke the link",
    "Revoke the private link?",
    "It stops working at once, and other browsers that used it lose your cars. This one keeps them.",
    page="my_cars.show",
    is_risky=True,
)
bp = Blueprint("my_cars", __name__, url_prefix="/my-cars")


@bp.after_request
def keep_private(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    if (request.view_args or {}).get("token"):
        response.headers["Referrer-Policy"] = "no-referrer"
    return response


@bp.get("")
def show() -> Response:
    owner, model, source = owners.current_owner(), current_model(), services().source
    search = request.args.get("q", "").strip()[:NAME_MAX]
    where = VehicleFilter(owner_hash=owners.hash_of(owner) if owner else "", in_names=True)
    page = read_page(where=where, search=search, descending=True)
    rows = fleet_rows(source, source.watch(), model, page.vehicles)
    factor = model.watch.per_year(1.0) if model and model.watch else 1.0
    forecasts = [row.forecast.times(factor) if row.forecast else None for row in rows]
    response = make_response(
        render_template(
            "my_cars/show.html",
            page=page,
            rows=list(zip(rows, forecasts, strict=True)),
            top=scale_top(*(forecast.high for forecast in forecasts if forecast)),
            search=search,
            highlighted=request.args.get("saved", type=int),
            withdrawal=withdrawal,
            deletion=deletion,
            revoke=REVOKE,
            link=partial(url_for, "my_cars.show", q=search or None),
        )
    )
    return owners.with_cookie(response, owner) if owner else response


@bp.get("/<int:vehicle_id>")
def car(vehicle_id: int) -> str:
    """Show what a car is called, and what it is and was, with the forecast of then and of today."""
    return _car(owners.require_owner(vehicle_id))


def _car(vehicle: StoredVehicle, *, refused_name: str | None = None) -> str:
    model = current_model()
    states = list_states(services().source, vehicle.vehicle_id)
    # As they are: an earlier release took more photos and higher prices.
    known = [VehicleDocument.model_construct(None, **state.attributes) for state in states]
    today = list(predict_vehicles(model, known)) if model else [None] * len(states)
    return render_template(
        "my_cars/car.html",
        vehicle=vehicle,
        states=list(zip(states, today, strict=True)),
        columns=COLUMNS.values(),
        name_max=NAME_MAX,
        refused_name=refused_name,
        withdrawal=withdrawal,
        deletion=deletion,
    )


@bp.post("/<int:vehicle_id>/name")
def rename(vehicle_id: int) -> Response | tuple[str, int]:
    vehicle, typed = owners.require_owner(vehicle_id), request.form.get("name", "")
    if (name := read_name(typed)) is None:
        return _car(vehicle, refused_name=typed), 422
    rename_vehicle(services().source, vehicle_id, name)
    flash(f"Car {vehicle_id} is called {name}." if name else f"Car {vehicle_id} has no name.", "good")
    return redirect(url_for(".car", vehicle_id=vehicle_id), 303)


@bp.post("/<int:vehicle_id>/withdraw")
def withdraw(vehicle_id: int) -> Response | str:
    owners.require_owner(vehicle_id, changes=is_confirmed())
    if not is_confirmed():
        return render_template("operations/confirm.html", action=withdrawal(vehicle_id))
    vehicles.withdraw(services(), vehicle_id)
    flash(f"Car {vehicle_id} is withdrawn.", "good")
    return redirect(url_for(".car", vehicle_id=vehicle_id), 303)


@bp.post("/<int:vehicle_id>/delete")
def delete(vehicle_id: int) -> Response | str:
    vehicle = owners.require_owner(vehicle_id, changes=is_confirmed())
    if not is_confirmed():
        return render_template("operations/confirm.html", action=deletion(vehicle_id))
    target = "my_cars.show" if owners.owns(vehicle) else "arrivals.show"
    vehicles.delete(services(), vehicle_id, erase_booked=True)
    flash(f"Car {vehicle_id} is deleted.", "good")
    return redirect(url_for(target), 303)


@bp.post("/share")
def share() -> Response | str:
    """Show the link that carries the owner to another device; it is kept nowhere."""
    owner = owners.current_owner()
    if owner is None or not owners.count_cars(owner):
        flash("There is no car in this browser to share.", "warn")
        return redirect(url_for(".show"), 303)
    url = url_for(".take", token=owners.token_of(owner), _external=True)
    return render_template("my_cars/share.html", url=url)


@bp.post("/revoke")
def revoke() -> Response | str:
    """Give this browser another owner id, and its cars with it, after it was confirmed."""
    if not is_confirmed():
        return render_template("operations/confirm.html", action=REVOKE)
    response = redirect(url_for(".show"), 303)
    if owner := owners.current_owner():
        new = secrets.token_hex(16)
        move_vehicles(services().source, owners.hash_of(owner), owners.hash_of(new))
        owners.with_cookie(response, new)
        flash("The private link no longer works.", "good")
    return response


@bp.route("/link", methods=["GET", "POST"], defaults={"token": ""})
@bp.route("/link/<path:token>", methods=["GET", "POST"])
def take(token: str) -> Response | str:
    """Ask whether this browser shall have the cars of a private link, at an address without it; take them."""
    owner = owners.read_token(token or session.get(LINK, ""))
    if owner is None or not (num_cars := owners.count_cars(owner)):
        problem = "it was revoked, or not copied whole; ask for a new one"
        raise ProblemError(404, "This link is not valid", problem)
    mine = owners.current_owner()
    num_mine = owners.count_cars(mine) if mine and mine != owner else 0
    if request.method != "POST":
        if token:  # from a page of no referrer, browsers send forms without their origin
            session[LINK] = token
            return redirect(url_for(".take"))
        return render_template("operations/confirm.html", action=taking(num_cars, num_mine))
    if mine and num_mine:
        move_vehicles(services().source, owners.hash_of(mine), owners.hash_of(owner))
    session.pop(LINK, None)
    flash("These cars are in this browser now, too.", "good")
    return owners.with_cookie(redirect(url_for(".show"), 303), owner)


def withdrawal(vehicle_id: int) -> Action:
    question = f"Withdraw car {vehicle_id}?"
    does = "It cannot be changed again. Its bookings are counted until its watch is over."
    return Action("withdraw", "Withdraw it", question, does, page="my_cars.show", is_risky=True)


def deletion(vehicle_id: int, *, page: str = "my_cars.show") -> Action:
    question = f"Delete car {vehicle_id}?"
    does = "It cannot be brought back. Of a booked one the figures stay, without its name and owner."
    return Action("delete", "Delete it", question, does, page=page, is_risky=True)


def taking(num_cars: int, num_mine: int) -> Action:
    cars = "1 car" if num_cars == 1 else f"{num_cars} cars"
    does = "Whoever has the link can see, change and delete them."
    if num_mine:
        does += f" The {num_mine} saved in this browser so far will be among them."
    return Action("take", "Open here", f"Open {cars} in this browser?", does, page="my_cars.show")
