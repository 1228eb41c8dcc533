"""``/docs``: the API, described from its OpenAPI document; it needs no script."""

from collections.abc import Iterator
from typing import Any

import orjson
from flask import Blueprint, current_app, render_template

from webapp.services import services

Document = dict[str, Any]
LIMITS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
PATHS = {
    "vehicle_id": "1",
    "version": "1",
    "run_id": "00000000-0000-0000-0000-000000000000",
}
"""Examples of what stands in a path, beside the model's name."""
bp = Blueprint("docs", __name__)


@bp.get("/docs")
def show() -> str:
    document: Document = current_app.api_doc  # type: ignore[attr-defined]  # flask-openapi3's app has it
    operations: dict[str, list[tuple[str, str, Document]]] = {tag["name"]: [] for tag in document["tags"]}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            operations[operation["tags"][0]].append((method, path, operation))
    schemas = dict(sorted(document["components"]["schemas"].items()))
    examples = PATHS | {"name": services().settings.model_name}

    def curl_of(method: str, path: str, operation: Document) -> str:
        return curl(method, path.format_map(examples), operation, schemas)

    return render_template("docs/show.html", operations=operations, schemas=schemas, kind=kind, curl=curl_of)


def curl(method: str, path: str, operation: Document, schemas: Document) -> str:
    """Return the command that calls an operation with an example: of a vehicle, or of its first one."""
    words = ["curl", *(["-X", method.upper()] if method not in {"get", "post"} else [])]
    if operation.get("security") and {} not in operation["security"]:
        words.append('-H "Authorization: Bearer $TOKEN"')
    for each in operation.get("parameters", []):
        if each["in"] == "header" and "example" in each:
            words.append(f"-H '{each['name']}: {each['example']}'")
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    example = _example(body, schemas) if body else None
    if example is not None:
        words += ["-H 'Content-Type: application/json'", f"-d '{orjson.dumps(example).decode()}'"]
    elif method == "post":
        words += ["-X", "POST"]
    return " ".join([*words, f'"$VROOM{path}"'])


def _example(schema: Document, schemas: Document) -> Any:
    """Return the example of a schema, or one made of its parts; None where there is none."""
    if "$ref" in schema:
        return _example(schemas[kind(schema)], schemas)
    if "example" in schema:
        return schema["example"]
    if schema.get("type") == "array":
        item = _example(schema["items"], schemas)
        return None if item is None else [item]
    return None


def kind(schema: Document) -> str:
    """Return what a schema takes, in a few words.

    Examples
    --------
    >>> kind({"anyOf": [{"type": "integer", "exclusiveMinimum": 0}, {"type": "null"}]})
    'integer > 0 or null'
    >>> kind({"type": "array", "items": {"$ref": "#/components/schemas/Vehicle"}, "maxItems": 3})
    'list of Vehicle, at most 3'
    """
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if options := schema.get("anyOf"):
        return " or ".join(kind(option) for option in options)
    if values := schema.get("enum"):
        return " | ".join(map(str, values))
    if "const" in schema:
        return str(schema["const"])
    if schema.get("type") == "array":
        items = ", ".join(kind(item) for item in schema.get("prefixItems") or [schema.get("items", {})])
        return f"list of {items}" + (f", at most {schema['maxItems']}" if "maxItems" in schema else "")
    if isinstance(values := schema.get("additionalProperties"), dict):
        return f"object of {kind(values)}"
    return " ".join([str(schema.get("type", "anything")), *_limits(schema)])


def _limits(schema: Document) -> Iterator[str]:
    for name, sign in LIMITS.items():
        if name in schema:
            yield f"{sign} {schema[name]:g}" if abs(schema[name]) < 1e6 else f"{sign} {schema[name]}"
    if "maxLength" in schema:
        yield f"of at most {schema['maxLength']} characters"
