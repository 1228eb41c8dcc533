"""What benchmarks compare a forecast with, as an ordinary view; the short way has its own echo."""

import orjson
from flask import Blueprint, Response, request

from webapp.serving.fastpath import ECHO

benchmark = Blueprint("benchmark", __name__, url_prefix="/benchmark")


@benchmark.get("/empty-page")
def empty_page() -> str:
    """Return the least that a browser paints."""
    return "<!doctype html><html lang=en><title>Empty</title><body>.</body></html>"


@benchmark.post("/flask-echo")
def flask_echo() -> Response:
    """Parse the body and return a constant."""
    orjson.loads(request.get_data(cache=False))
    return Response(orjson.dumps(ECHO), content_type="application/json")
