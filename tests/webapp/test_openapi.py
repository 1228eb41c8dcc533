"""The OpenAPI document tells all there is to call, and the page made from it names all of it."""

import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator

from webapp.pages import BLUEPRINTS

PAGES = {blueprint.name for blueprint in BLUEPRINTS}
NOT_CALLED = {"static", "openapi"}


pytestmark = pytest.mark.shared_app


@pytest.fixture
def document(client: FlaskClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").json
    return found


def test_every_route_that_is_no_page_is_described(app: Flask, document: dict[str, Any]) -> None:
    called = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.endpoint not in NOT_CALLED
        and (rule.endpoint == "metrics" or rule.endpoint.rpartition(".")[0] not in {*PAGES, ""})
    }
    described = {(path, method) for path, operations in document["paths"].items() for method in operations}
    assert called == described
    assert ("/predict", "post") in described


def test_schemas_are_json_schemas_and_references_lead_somewhere(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    references = set(re.findall(r"#/components/schemas/(\w+)", str(document)))
    assert references <= set(document["components"]["schemas"])
    names = [op["operationId"] for path in document["paths"].values() for op in path.values()]
    assert len(names) == len(set(names))


def test_refusals_are_problem_documents_and_operations_name_the_operator(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    assert list(response["content"]) == ["application/problem+json"], (path, status)
            refuses = "401" in operation["responses"]
            assert refuses == ({"operator": []} in operation.get("security", [])), path


def test_the_page_names_every_operation_and_every_document(
    client: FlaskClient, document: dict[str, Any]
) -> None:
    page = client.get("/docs").text
    shown = re.findall(r'<span class="mono"><b>(\w+)</b> ([^<]+)</span>', page)
    described = [
        (method.upper(), path) for path, operations in document["paths"].items() for method in operations
    ]
    assert sorted(shown) == sorted(described)
    targets = set(re.findall(r'id="([^"]+)"', page))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= targets
    assert set(document["components"]["schemas"]) <= targets


def test_the_document_is_sent_again_only_when_it_changed(client: FlaskClient) -> None:
    etag = client.get("/openapi.json").headers["ETag"]
    assert client.get("/openapi.json", headers={"If-None-Match": etag}).status_code == 304
