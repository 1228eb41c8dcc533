"""``/docs``: the API, described from its OpenAPI document; it needs no script."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, current_app, render_template

bp = Blueprint("docs", __name__)
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a document, or a parameter."""

    name: str
    kind: str
    is_required: bool
    description: str
    place: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """A status an operation may answer with."""

    status: str
    description: str
    media: str
    schema: str


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that can be asked for."""

    method: str
    path: str
    summary: str
    needs_operator: bool
    parameters: list[Field]
    body: str
    answers: list[Answer]


@bp.get("/docs")
def show() -> str:
    """Describe the API to people."""
    document: Document = current_app.api_doc  # type: ignore[attr-defined]  # flask-openapi3's app has it
    schemas = document["components"]["schemas"]
    return render_template(
        "docs/show.html",
        groups=groups(document),
        schemas={name: list(fields(schema)) for name, schema in sorted(schemas.items())},
        kinds={name: kind(schema) for name, schema in schemas.items()},
    )


def groups(document: Document) -> dict[str, list[Operation]]:
    """Return the operations by tag, in the order of the tags."""
    found: dict[str, list[Operation]] = {tag["name"]: [] for tag in document["tags"]}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            found[operation["tags"][0]].append(_operation(method, path, operation))
    return found


def _operation(method: str, path: str, operation: Document) -> Operation:
    body = operation.get("requestBody", {}).get("content", {})
    return Operation(
        method=method.upper(),
        path=path,
        summary=operation.get("summary", ""),
        needs_operator=[] not in [list(each) for each in operation.get("security", [{}])],
        parameters=[
            Field(
                parameter["name"],
                kind(parameter["schema"]),
                parameter.get("required", False),
                parameter.get("description") or parameter["schema"].get("description", ""),
                parameter["in"],
            )
            for parameter in operation.get("parameters", [])
        ],
        body=" or ".join(kind(media["schema"]) for media in body.values()),
        answers=[
            Answer(status, answer["description"], media, kind(content.get("schema", {})))
            for status, answer in sorted(operation["responses"].items())
            for media, content in (answer.get("content") or {"": {}}).items()
        ],
    )


def fields(schema: Document) -> Iterator[Field]:
    """Yield the fields of an object."""
    required = schema.get("required", [])
    for name, field in schema.get("properties", {}).items():
        yield Field(name, kind(field), name in required, field.get("description", ""))


def kind(schema: Document) -> str:
    """Say what a schema takes, in a few words.

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
        return f"list of {_items(schema)}" + (
            f", at most {schema['maxItems']}" if "maxItems" in schema else ""
        )
    if isinstance(values := schema.get("additionalProperties"), dict):
        return f"object of {kind(values)}"
    return " ".join([str(schema.get("type", "anything")), *_limits(schema)])


def _items(schema: Document) -> str:
    if "prefixItems" in schema:
        return ", ".join(kind(item) for item in schema["prefixItems"])
    return kind(schema.get("items", {}))


def _limits(schema: Document) -> Iterator[str]:
    words: dict[str, Any] = {
        "exclusiveMinimum": ">",
        "minimum": ">=",
        "exclusiveMaximum": "<",
        "maximum": "<=",
    }
    for name, sign in words.items():
        if name in schema:
            yield f"{sign} {schema[name]:g}" if abs(schema[name]) < 1e6 else f"{sign} {schema[name]}"
    if "maxLength" in schema:
        yield f"of at most {schema['maxLength']} characters"
