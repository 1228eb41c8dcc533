"""What benchmarks compare a forecast with, as an ordinary view; the short way has its own echo."""

import orjson
from flask import Blueprint, Response, request

benchmark = Blueprint("benchmark", __name__, url_prefix="/benchmark")
CONSTANT = {"predicted_reservations": 1.0, "model_version": 1}


@benchmark.get("/empty-page")
def empty_page() -> str:
    """Return the least that a browser paints."""
    return "<!doctype html><html lang=en><title>Empty</title><body>.</body></html>"


@benchmark.post("/flask-echo")
def flask_echo() -> Response:
    """Parse the body and return a constant."""
    orjson.loads(request.get_data(cache=False))
    return Response(orjson.dumps(CONSTANT), content_type="application/json")
