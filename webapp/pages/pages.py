"""Pages for people who list vehicles: the forecast, new arrivals, the fleet, the model that serves."""

from functools import partial
from secrets import token_urlsafe
from typing import Any

from flask import Blueprint, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from vroom_features.database.vehicles import StoredVehicle
from vroom_features.errors import VehicleNotFoundError
from vroom_model.serving.predictor import Forecast
from webapp.clock import now
from webapp.pages.fleet_export import EXPORT_MAX, csv_lines
from webapp.pages.operations import Action, is_confirmed, operations, progress_of, workers
from webapp.problems import ProblemError
from webapp.rendering import formats
from webapp.rendering.listing import FILTERS, FLEET_COLUMNS, Listing, freshness_of
from webapp.rendering.streaming import page_in_parts
from webapp.rendering.vehicle_form import DEFAULTS, FIELDS, Entry, read_entry
from webapp.security.headers import events_url
from webapp.security.sign_in import may_save, require_operator
from webapp.services import services
from webapp.serving import saving
from webapp.serving.current_model import current_model, too_often
from webapp.serving.forecasts import predict_vehicles

NUM_ID_DIGITS_MAX = 18
pages = Blueprint("pages", __name__)
pages.register_blueprint(operations)
formats.install(pages)

NAVIGATION = (
    ("pages.forecast", "Forecast"),
    ("pages.arrivals", "New arrivals"),
    ("pages.fleet", "Fleet"),
    ("pages.models", "Models"),
    ("pages.operations.stores", "Stores"),
    ("pages.operations.runs", "Runs"),
    ("pages.operations.latency", "Latency"),
)


@pages.app_context_processor
def frame() -> dict[str, Any]:
    """Give every page what its frame shows."""
    theme = request.cookies.get("theme")
    return {
        "navigation": NAVIGATION,
        "events_url": events_url(services().settings),
        "served": current_model(),
        "theme": theme if theme in {"light", "dark"} else None,
    }


@pages.get("/")
def forecast() -> Response:
    """Show the form and its forecast; ``?vehicle_id=`` starts from a vehicle that is stored."""
    values = DEFAULTS
    asked = request.args.get("vehicle_id")
    if asked is not None:
        if not asked.isdecimal() or len(asked) > NUM_ID_DIGITS_MAX:
            raise ProblemError(404, "No such vehicle", "the number of a car is digits only")
        vehicle_id = int(asked)
        vehicle = services().source.get_vehicle(vehicle_id)
        if vehicle is None:
            raise VehicleNotFoundError(vehicle_id)
        values = {field.name: formats.plain(getattr(vehicle, field.name)) for field in FIELDS}
    return _forecast_page(read_entry(values))


@pages.post("/")
def submit() -> Response:
    """Forecast or save what the form holds."""
    entry = read_entry(request.form)
    if entry.vehicle is None:
        return _forecast_page(entry, status=422)
    if request.form.get("action") != "save":
        return _forecast_page(entry)
    if not may_save():
        problem = "Only the signed-in operator may save cars here."
        return _forecast_page(entry, status=403, save_problem=problem)
    # The key holds for this form and this content: the same twice is one car, a changed one is another.
    key = f"form-{request.form.get('form_key', '')[:64]}-{entry.digest}"
    saved = saving.save(services(), entry.vehicle, saved_at=now(), idempotency_key=key)
    vehicle_id = saved.vehicle.vehicle_id
    flash(f"Saved as car {vehicle_id}." if saved.created else f"Car {vehicle_id} was saved already.", "good")
    return redirect(url_for("pages.arrivals", saved=vehicle_id), 303)


@pages.post("/details")
def details() -> tuple[str, int] | str | tuple[dict[str, Any], int]:
    """Return what the page shows beside the number, for the form as it stands; or what is wrong with it."""
    entry = read_entry(request.form)
    if entry.vehicle is None:
        return {"errors": entry.errors}, 422
    answer = _answer(entry)
    if wait_s := answer.get("wait_s"):
        raise too_often(wait_s)
    return render_template("_details.html", **answer)


def _forecast_page(entry: Entry, *, status: int = 200, save_problem: str = "") -> Response:
    answer = _answer(entry)
    page = render_template(
        "forecast.html",
        fields=FIELDS,
        entry=entry,
        form_key=token_urlsafe(12),
        save_problem=save_problem,
        may_save=may_save(),
        **answer,
    )
    if status == 200 and (wait_s := answer.get("wait_s")):
        refusal = too_often(wait_s)
        return Response(page, refusal.status, refusal.headers, mimetype="text/html")
    return Response(page, status, mimetype="text/html")


