"""The OpenAPI document: what flask-openapi3 gathers from the views, and what it cannot know."""

from typing import Any

import orjson
from flask import Response, request
from flask_openapi3 import Info, OpenAPI
from flask_openapi3.types import SecuritySchemesDict

from webapp.api.tensors import InferenceRequest
from webapp.problems import CONTENT_TYPE as PROBLEM_TYPE
from webapp.problems import Problem

Document = dict[str, Any]

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


class VroomOpenAPI(OpenAPI):
    """Flask with an OpenAPI document that tells all there is to call."""

    def __init__(self, import_name: str) -> None:
        super().__init__(
            import_name,
            info=Info(title="Vroom Forecast", version="1"),
            security_schemes=SECURITY_SCHEMES,
            validation_error_model=Problem,
            doc_ui=False,
            static_folder=None,  # webapp.rendering.assets serves them
        )
        self.add_url_rule("/openapi.json", "openapi", self.openapi_view)

    def generate_spec_json(self) -> None:
        """Gather the document, once."""
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
        """Describe the API."""
        response = Response(orjson.dumps(self.api_doc), content_type="application/json")
        response.add_etag()
        response.make_conditional(request)
        return response


def _name_problems(operation: Document) -> None:
    """Give problem documents their content type; what takes no input refuses none."""
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
    """Describe the paths whose views speak another protocol than ours."""

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
        "/v2/health/live": {"get": operation("v2_live", "Tell that this process answers.")},
        "/v2/health/ready": {"get": operation("v2_ready", "Tell whether forecasts can be asked for.")},
        "/v2/repository/index": {"post": operation("v2_index", "List the models.", responses=index)},
        **{
            path: {verb: operation(f"v2_{name}{'_version' if found else ''}", summary, MODEL, *found, **more)}
            for version, found in (("", ()), ("/versions/{version}", (VERSION,)))
            for path, verb, name, summary, more in (
                (f"/v2/models/{{name}}{version}", "get", "model", "Describe the model that serves.", {}),
                (f"/v2/models/{{name}}{version}/ready", "get", "model_ready", "Tell whether it serves.", {}),
                (f"/v2/models/{{name}}{version}/infer", "post", "infer", infer, {"requestBody": body}),
            )
        },
    }
