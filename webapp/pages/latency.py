"""``/latency``: how long this server takes to answer, measured by the reader's browser."""

from flask import Blueprint, render_template

from vroom_features.vehicle import COLUMNS
from webapp.services import services

NUM_REQUESTS = 200
bp = Blueprint("latency", __name__)


@bp.get("/latency")
def show() -> str:
    newest = services().source.list_vehicles(page_size=1, descending=True).items  # new arrivals have high ids
    return render_template(
        "latency/show.html",
        num_requests=NUM_REQUESTS,
        vehicle={column.name: column.initial for column in COLUMNS.values()},
        vehicle_id=newest[0].vehicle_id if newest else None,
    )
