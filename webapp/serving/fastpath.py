"""The fast path for forecasts: a WSGI middleware that answers before Flask sets up a request.

It answers what it can with 200.  Everything else goes, with the body restored, to the Flask view of the same
path, which refuses with a problem document.  Both share validation, forecast and document.
"""

import logging
import secrets
from collections.abc import Callable, Iterable
from io import BytesIO
from time import perf_counter
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import orjson
from pydantic import ValidationError

from vroom_features.errors import VroomFeaturesError
from webapp.observability import REQUESTS
from webapp.security.headers import REQUEST_ID
from webapp.security.hosts import host_rule
from webapp.services import Services
from webapp.serving.current_model import LoadedModel
from webapp.serving.vehicles import VehicleDocument, VehicleKey, forecast_document, predict_stored

logger = logging.getLogger(__name__)

Answer = Callable[[LoadedModel, bytes], dict[str, Any]]

BODY_MAX_BYTES = 4096
ECHO_PATH = "/benchmark/echo"
ECHO = {"predicted_reservations": 1.0, "model_version": 1}


class FastPath:
    """Answer forecasts, and pass every other request on."""

    def __init__(self, app: WSGIApplication, services: Services) -> None:
        self._app = app
        self._services = services
        self._slot = services.slot
        self._limit = services.limit
        self._is_host_trusted = host_rule(services.settings)
        self._is_logging = services.settings.web_log_forecasts
        self._answers: dict[str, Answer] = {"/predict": self._predict, "/predict/id": self._predict_id}
        if services.settings.web_benchmark:
            self._answers[ECHO_PATH] = self._echo
        self._observe = {path: REQUESTS.labels("POST", path, "200").observe for path in self._answers}
        self._vehicle = VehicleDocument.__pydantic_validator__.validate_json
        self._key = VehicleKey.__pydantic_validator__.validate_json

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path: str = environ["PATH_INFO"]
        answer = self._answers.get(path)
        if answer is None or environ["REQUEST_METHOD"] != "POST":
            return self._app(environ, start_response)
        started = perf_counter()
        model = self._slot.current
        length = environ.get("CONTENT_LENGTH", "")
        if (
            model is None
            or not length.isdigit()
            or int(length) > BODY_MAX_BYTES
            or environ.get("CONTENT_TYPE", "").partition(";")[0] != "application/json"
            or not self._is_host_trusted(host := environ.get("HTTP_HOST"))
            or ("HTTP_ORIGIN" in environ and environ["HTTP_ORIGIN"].partition("://")[2] != host)
            or self._limit.wait_s(environ)
        ):
            return self._app(environ, start_response)
        body: bytes = environ["wsgi.input"].read(int(length))
        try:
            content = orjson.dumps(answer(model, body))
        except (ValidationError, VroomFeaturesError):
            environ["wsgi.input"] = BytesIO(body)
            return self._app(environ, start_response)
        given = environ.get("HTTP_X_REQUEST_ID", "")
        request_id = given if given and REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        start_response(
            "200 OK",
            [
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(content))),
                ("X-Content-Type-Options", "nosniff"),
                ("X-Request-ID", request_id),
            ],
        )
        seconds = perf_counter() - started
        self._observe[path](seconds)
        if self._is_logging:
            _log(environ, seconds, request_id, model.version)
        return [content]

    def _predict(self, model: LoadedModel, body: bytes) -> dict[str, Any]:
        vehicle = self._vehicle(body)
        return forecast_document(model, vehicle.__dict__)

    def _predict_id(self, model: LoadedModel, body: bytes) -> dict[str, Any]:
        vehicle_id = self._key(body, strict=True).vehicle_id
        return predict_stored(self._services, model, vehicle_id)

    def _echo(self, model: LoadedModel, body: bytes) -> dict[str, Any]:
        """Do all that a forecast does except validate and forecast, for benchmarks."""
        orjson.loads(body)
        return ECHO


def _log(environ: WSGIEnvironment, seconds: float, request_id: str, version: int) -> None:
    logger.info(
        "POST %s 200",
        environ["PATH_INFO"],
        extra={
            "milliseconds": round(seconds * 1000, 2),
            "model_version": version,
            "client": environ.get("REMOTE_ADDR"),
            "request_id": request_id,
        },
    )
