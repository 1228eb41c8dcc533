"""``/``: the form of one vehicle and its forecast; ``/details``: both again, for what was typed since."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from secrets import token_urlsafe
from typing import Any
from urllib.parse import parse_qsl, urlencode

from flask import Blueprint, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from vroom_features.database.queries import StoredVehicle
from vroom_features.errors import StaleVehicleError
from vroom_features.vehicle import COLUMNS, VehicleCreate
from vroom_model.errors import VroomModelError
from vroom_model.serving.explain import Explanation
from vroom_model.serving.predictor import Forecast
from vroom_model.serving.what_if import helpful_changes, what_if
from webapp.problems import ProblemError
from webapp.rendering.formats import plain, scale_top
from webapp.rendering.forms import DEFAULTS, FIELDS, Entry, read_entry
from webapp.security import owners
from webapp.security.sign_in import may_save
from webapp.services import services
from webapp.serving import vehicles
from webapp.serving.current_model import LoadedModel, current_model, too_often

logger = logging.getLogger(__name__)
NUM_ID_DIGITS_MAX = 18
NUM_PINS = 2
"""Beside the car of the form."""
bp = Blueprint("forecast", __name__)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A car that is compared with others: its forecast, the address of its form, and that without it."""

    entry: Entry
    forecast: Forecast
    income: Forecast
    address: str = ""
    address_without: str = ""


@bp.get("/")
def show() -> Response:
    """Show the form that the address holds, or that of ``?vehicle_id=``, and its forecast."""
    values = DEFAULTS
    asked = request.args.get("vehicle_id")
    if asked is not None:
        if not asked.isdecimal() or len(asked) > NUM_ID_DIGITS_MAX:
            raise ProblemError(404, "No such vehicle", "a car number has digits only")
        vehicle = services().vehicle(int(asked))
        values = values | {name: plain(getattr(vehicle, name)) for name in COLUMNS}
    return _page(read_entry(values | request.args.to_dict()))


@bp.post("/")
def submit() -> Response:
    """Save what the form holds, or show its forecast at an address of its own, which can be shared."""
    entry, action = read_entry(request.form), request.form.get("action")
    if entry.vehicle is None:
        return _page(entry, status=422)
    if action == "change":
        return _change(entry, entry.vehicle)
    if action != "save":
        pins = _pins()
        if action == "pin" and entry.values not in pins:
            pins = [*pins, entry.values][-NUM_PINS:]
        return redirect(_address(entry.values, pins), 303)
    if not may_save():
        problem = "Only the signed-in operator may save cars here."
        return _page(entry, status=403, save_problem=problem)
    # The key holds for this form and this content: the same twice is one car, a changed one is another.
    form_key = request.form.get("form_key", "")
    digest = sha256(f"{form_key} {entry.vehicle.model_dump_json()}".encode()).hexdigest()
    owner = owners.owner_to_save(form_key)
    saved = vehicles.save(
        services(),
        entry.vehicle,
        idempotency_key=f"form-{digest}",
        owner_hash=owners.hash_of(owner),
    )
    vehicle_id = saved.vehicle.vehicle_id
    flash(f"Saved as car {vehicle_id}." if saved.created else f"Car {vehicle_id} was saved already.", "good")
    return owners.with_cookie(redirect(url_for("my_cars.show", saved=vehicle_id), 303), owner)


def _change(entry: Entry, vehicle: VehicleCreate) -> Response:
    """Change the stored vehicle that the form began with, unless it was changed meanwhile."""
    before = owners.require_owner(request.form.get("vehicle_id", 0, type=int))
    # The form has the row version, which is public and so may be in an address.  The other is of the name
    # too, which could be guessed by it.
    is_current = request.form.get("version") == str(before.row_version)
    versions = (before.version,) if is_current else ()
    try:
        after = vehicles.change(services(), before.vehicle_id, vehicle, versions=versions)
    except StaleVehicleError:
        problem = "The car was changed in another window meanwhile. Open it again from My cars."
        return _page(entry, status=409, save_problem=problem)
    is_new_watch = after.watch_start != before.watch_start
    flash(f"Car {after.vehicle_id} is changed.{' A new watch begins.' if is_new_watch else ''}", "good")
    return redirect(url_for("my_cars.show", saved=after.vehicle_id), 303)


def _own_vehicle() -> StoredVehicle | None:
    """Return the vehicle that this form may change."""
    if not (vehicle_id := request.values.get("vehicle_id", type=int)):
        return None
    vehicle = services().source.get_vehicle(vehicle_id)
    is_there = vehicle is not None and vehicle.source == "ui" and vehicle.withdrawn_at is None
    return vehicle if vehicle and is_there and owners.may_change(vehicle) else None


