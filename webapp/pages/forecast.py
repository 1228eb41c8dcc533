"""``/``: the form of one vehicle and its forecast; ``/details``: why, its rank, and other prices."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from secrets import token_urlsafe
from typing import Any

from flask import Blueprint, flash, redirect, render_template, request, url_for
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from werkzeug.wrappers import Response

from vroom_features.errors import VehicleNotFoundError
from vroom_features.vehicle import COLUMNS, VehicleCreate
from vroom_model.errors import VroomModelError
from vroom_model.serving.explain import Explanation
from vroom_model.serving.what_if import what_if
from webapp.problems import ProblemError
from webapp.rendering.formats import plain, scale_top
from webapp.security.sign_in import may_save
from webapp.services import services
from webapp.serving import vehicles
from webapp.serving.current_model import LoadedModel, current_model, too_often

logger = logging.getLogger(__name__)
NUM_ID_DIGITS_MAX = 18
FIELDS = tuple(sorted(COLUMNS.values(), key=lambda column: bool(column.choices)))
"""In the order of the page: what is typed, then what is chosen."""
DEFAULTS = {field.name: f"{field.initial:g}" for field in FIELDS}
bp = Blueprint("forecast", __name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """A submitted form: what was typed, and the vehicle, or a sentence for each field with an error."""

    values: dict[str, str]
    vehicle: VehicleCreate | None
    errors: dict[str, str]


def read_entry(form: Mapping[str, str]) -> Entry:
    """Validate a submitted form, keeping what was typed.

    Examples
    --------
    >>> read_entry(DEFAULTS | {"actual_price": "-3"}).errors
    {'actual_price': 'Must be more than 0.'}
    """
    values = {field.name: form.get(field.name, "").strip() for field in FIELDS}
    try:
        return Entry(values, VehicleCreate.model_validate(values), {})
    except ValidationError as exc:
        errors = {str(error["loc"][0]): _message(error) for error in exc.errors()}
        errors |= {name: "Choose one of the two." for name in errors if COLUMNS[name].choices}
        return Entry(values, None, errors)


def _message(error: ErrorDetails) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "greater_than":
            return f"Must be more than {context['gt']:,g}."
        case "greater_than_equal":
            return f"Must be at least {context['ge']:,g}."
        case "less_than_equal":
            return f"Must be at most {context['le']:,.0f}."
        case "int_from_float" | "int_parsing" if error["input"]:
            return "Must be a whole number."
        case "float_parsing" | "int_parsing" | "int_parsing_size" | "finite_number":
            return "Must be a number." if error["input"] else "Please fill this in."
    return str(error["msg"])


@bp.get("/")
def show() -> Response:
    """Show the form and its forecast; ``?vehicle_id=`` starts from a vehicle that is stored."""
    values = DEFAULTS
    asked = request.args.get("vehicle_id")
    if asked is not None:
        if not asked.isdecimal() or len(asked) > NUM_ID_DIGITS_MAX:
            raise ProblemError(404, "No such vehicle", "a car number has digits only")
        vehicle = services().source.get_vehicle(int(asked))
        if vehicle is None:
            raise VehicleNotFoundError(int(asked))
        values = {field.name: plain(getattr(vehicle, field.name)) for field in FIELDS}
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
    content = sha256(entry.vehicle.model_dump_json().encode()).hexdigest()[:16]
    key = f"form-{request.form.get('form_key', '')[:64]}-{content}"
    saved = vehicles.save(services(), entry.vehicle, idempotency_key=key)
    vehicle_id = saved.vehicle.vehicle_id
    flash(f"Saved as car {vehicle_id}." if saved.created else f"Car {vehicle_id} was saved already.", "good")
    return redirect(url_for("arrivals.show", saved=vehicle_id), 303)


@bp.post("/details")
def details() -> str | tuple[dict[str, Any], int]:
    """Return the details of the forecast for the current form, or its errors."""
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
    """Return what the templates show of a vehicle, all of it by one model."""
    model = current_model()
    if model is None or entry.vehicle is None:
        return {"forecast": None, "scale_top": scale_top()}
    if wait_s := services().limit.wait_s(request.environ):
        return {"forecast": None, "wait_s": wait_s, "scale_top": scale_top()}
    row = entry.vehicle.model_dump()
    forecast = model.predictor.predict_one(row)
    return {
        "forecast": forecast,
        "segment": model.predictor.segment(row),
        "scale_top": scale_top(forecast.high),
        "percentile": services().fleet.percentile(model, forecast.predicted_reservations),
        "explanation": _explain(model, row),
        "curve": what_if(model.predictor, row),
    }


def _explain(model: LoadedModel, row: Mapping[str, float]) -> Explanation | None:
    """Return the reasons; None if the model's files cannot be read, which the rest does without."""
    try:
        return services().load_explainer(model.ref).explain(row)
    except VroomModelError as exc:
        logger.warning("no reasons model_version=%s: %s", model.version, exc)
        return None
