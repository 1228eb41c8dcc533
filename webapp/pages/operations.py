"""``/operations/<name>``: what an operator may start, after a confirmation, and the latest run of each."""

from dataclasses import dataclass

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from webapp.prefect_client import FlowRun, Step, WorkflowError
from webapp.security.sign_in import require_operator
from webapp.services import services
from webapp.serving.current_model import reload_everywhere

bp = Blueprint("operations", __name__, url_prefix="/operations")


@dataclass(frozen=True, slots=True)
class Action:
    """Something an operator may do after a confirmation, on the page of an endpoint."""

    name: str
    button: str
    question: str
    does: str
    page: str = "models.show"


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
            "If it is better it serves at once; if not, the reason is shown here.",
        ),
        Action(
            "rollback",
            "Roll back",
            "Bring the previous champion back?",
            "The model that served before serves again at once. You can promote again afterwards.",
        ),
        Action(
            "monitor",
            "Check for drift",
            "Compare saved cars with the training fleet?",
            "It also compares forecasts with the bookings of the cars of the CSV files. Nothing changes.",
        ),
        Action(
            "materialize",
            "Materialize",
            "Read the CSVs and write both stores?",
            "Forecasts continue meanwhile; the old snapshot is used until the new one is complete.",
            page="feature_stores.show",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of an action's latest run; without a run, why there is none."""

    action: Action
    run: FlowRun | None
    steps: tuple[Step, ...] = ()
    problem: str = ""


def read_progress(*names: str) -> list[Progress]:
    """Return the state of each action's latest run, or that Prefect cannot be reached."""
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


def is_confirmed() -> bool:
    """Return whether the reader was asked and agreed."""
    return request.form.get("confirmed") == "yes"


@bp.post("/<name>")
def start(name: str) -> Response | str:
    """Start an action, after it was confirmed."""
    confirmed = is_confirmed()
    require_operator(changes=confirmed)
    action = ACTIONS.get(name) or abort(404)
    if not confirmed:
        return render_template("operations/confirm.html", action=action)
    try:
        services().prefect.start(name, {})
    except WorkflowError as exc:
        flash(f"Not started. {exc}", "poor")
    return redirect(url_for(action.page, _anchor="operations"), 303)


@bp.post("/reload")
def reload() -> Response:
    """Read the registry now instead of at the next poll."""
    require_operator()
    model = reload_everywhere()
    if problem := services().slot.problem:
        flash(f"The registry was read, but: {problem}", "warn")
    else:
        flash(f"Model {model.version} serves." if model else "The registry has no champion.", "good")
    return redirect(url_for("models.show"), 303)
