"""``/feature-stores``: what both feature stores and the database hold."""

from flask import Blueprint, Response

from vroom_features.view import VEHICLE_VIEW
from webapp.pages.operations import read_progress
from webapp.rendering.templates import stream_page
from webapp.services import Services, services
from webapp.serving.store_state import current_manifest, offline_state, online_state

bp = Blueprint("feature_stores", __name__)


@bp.get("/feature-stores")
def show() -> Response:
    app = services()
    return stream_page(
        "feature_stores/show.html",
        read_online=lambda: online_state(app),
        read_offline=lambda: offline_state(app.settings.offline_store),
        counts=app.source.count_vehicles(),  # read now: without a database the answer is an error
        view=VEHICLE_VIEW,
        read_operations=lambda: read_progress("materialize"),
        read_notes=lambda: read_notes(app),
    )


def read_notes(app: Services) -> dict[str, str]:
    """Return what Materialize would do again on an unchanged database; whether CSVs changed, nobody knows."""
    snapshot, last = current_manifest(app.settings.offline_store), app.source.last_change()
    if snapshot is None or (snapshot.database_id, snapshot.change_number) != (last.database_id, last.number):
        return {}
    unchanged = (
        "Nothing was saved, changed or booked since the last time. New CSV files are read, if there are any."
    )
    return {"materialize": unchanged}