@bp.post("/details")
def details() -> Response:
    """Return the forecast and its details for the current form, with what is to say beside its fields."""
    return _respond("forecast/result.html", read_entry(request.form), is_update=True)


def _page(entry: Entry, *, status: int = 200, save_problem: str = "") -> Response:
    return _respond(
        "forecast/show.html",
        entry,
        status=status,
        form_key=token_urlsafe(12),
        save_problem=save_problem,
        may_save=may_save(),
        own=_own_vehicle(),
    )


def _respond(
    template: str, entry: Entry, *, own: StoredVehicle | None = None, status: int = 200, **context: Any
) -> Response:
    pins, vehicle_id = _pins(), request.values.get("vehicle_id", type=int)
    address = partial(_address, version=own.row_version if own else None)
    answer = _answer(entry, pins, vehicle_id, address)
    page = render_template(
        template,
        fields=FIELDS,
        entry=entry,
        pins=[urlencode(pin) for pin in pins],
        vehicle_id=vehicle_id,
        address=address(entry.values, pins),
        own=own,
        **context,
        **answer,
    )
    if status == 200 and (wait_s := answer.get("wait_s")):
        refusal = too_often(wait_s)
        return Response(page, refusal.status, refusal.headers, mimetype="text/html")
    return Response(page, 422 if entry.errors else status, mimetype="text/html")


def _address(
    values: Mapping[str, str], pins: Iterable[Mapping[str, str]], *, version: int | None = None
) -> str:
    """Return the address of a form beside other cars, with the version of the car that it began with."""
    changes: dict[str, Any] = {**values, "pin": [urlencode(pin) for pin in pins]}
    changes["version"] = request.values.get("version", version, type=int)
    return url_for("forecast.show", vehicle_id=request.values.get("vehicle_id", type=int), **changes)


def _pins() -> list[dict[str, str]]:
    """Return what was typed for the cars to compare with; one that is not understood is left out."""
    entries = [read_entry(dict(parse_qsl(pin))) for pin in request.values.getlist("pin")]
    return [entry.values for entry in entries if entry.vehicle][-NUM_PINS:]


def _answer(
    entry: Entry, pins: list[dict[str, str]], vehicle_id: int | None, address: Callable[..., str]
) -> dict[str, Any]:
    """Return what the templates show of a vehicle, all of it by one model and for a year."""
    model = current_model()
    nothing: dict[str, Any] = {"forecast": None, "scale_top": scale_top()}
    if model is None or entry.vehicle is None:
        return nothing
    if wait_s := services().limit.wait_s(request.environ, 1 + len(pins)):
        return nothing | {"wait_s": wait_s}
    predictor, fleet = model.predictor, services().fleet
    factor = model.watch.per_year(1.0) if model.watch else 1.0
    row = entry.row
    here = _scenario(model, entry, factor)
    at_market = predictor.predict_one(row | {"actual_price": row["recommended_price"]}).times(factor)
    explanation = _explain(model, row)
    others = [
        _scenario(
            model,
            read_entry(pin),
            factor,
            address=address(pin, pins),
            address_without=address(entry.values, [each for each in pins if each != pin]),
        )
        for pin in pins
    ]
    return {
        "forecast": here.forecast,
        "income": here.income,
        "scenarios": [here, *others],
        "segment": predictor.segment(row),
        "outside": predictor.outside(row) or [],
        "ranges": predictor.manifest.ranges,
        "question": entry.question,
        "answer_to": lambda name, value: address(entry.values | {name: plain(value)}, pins),
        "factor": factor,
        "scale_top": scale_top(here.forecast.high),
        "percentile": fleet.percentile(model, here.forecast.predicted_reservations / factor),
        "explanation": explanation and explanation.times(factor),
        "against_market": here.forecast.predicted_reservations - at_market.predicted_reservations,
        "changes": helpful_changes(predictor, row),
        "curve": what_if(predictor, row),
        "similar": fleet.similar(model, row, but=vehicle_id),
    }


def _scenario(model: LoadedModel, entry: Entry, factor: float, **addresses: str) -> Scenario:
    forecast = model.predictor.predict_one(entry.row).times(factor)
    income = forecast.times(entry.row["actual_price"] * entry.booking_days)
    return Scenario(entry, forecast, income, **addresses)


def _explain(model: LoadedModel, row: Mapping[str, float]) -> Explanation | None:
    """Return the reasons; None if the model's files cannot be read, which the rest does without."""
    try:
        return services().load_explainer(model.ref).explain(row)
    except VroomModelError as exc:
        logger.warning("no reasons model_version=%s: %s", model.version, exc)
        return None
