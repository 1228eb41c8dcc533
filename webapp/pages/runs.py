"""``/runs``: the last runs of the flows."""

from flask import Blueprint, Response

from webapp.prefect_client import FlowRun, WorkflowError
from webapp.rendering.templates import stream_page
from webapp.services import services

bp = Blueprint("runs", __name__)


@bp.get("/runs")
def show() -> Response:
    return stream_page("runs/show.html", read_runs=read_runs, prefect=services().settings.prefect)


def read_runs() -> tuple[list[FlowRun], str]:
    """Return the last runs; or none, and why."""
    try:
        return services().prefect.recent(), ""
    except WorkflowError as exc:
        return [], str(exc)
