"""``/operations/<name>``: what an operator may start, asked about before; and how its latest run stands."""

from dataclasses import dataclass
from typing import Any

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from pydantic import BaseModel, Field, ValidationError
from werkzeug.wrappers import Response

from webapp.prefect_client import FlowRun, Step, WorkflowError
from webapp.problems import invalid
from webapp.security.sign_in import require_operator
from webapp.services import services
from webapp.serving.current_model import reload_everywhere
from webapp.serving.forecasts import ID_MAX

bp = Blueprint("operations", __name__, url_prefix="/operations")


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
            page="feature_stores.show",
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


def is_confirmed() -> bool:
    """Tell whether what this form does was asked and agreed to."""
    return request.form.get("confirmed") == "yes"


@bp.post("/<name>")
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
        return render_template("operations/confirm.html", action=action)
    try:
        services().prefect.start(name, parameters)
    except WorkflowError as exc:
        flash(f"Not started. {exc}", "poor")
    return redirect(url_for(action.page, _anchor="operations"), 303)


@bp.post("/reload")
def reload() -> Response:
    """Read the registry now instead of at the next poll."""
    require_operator()
    served = reload_everywhere()
    if problem := services().slot.problem:
        flash(f"The registry was read, but: {problem}", "warn")
    else:
        flash(f"Model {served.version} serves." if served else "The registry has no champion.", "good")
    return redirect(url_for("models.show"), 303)
