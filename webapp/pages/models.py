"""``/models``: the model that serves, the candidate, and those that served before."""

from flask import Blueprint, Response

from webapp.pages.operations import progress_of
from webapp.rendering.streaming import page_in_parts
from webapp.services import services
from webapp.serving.worker_heartbeat import WorkerState

bp = Blueprint("models", __name__)


@bp.get("/models")
def show() -> Response:
    """Describe them, and list what an operator may start."""
    return page_in_parts(
        "models/show.html",
        problem=services().slot.problem,
        read_history=services().history.read,
        read_workers=workers,
        read_operations=lambda: progress_of("train", "promote", "rollback", "monitor"),
        mlflow=services().settings.mlflow,
        model_name=services().settings.model_name,
    )


def workers() -> list[WorkerState]:
    """Return every worker with what it serves; none while Redis, where they meet, cannot be reached."""
    return services().heartbeat.workers() or []
