"""How the API validates its inputs and describes itself: both from the types of a view's parameters.

A view names what it takes by parameter: ``path``, ``query``, ``header``, ``body``, each a pydantic model.
JSON bodies are validated in strict mode (``"45"`` and ``true`` are no numbers), by pydantic's own reader.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import orjson
from flask import Response, request
from flask_openapi3 import APIBlueprint, Info, OpenAPI
from flask_openapi3.types import SecuritySchemesDict
from pydantic import BaseModel, ValidationError

from webapp.api.inference import InferenceRequest
from webapp.problems import CONTENT_TYPE as PROBLEM_TYPE
from webapp.problems import Problem, ProblemError, invalid
from webapp.security.owners import require_owner
from webapp.security.sign_in import require_operator, require_saver

Document = dict[str, Any]
Model = type[BaseModel]
Guard = Callable[[], object]
P = ParamSpec("P")
R = TypeVar("R")

REF = "#/components/schemas/{model}"
PROBLEM_REF = {"$ref": REF.format(model="Problem")}
OPERATOR: list[dict[str, list[Any]]] = [{"operator": []}]
SECURITY_SCHEMES: SecuritySchemesDict = {
    "operator": {
        "type": "http",
        "scheme": "bearer",
        "description": "the operator's password as a bearer token",
    }
}
MODEL = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
VERSION = {"name": "version", "in": "path", "required": True, "schema": {"type": "string"}}
INFERENCE_TAG = {
    "name": "inference protocol",
    "description": 'Open Inference Protocol v2 (REST); errors are {"error": text}, as its clients expect',
}


def guarded_by(guard: Guard) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that calls a guard before the view; the guard raises to refuse."""

    def decorate(view: Callable[P, R]) -> Callable[P, R]:
        @wraps(view)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            guard()
            return view(*args, **kwargs)

        guarded.guard = guard  # type: ignore[attr-defined]  # for ValidatedBlueprint, which calls it earlier
        return guarded

    return decorate


operator_required = guarded_by(require_operator)
"""Refuses everyone but the operator, and forged requests in the operator's name."""
owner_required = guarded_by(lambda: require_owner((request.view_args or {})["vehicle_id"]))
"""Refuses everyone but the owner of the path's vehicle and the operator."""
saver_required = guarded_by(require_saver)
"""Refuses whoever may not save."""


class ValidatedBlueprint(APIBlueprint):
    """An :class:`~flask_openapi3.APIBlueprint` with strict validation and problem documents."""

    @staticmethod
    def create_view_func(  # type: ignore[no-untyped-def,override]  # a method without types
        func, header, _cookie, path, query, _form, body, *_args, **_kwargs
    ) -> Callable[..., Any]:
        """Return the view with its inputs checked."""
        inputs: dict[str, Model] = {
            name: model for name, model in (("path", path), ("query", query), ("header", header)) if model
        }
        guard: Guard | None = getattr(func, "guard", None)
        work = func.__wrapped__ if guard else func

        @wraps(func)
        def view(**kwargs: Any) -> Response:
            if guard:  # before the validation: its errors are for those who may call the view
                guard()
            checked: dict[str, BaseModel] = {}
            try:
                for name, model in inputs.items():
                    checked[name] = model.model_validate(_given(name, kwargs))
            except ValidationError as exc:
                raise invalid(exc) from exc
            if body is not None:
                checked["body"] = read_json(body)
            answer = work(**checked)
            if isinstance(answer, Response):
                return answer
            content = answer.model_dump_json() if isinstance(answer, BaseModel) else orjson.dumps(answer)
            return Response(content, content_type="application/json")

        return view


