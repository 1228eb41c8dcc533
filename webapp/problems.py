"""Errors as RFC 9457 problem documents, as pages for browsers, as their protocol's for inference clients."""

import logging
from collections.abc import Sequence

import orjson
from flask import Flask, Response, g, request
from flask_wtf.csrf import CSRFError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from werkzeug.exceptions import HTTPException, InternalServerError, NotFound

from vroom_features.errors import (
    IdempotencyConflictError,
    NotChangeableError,
    NotDeletableError,
    SourceStoreError,
    StaleVehicleError,
    VehicleNotFoundError,
)
from vroom_model.errors import BrokenModelError, ModelNotFoundError, RegistryError
from webapp.prefect_client import RunNotFoundError, WorkflowError

logger = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"
INFERENCE_PREFIX = "/v2"
"""Paths of the Open Inference Protocol, whose clients read ``{"error": text}``."""


class FieldProblem(BaseModel):
    """What is wrong with one field."""

    field: str = Field(description="path of the field, as in 0.actual_price; empty: the whole document")
    message: str


class Problem(BaseModel):
    """An RFC 9457 problem document."""

    model_config = ConfigDict(json_schema_extra={"description": "RFC 9457 problem document"})

    type: str = Field(default="about:blank", description="what kind of problem, as a URI")
    title: str
    status: int
    detail: str
    instance: str = Field(description="the path that was asked for")
    request_id: str = Field(description="names this request in the logs")
    errors: list[FieldProblem] = Field(default=[], description="what is wrong with which field")


class ProblemError(Exception):
    """Why a request cannot be answered."""

    def __init__(
        self, status: int, title: str, detail: str, *, errors: Sequence[FieldProblem] = (), **headers: str
    ) -> None:
        self.status = status
        self.title = title
        self.detail = detail
        self.errors = list(errors)
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        super().__init__(f"{status} {title}: {detail}")


def invalid(error: ValidationError) -> ProblemError:
    """Return the problem that names each field that is wrong."""
    details = error.errors(include_url=False, include_context=False, include_input=False)
    if details and details[0]["type"] == "json_invalid":
        return ProblemError(400, "Not JSON", details[0]["msg"])
    errors = [
        FieldProblem(
            field=".".join(map(str, detail["loc"])), message=detail["msg"].removeprefix("Value error, ")
        )
        for detail in details
    ]
    summary = "; ".join(f"{e.field}: {e.message}" if e.field else e.message for e in errors[:3])
    more = f"; and {len(errors) - 3} more" if len(errors) > 3 else ""
    return ProblemError(422, "Invalid input", summary + more, errors=errors)


def _document(problem: ProblemError) -> str:
    return Problem(
        title=problem.title,
        status=problem.status,
        detail=problem.detail,
        instance=request.path,
        request_id=g.get("request_id", ""),
        errors=problem.errors,
    ).model_dump_json()


def _is_inference() -> bool:
    return f"{request.path}/".startswith(f"{INFERENCE_PREFIX}/")


def _wants_page() -> bool:
    accepted = request.accept_mimetypes
    best = accepted.best_match(["application/json", CONTENT_TYPE, "text/html"])
    return best == "text/html" and accepted["text/html"] > accepted["application/json"]


def install(app: Flask) -> None:
    """Turn every error of the app into a problem document or an error page."""

    def answer(problem: ProblemError) -> Response:
        content: str | bytes
        if _is_inference():
            content, kind = orjson.dumps({"error": problem.detail}), "application/json"
        elif _wants_page():
            page = app.jinja_env.get_template("error.html")  # without context: it may be what failed
            request_id, root = g.get("request_id", ""), request.script_root
            content = page.render(problem=problem, request_id=request_id, root=root)
            kind = "text/html; charset=utf-8"
        else:
            content, kind = _document(problem), CONTENT_TYPE
        return Response(content, problem.status, problem.headers, content_type=kind)

    app.register_error_handler(ProblemError, answer)
    for error_class, status, title in (
        (VehicleNotFoundError, 404, "No such vehicle"),
        (NotDeletableError, 409, "This vehicle cannot be deleted"),
        (NotChangeableError, 409, "This vehicle cannot be changed"),
        (StaleVehicleError, 412, "Changed meanwhile"),
        (IdempotencyConflictError, 409, "Idempotency key already used"),
        (ModelNotFoundError, 404, "No such version"),
        (RegistryError, 503, "The registry cannot be read"),
        (BrokenModelError, 503, "The model cannot be read"),
        (RunNotFoundError, 404, "No such run"),
        (WorkflowError, 503, "Prefect cannot start the run"),
    ):
        app.register_error_handler(
            error_class,
            lambda error, status=status, title=title: answer(ProblemError(status, title, str(error))),
        )

    @app.errorhandler(SourceStoreError)
    def database_not_reachable(error: SourceStoreError) -> Response:
        logger.error("source database: %s", error)
        return answer(
            ProblemError(503, "Source database unavailable", "try again in a moment", Retry_After="5")
        )

    @app.errorhandler(CSRFError)
    def forged(error: CSRFError) -> Response:
        return answer(ProblemError(403, "Form expired", f"{error.description} Load the page again."))

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        if isinstance(error, InternalServerError):
            logger.error("request failed", exc_info=error.original_exception or error)
            error.description = "something went wrong here; the request id finds it in the log"
        if error.description == NotFound.description:
            error.description = "there is nothing at this address"
        problem = ProblemError(error.code or 500, error.name, error.description or error.name)
        problem.headers = {
            name: value
            for name, value in error.get_headers()
            if name.lower() in {"allow", "retry-after", "location", "www-authenticate"}
        }
        if error.code is not None and error.code < 400:
            return Response(status=error.code, headers=problem.headers)
        return answer(problem)
