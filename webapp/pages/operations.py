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
    is_risky: bool = False
    asks_reason: bool = False


ACTIONS = {
    action.name: action
    for action in (
        Action(
            "train",
            "Train a model",
            "Train a model on the latest snapshot?",
            "It is compared with the champion, and goes live only if it is better.",
        ),
        Action(
            "promote",
            "Promote the candidate",
            "Compare the candidate with the champion?",
            "If it is better it goes live at once; if not, the reason is shown here.",
        ),
        Action(
            "rollback",
            "Roll back",
            "Bring the previous champion back?",
            "The model that was live before is live again at once. You can promote again afterwards.",
            is_risky=True,
            asks_reason=True,
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


PROMOTE_VERSION = Action(
    "promote",
    "Promote it",
    "Promote this model whatever the comparison says?",
    "It goes live at once. Broken files are refused all the same.",
    is_risky=True,
    asks_reason=True,
)
RELOAD = Action(
    "reload",
    "Reload",
    "Read the registry now?",
    "Every worker reads the champion at once, and swaps its model if that has changed.",
)


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
    return _start(ACTIONS.get(name), {})


@bp.post("/promote/<int:version>")
def promote_version(version: int) -> Response | str:
    """Make a version champion, for a reason and whatever the comparison says."""
    return _start(PROMOTE_VERSION, {"version": version, "force": True})


def _start(action: Action | None, parameters: dict[str, object]) -> Response | str:
    reason = request.form.get("reason", "").strip()
    is_ready = action is not None and is_confirmed() and (bool(reason) or not action.asks_reason)
    require_operator(changes=is_ready)
    if action is None:
        abort(404)
    if not is_ready:
        return render_template("operations/confirm.html", action=action, error=is_confirmed())
    try:
        services().prefect.start(action.name, parameters | ({"reason": reason} if action.asks_reason else {}))
        flash(f"Started: {action.button}. Its steps are shown below.", "good")
    except WorkflowError as exc:
        flash(f"Not started. {exc}", "poor")
    return redirect(url_for(action.page, _anchor="operations"), 303)


@bp.post("/reload")
def reload() -> Response:
    require_operator()
    model = reload_everywhere()
    if problem := services().slot.problem:
        flash(f"The registry was read, but: {problem}", "warn")
    else:
        flash(f"Model {model.version} is live." if model else "The registry has no champion.", "good")
    return redirect(url_for("models.show"), 303)