def _given(name: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    if name == "path":
        return kwargs
    if name == "query":
        return request.args.to_dict()
    return dict(request.headers.items())


def read_json(model: Model) -> BaseModel:
    """Return this request's JSON body as the model.

    Raises
    ------
    ProblemError
        415 for another content type, 400 for what is no JSON, 422 for what the model refuses.
    """
    if not request.is_json:
        raise ProblemError(
            415, "Not JSON", f"send Content-Type: application/json, not {request.mimetype or 'none'}"
        )
    try:
        return model.model_validate_json(request.get_data(cache=False), strict=True)
    except ValidationError as exc:
        raise invalid(exc) from exc


def unless_known(document: Callable[[], BaseModel], revision: str) -> Response:
    """Return a document, made only if the client does not hold the one of this revision."""
    response = Response(content_type="application/json")
    response.set_etag(revision, weak=True)
    response.make_conditional(request)
    if response.status_code == 200:
        response.set_data(document().model_dump_json())
    return response


class VroomOpenAPI(OpenAPI):
    """Flask with an OpenAPI document of every path that is no page."""

    def __init__(self, import_name: str) -> None:
        super().__init__(
            import_name,
            info=Info(title="Vroom Forecast", version="1"),
            security_schemes=SECURITY_SCHEMES,
            validation_error_model=Problem,
            doc_ui=False,
            static_folder=None,  # webapp.rendering.templates serves them
        )
        self.add_url_rule("/openapi.json", "openapi", self.openapi_view)

    def generate_spec_json(self) -> None:
        """Make the document, once."""
        super().generate_spec_json()  # type: ignore[no-untyped-call]  # of flask-openapi3
        document: Document = self.spec_json
        for operations in document["paths"].values():
            for operation in operations.values():
                _name_problems(operation)
        document["paths"] |= _other_paths()
        document["tags"].append(INFERENCE_TAG)
        schema = InferenceRequest.model_json_schema(ref_template=REF)
        document["components"]["schemas"] |= schema.pop("$defs", {}) | {"InferenceRequest": schema}

    def openapi_view(self) -> Response:
        """Describe the API, with the prefix that a proxy gave it."""
        document = self.api_doc | {"servers": [{"url": request.script_root or "/"}]}
        response = Response(orjson.dumps(document), content_type="application/json")
        response.add_etag()
        response.make_conditional(request)
        return response


def _name_problems(operation: Document) -> None:
    """Set the content type of problem documents; an operation without input never answers 422."""
    responses = operation["responses"]
    if not operation.get("parameters") and "requestBody" not in operation:
        responses.pop("422", None)
    for response in responses.values():
        content = response.get("content", {})
        schema = content.get("application/json", {}).get("schema", {})
        if PROBLEM_REF in (schema, schema.get("items")):
            content.clear()
            content[PROBLEM_TYPE] = {"schema": PROBLEM_REF}


def _answers(description: str, *, media: str = "application/json", kind: str = "object") -> Document:
    return {"200": {"description": description, "content": {media: {"schema": {"type": kind}}}}}


def _other_paths() -> Document:
    """Return the paths whose views flask-openapi3 does not know: metrics, and the inference protocol."""

    def operation(name: str, summary: str, *parameters: Document, **more: Any) -> Document:
        tags = [INFERENCE_TAG["name"]]
        found = {"operationId": name, "summary": summary, "tags": tags, "parameters": list(parameters)}
        return found | {"responses": _answers("OK")} | more

    body = {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": REF.format(model="InferenceRequest")}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
    infer = "Forecast up to 1,000 vehicles: one tensor a column, in JSON or in the binary extension."
    index = _answers("OK", kind="array")
    return {
        "/metrics": {
            "get": {
                "operationId": "metrics",
                "summary": "Every metric of every worker, for Prometheus.",
                "tags": ["state"],
                "responses": _answers("text exposition", media="text/plain", kind="string"),
            }
        },
        "/v2": {"get": operation("v2_server", "Describe this server.")},
        "/v2/health/live": {"get": operation("v2_live", "Answer while this process runs.")},
        "/v2/health/ready": {"get": operation("v2_ready", "Report whether there is a model.")},
        "/v2/repository/index": {"post": operation("v2_index", "List the models.", responses=index)},
        **{
            path: {verb: operation(f"v2_{name}{'_version' if found else ''}", summary, MODEL, *found, **more)}
            for version, found in (("", ()), ("/versions/{version}", (VERSION,)))
            for path, verb, name, summary, more in (
                (f"/v2/models/{{name}}{version}", "get", "model", "Describe the model that serves.", {}),
                (
                    f"/v2/models/{{name}}{version}/ready",
                    "get",
                    "model_ready",
                    "Report whether it serves.",
                    {},
                ),
                (f"/v2/models/{{name}}{version}/infer", "post", "infer", infer, {"requestBody": body}),
            )
        },
    }