def _answer(entry: Entry) -> dict[str, Any]:
    """Return what the templates say of a vehicle."""
    served = current_model()
    if served is None or entry.vehicle is None:
        return {"forecast": None, "scale_top": formats.scale_top()}
    if wait_s := services().limit.wait_s(request.environ):
        return {"forecast": None, "wait_s": wait_s, "scale_top": formats.scale_top()}
    found = served.predictor.predict_one(entry.vehicle.model_dump())
    beside = services().details.build(served, entry.vehicle, found)
    return {"forecast": found, "scale_top": formats.scale_top(found.high), **beside}


@pages.get("/arrivals")
def arrivals() -> str:
    """List the vehicles saved here that have no bookings yet."""
    asked = Listing.of(request.args, kind="new", sort="vehicle_id", descending=True)
    listing, found = asked.shown(services().source)
    forecasts = _forecasts(found.items)
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
        "arrivals.html",
        arrivals=rows,
        deletion=_deletion,
        highlighted=request.args.get("saved", type=int),
        scale_top=formats.scale_top(*(f.high for f in forecasts.values())),
        link=partial(listing.link, "pages.arrivals"),
        **listing.position(found.total),
    )


def _deletion(vehicle_id: int) -> Action:
    """Return what is asked before a vehicle is deleted."""
    return Action(
        "delete",
        "Delete it",
        f"Delete car {vehicle_id}?",
        "It leaves the list and both stores, and cannot be brought back.",
        page="pages.arrivals",
    )


@pages.post("/arrivals/<int:vehicle_id>/delete")
def delete_vehicle(vehicle_id: int) -> Response | str:
    """Delete a vehicle that was saved here, after it was confirmed."""
    confirmed = is_confirmed()
    require_operator(changes=confirmed)
    if not confirmed:
        return render_template("confirm.html", action=_deletion(vehicle_id))
    saving.delete(services(), vehicle_id)
    flash(f"Car {vehicle_id} is deleted.", "good")
    return redirect(url_for("pages.arrivals", page=request.args.get("page", type=int)), 303)


@pages.get("/fleet")
def fleet() -> str:
    """List the vehicles with a booking history: forecast against what happened."""
    asked = Listing.of(request.args, kind="fleet", sort="vehicle_id", descending=False)
    source, served = services().source, current_model()
    listing, found = asked.shown(source)
    forecasts = _forecasts(found.items)
    rows = [{"vehicle": vehicle, "forecast": forecasts.get(vehicle.vehicle_id)} for vehicle in found.items]
    tops = [*(f.high for f in forecasts.values()), *(float(v.num_reservations or 0) for v in found.items)]
    return render_template(
        "fleet.html",
        counts=source.count_vehicles(),
        groups=services().fleet.groups(served) if served else [],
        export_max=EXPORT_MAX,
        csv_link=partial(listing.link, "pages.fleet_csv"),
        columns=FLEET_COLUMNS,
        vehicles=rows,
        search=listing.search,
        filters=FILTERS,
        chosen=listing.chosen,
        is_narrowed=listing.is_narrowed,
        sort=listing.sort,
        order="desc" if listing.descending else "asc",
        scale_top=formats.scale_top(*tops),
        link=partial(listing.link, "pages.fleet"),
        **listing.position(found.total),
    )


@pages.get("/fleet.csv")
def fleet_csv() -> Response:
    """Return the list as a file, in the same order."""
    listing = Listing.of(request.args, kind="fleet", sort="vehicle_id", descending=False)
    lines = csv_lines(services().source, listing, current_model())
    name = {"Content-Disposition": "attachment; filename=fleet.csv"}
    return Response(lines, content_type="text/csv; charset=utf-8", headers=name)


@pages.get("/fleet/points")
def fleet_points() -> dict[str, list[float]]:
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


@pages.get("/models")
def models() -> Response:
    """Describe the model that serves, the one that waits, and those that served."""
    return page_in_parts(
        "models.html",
        problem=services().slot.problem,
        read_history=services().history.read,
        read_workers=workers,
        read_operations=lambda: progress_of("train", "promote", "rollback", "monitor"),
        mlflow=services().settings.mlflow,
        model_name=services().settings.model_name,
    )


def _forecasts(vehicles: tuple[StoredVehicle, ...]) -> dict[int, Forecast]:
    """Forecast stored vehicles by id; none without a model."""
    served = current_model()
    if served is None:
        return {}
    made = predict_vehicles(served, vehicles)
    return {vehicle.vehicle_id: forecast for vehicle, forecast in zip(vehicles, made, strict=True)}
