"""``/docs``: the API, described from its OpenAPI document; it needs no script."""

from collections.abc import Iterator
from typing import Any

from flask import Blueprint, current_app, render_template

Document = dict[str, Any]
LIMITS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
bp = Blueprint("docs", __name__)


@bp.get("/docs")
def show() -> str:
    document: Document = current_app.api_doc  # type: ignore[attr-defined]  # flask-openapi3's app has it
    operations: dict[str, list[tuple[str, str, Document]]] = {tag["name"]: [] for tag in document["tags"]}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            operations[operation["tags"][0]].append((method, path, operation))
    schemas = sorted(document["components"]["schemas"].items())
    return render_template("docs/show.html", operations=operations, schemas=dict(schemas), kind=kind)


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
