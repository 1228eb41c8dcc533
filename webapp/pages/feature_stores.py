"""``/feature-stores``: what both feature stores and the database hold."""

from flask import Blueprint, Response

from vroom_features.view import VEHICLE_VIEW
from webapp.pages.operations import progress_of
from webapp.rendering.streaming import page_in_parts
from webapp.services import services
from webapp.serving.store_state import offline_state, online_state

bp = Blueprint("feature_stores", __name__)


@bp.get("/feature-stores")
def show() -> Response:
    """Describe them, and materialize."""
    app = services()
    return page_in_parts(
        "feature_stores/show.html",
        read_online=lambda: online_state(app),
        read_offline=lambda: offline_state(app.settings.offline_store),
        count=app.source.count_vehicles,
        view=VEHICLE_VIEW,
        read_operations=lambda: progress_of("materialize"),
    )
