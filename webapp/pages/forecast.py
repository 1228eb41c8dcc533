"""``/``: the form of one vehicle and its forecast; ``/details``: the reasons, the rank and other prices."""

from secrets import token_urlsafe
from typing import Any

from flask import Blueprint, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from vroom_features.errors import VehicleNotFoundError
from webapp.problems import ProblemError
from webapp.rendering import formats
from webapp.rendering.vehicle_form import DEFAULTS, FIELDS, Entry, read_entry
from webapp.security.sign_in import may_save
from webapp.services import services
from webapp.serving import saving
from webapp.serving.current_model import current_model, too_often

NUM_ID_DIGITS_MAX = 18
bp = Blueprint("forecast", __name__)


@bp.get("/")
def show() -> Response:
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
    return _page(read_entry(values))


@bp.post("/")
def submit() -> Response:
    """Forecast or save what the form holds."""
    entry = read_entry(request.form)
    if entry.vehicle is None:
        return _page(entry, status=422)
    if request.form.get("action") != "save":
        return _page(entry)
    if not may_save():
        problem = "Only the signed-in operator may save cars here."
        return _page(entry, status=403, save_problem=problem)
    # The key holds for this form and this content: the same twice is one car, a changed one is another.
    key = f"form-{request.form.get('form_key', '')[:64]}-{entry.digest}"
    saved = saving.save(services(), entry.vehicle, idempotency_key=key)
    vehicle_id = saved.vehicle.vehicle_id
    flash(f"Saved as car {vehicle_id}." if saved.created else f"Car {vehicle_id} was saved already.", "good")
    return redirect(url_for("arrivals.show", saved=vehicle_id), 303)


@bp.post("/details")
def details() -> tuple[str, int] | str | tuple[dict[str, Any], int]:
    """Return what the page shows beside the number, for the form as it stands; or what is wrong with it."""
    entry = read_entry(request.form)
    if entry.vehicle is None:
        return {"errors": entry.errors}, 422
    answer = _answer(entry)
    if wait_s := answer.get("wait_s"):
        raise too_often(wait_s)
    return render_template("forecast/details.html", **answer)


def _page(entry: Entry, *, status: int = 200, save_problem: str = "") -> Response:
    answer = _answer(entry)
    page = render_template(
        "forecast/show.html",
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
    """Return what the templates show of a vehicle."""
    served = current_model()
    if served is None or entry.vehicle is None:
        return {"forecast": None, "scale_top": formats.scale_top()}
    if wait_s := services().limit.wait_s(request.environ):
        return {"forecast": None, "wait_s": wait_s, "scale_top": formats.scale_top()}
    found = served.predictor.predict_one(entry.vehicle.model_dump())
    beside = services().details.build(served, entry.vehicle, found)
    return {"forecast": found, "scale_top": formats.scale_top(found.high), **beside}
