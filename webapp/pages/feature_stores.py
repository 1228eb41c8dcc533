"""``/feature-stores``: what both feature stores and the database hold."""

from flask import Blueprint, Response

from vroom_features.view import VEHICLE_VIEW
from webapp.pages.operations import read_progress
from webapp.rendering.templates import stream_page
from webapp.services import services
from webapp.serving.store_state import offline_state, online_state

bp = Blueprint("feature_stores", __name__)


@bp.get("/feature-stores")
def show() -> Response:
    app = services()
    return stream_page(
        "feature_stores/show.html",
        read_online=lambda: online_state(app),
        read_offline=lambda: offline_state(app.settings.offline_store),
        count=app.source.count_vehicles,
        view=VEHICLE_VIEW,
        read_operations=lambda: read_progress("materialize"),
    )
