"""Pages for operators: starting and following runs, the stores, the server's latency."""

from dataclasses import dataclass
from typing import Any

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from flask_login import current_user
from pydantic import BaseModel, Field, ValidationError
from redis.exceptions import RedisError
from werkzeug.wrappers import Response

from vroom_features.view import VEHICLE_VIEW
from webapp.operations.flow_runs import FlowRun, Step
from webapp.operations.prefect_client import WorkflowError
from webapp.problems import invalid
from webapp.rendering.streaming import page_in_parts
from webapp.rendering.vehicle_form import DEFAULTS, read_entry
from webapp.security.sign_in import require_operator
from webapp.services import services
from webapp.serving.current_model import reload_everywhere
from webapp.serving.schemas import ID_MAX
from webapp.serving.store_state import offline_state, online_state
from webapp.serving.worker_heartbeat import WorkerState

operations = Blueprint("operations", __name__)
NUM_LATENCY_REQUESTS = 200
NUM_RUNS = 30


@dataclass(frozen=True, slots=True)
class Action:
    """Something an operator may do, and is asked about before.

    Parameters
    ----------
    name : str
        As in ``prefect.FLOWS``, if it starts a run.
    button, question : str
        What the button says, and what is asked before.
    does : str
        What will happen, in a sentence.
    page : str
        Endpoint of the page it belongs to.
    """

    name: str
    button: str
    question: str
    does: str
    page: str = "pages.models"


ACTIONS = {
    action.name: action
    for action in (
        Action(
            "train",
            "Train a model",
            "Train a model on the latest snapshot?",
            "It is compared with the champion, and serves from then on only if it is better.",
        ),
        Action(
            "promote",
            "Promote the candidate",
            "Compare the candidate with the champion?",
            "If it is better it serves at once; if not, you read here why not.",
        ),
        Action(
            "rollback",
            "Roll back",
            "Bring the previous champion back?",
            "The model that served before takes over at once. You can promote again afterwards.",
        ),
        Action(
            "monitor",
            "Look for drift",
            "Compare new arrivals with the training fleet?",
            "It also compares forecasts with what became of the cars of the CSV files. Nothing changes.",
        ),
        Action(
            "materialize",
            "Materialize",
            "Read the CSVs and write both stores?",
            "Forecasts go on meanwhile; readers see the old snapshot until the new one is whole.",
            page="pages.operations.stores",
        ),
    )
}


class PromotionForm(BaseModel):
    """What to promote: a version, or the candidate."""

    version: int | None = Field(default=None, ge=1, le=ID_MAX)


@dataclass(frozen=True, slots=True)
class Progress:
    """How the latest run of an action stands; without a run, why there is none to show."""

    action: Action
    run: FlowRun | None
    steps: tuple[Step, ...] = ()
    problem: str = ""


def progress_of(*names: str) -> list[Progress]:
    """Return how the latest run of each action stands; Prefect being away is part of the answer."""
    prefect = services().prefect
    found: list[Progress] = []
    try:
        latest = prefect.latest(names)
        for name in names:
            run = latest.get(name)
            steps = tuple(prefect.steps(run.id)) if run and run.is_active else ()
            found.append(Progress(ACTIONS[name], run, steps))
    except WorkflowError as exc:
        return [Progress(ACTIONS[each], None, problem=str(exc)) for each in names]
    return found


def workers() -> list[WorkerState]:
    """Return every worker with what it serves; none while Redis, where they meet, is away."""
    try:
        return sorted(services().heartbeat.workers(), key=lambda worker: worker.worker)
    except RedisError:
        return []


def recent_runs() -> tuple[list[FlowRun], str]:
    """Return the last runs of our flows; or none, and why."""
    try:
        return services().prefect.recent(limit=NUM_RUNS), ""
    except WorkflowError as exc:
        return [], str(exc)


def is_confirmed() -> bool:
    """Tell whether what this form does was asked and agreed to."""
    return request.form.get("confirmed") == "yes"


@operations.get("/runs")
def runs() -> Response:
    """List the last runs of our flows."""
    return page_in_parts("runs.html", read_runs=recent_runs, prefect=services().settings.prefect)


@operations.get("/feature-stores")
def stores() -> Response:
    """Describe both feature stores, and materialize."""
    app = services()
    return page_in_parts(
        "stores.html",
        read_online=lambda: online_state(app),
        read_offline=lambda: offline_state(app.settings.offline_store),
        count=app.source.count_vehicles,
        view=VEHICLE_VIEW,
        read_operations=lambda: progress_of("materialize"),
    )


@operations.get("/latency")
def latency() -> str:
    """Show the page that measures this server."""
    newest = services().source.list_vehicles(page_size=1, descending=True).items  # new arrivals have high ids
    vehicle = read_entry(DEFAULTS).vehicle
    return render_template(
        "latency.html",
        num_requests=NUM_LATENCY_REQUESTS,
        vehicle=vehicle.model_dump() if vehicle else {},
        vehicle_id=newest[0].vehicle_id if newest else None,
    )


@operations.post("/operations/<name>")
def start(name: str) -> Response | str:
    """Start an action, after it was confirmed."""
    confirmed = is_confirmed()
    require_operator(changes=confirmed)
    action = ACTIONS.get(name) or abort(404)
    parameters: dict[str, Any] = {}
    if name == "promote" and (version := request.form.get("version")):
        try:
            parameters = PromotionForm.model_validate({"version": version}).model_dump()
        except ValidationError as exc:
            raise invalid(exc) from exc
    if not confirmed:
        return render_template("confirm.html", action=action)
    try:
        services().prefect.start(name, parameters)
    except WorkflowError as exc:
        flash(f"Not started. {exc}", "poor")
    return redirect(url_for(action.page, _anchor="operations"), 303)


@operations.post("/operations/reload")
def reload() -> Response:
    """Read the registry now instead of at the next poll."""
    served = reload_everywhere()
    if problem := services().slot.problem:
        flash(f"The registry was read, but: {problem}", "warn")
    else:
        flash(f"Model {served.version} serves." if served else "The registry has no champion.", "good")
    return redirect(url_for("pages.models"), 303)


@operations.app_context_processor
def operator() -> dict[str, Any]:
    """Tell templates whether the operator looks."""
    return {"is_operator": bool(current_user.is_authenticated)}
