"""How the API validates its inputs and describes itself: both from the types of a view's parameters.

A view names what it takes by parameter: ``path``, ``query``, ``header``, ``body``, each a pydantic model.
JSON bodies are validated in strict mode (``"45"`` and ``true`` are no numbers), by pydantic's own reader.
"""

from collections.abc import Callable
from functools import wraps
from inspect import getdoc
from typing import Any, TypeVar

import orjson
from flask import Response, request
from flask_openapi3 import APIBlueprint, Info, OpenAPI
from flask_openapi3.types import SecuritySchemesDict
from flask_openapi3.utils import parse_rule
from pydantic import BaseModel, ValidationError

from webapp.api import inference
from webapp.api.inference import InferenceRequest, inference_api
from webapp.problems import CONTENT_TYPE as PROBLEM_TYPE
from webapp.problems import Problem, ProblemError, invalid
from webapp.security.owners import require_owner
from webapp.security.sign_in import require_operator, require_saver

Document = dict[str, Any]
Model = type[BaseModel]
Guard = Callable[[], object]
View = TypeVar("View", bound=Callable[..., object])

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
INFERENCE_TAG = {
    "name": "inference protocol",
    "description": 'Open Inference Protocol v2 (REST); errors are {"error": text}, as its clients expect',
}
INFERENCE_BODY = {
    "required": True,
    "content": {
        "application/json": {"schema": {"$ref": REF.format(model="InferenceRequest")}},
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    },
}


def guarded_by(guard: Guard) -> Callable[[View], View]:
    """Return a decorator for views of a `ValidatedBlueprint`: the guard raises to refuse the request."""

    def decorate(view: View) -> View:
        view.guard = guard  # type: ignore[attr-defined]
        return view

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
        guard: Guard | None = getattr(func, "guard", None)

        @wraps(func)
        def view(**kwargs: Any) -> Response:
            if guard:  # before the validation: its errors are for those who may call the view
                guard()
            checked: dict[str, BaseModel] = {}
            try:
                if path:
                    checked["path"] = path.model_validate(kwargs)
                if query:
                    checked["query"] = query.model_validate(request.args.to_dict())
                if header:
                    checked["header"] = header.model_validate(dict(request.headers))
                if body:
                    checked["body"] = _read_json(body)
            except ValidationError as exc:
                raise invalid(exc) from exc
            answer = func(**checked)
            if isinstance(answer, Response):
                return answer
            content = answer.model_dump_json() if isinstance(answer, BaseModel) else orjson.dumps(answer)
            return Response(content, content_type="application/json")

        return view


def _read_json(model: Model) -> BaseModel:
    if not request.is_json:
        problem = f"send Content-Type: application/json, not {request.mimetype or 'none'}"
        raise ProblemError(415, "Not JSON", problem)
    return model.model_validate_json(request.get_data(cache=False), strict=True)


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
        document["paths"] |= self._inference_paths()
        document["tags"].append(INFERENCE_TAG)
        schema = InferenceRequest.model_json_schema(ref_template=REF)
        document["components"]["schemas"] |= schema.pop("$defs", {}) | {"InferenceRequest": schema}

    def _inference_paths(self) -> Document:
        """Return the paths of the inference protocol, which has no documents for flask-openapi3 to read."""
        paths: Document = {}
        for rule in self.url_map.iter_rules():
            if not rule.endpoint.startswith(f"{inference_api.name}."):
                continue
            view, arguments = self.view_functions[rule.endpoint], rule.arguments
            schema = {"type": "array" if view is inference.index else "object"}
            operation: Document = {
                "operationId": f"v2_{view.__name__}{'_version' if 'version' in arguments else ''}",
                "summary": getdoc(view),
                "tags": [INFERENCE_TAG["name"]],
                "parameters": [
                    {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                    for name in sorted(arguments)
                ],
                "responses": {
                    "200": {"description": "OK", "content": {"application/json": {"schema": schema}}}
                },
            }
            if view is inference.infer:
                operation["requestBody"] = INFERENCE_BODY
            paths[parse_rule(rule.rule)] = {"get" if "GET" in (rule.methods or ()) else "post": operation}
        return paths

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
