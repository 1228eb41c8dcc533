"""The API is described in full: by its OpenAPI document, by the page made from it, and by docs/api.md."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator

from tests.factories import VEHICLE
from tests.webapp.conftest import PASSWORD
from vroom_features.vehicle import COLUMNS, UI_VEHICLE_ID_START
from webapp.pages import BLUEPRINTS

pytestmark = pytest.mark.shared_app
PAGES = {blueprint.name for blueprint in BLUEPRINTS}
NOT_CALLED = {"static", "openapi"}
GUIDE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
EXAMPLE = re.compile(r"```console\n\$ (curl .+?)\n```\n(?:```json\n(.+?)\n```)?", re.DOTALL)


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


def ask(client: FlaskClient, command: str) -> Any:
    words = shlex.split(command.replace("$TOKEN", PASSWORD))[1:]
    arguments = [word.replace("$CAR", json.dumps(VEHICLE)) for word in words]
    method, body, headers, address = "", None, {}, ""
    while arguments:
        match arguments.pop(0):
            case "-s":
                pass
            case "-X":
                method = arguments.pop(0)
            case "-d":
                body = arguments.pop(0)
            case "-H":
                name, _, value = arguments.pop(0).partition(": ")
                headers[name] = value
            case given:
                address = given.removeprefix("$VROOM")
    return client.open(address, method=method or ("POST" if body else "GET"), data=body, headers=headers)


def shape(document: Any) -> Any:
    if isinstance(document, dict):
        known = {key: value for key, value in document.items() if key not in COLUMNS or key in GUIDE}
        keys = {key if not key.isdigit() else "N": shape(value) for key, value in known.items()}
        return dict(sorted(keys.items()))
    if isinstance(document, list):
        return [shape(item) for item in document]
    if isinstance(document, int | float):
        return "number"
    return type(document).__name__


def test_the_examples_give_what_the_guide_shows(client: FlaskClient) -> None:
    first = client.post("/vehicles", json=VEHICLE).json["vehicle_id"]
    assert first == UI_VEHICLE_ID_START
    examples = EXAMPLE.findall(GUIDE)
    assert len(examples) == GUIDE.count("$ curl") > 8
    for command, shown in examples:
        response = ask(client, command)
        if not shown:
            assert (response.status_code, response.data) == (204, b""), command
            continue
        expected = json.loads(shown)
        if "errors" in expected:
            assert response.status_code == expected["status"]
            assert response.json == expected
        else:
            assert response.status_code < 300, response.text
            assert shape(response.json) == shape(expected), command


def test_every_path_of_the_guide_exists_and_every_path_is_in_it(client: FlaskClient) -> None:
    paths = client.get("/openapi.json").json["paths"]
    named = {
        (path.partition("?")[0], method.lower())
        for method, path in re.findall(r"`(GET|POST|DELETE) (/[^`\s]+)`", GUIDE)
    }
    assert named <= {
        *((path, method) for path, operations in paths.items() for method in operations),
        ("/openapi.json", "get"),
    }
    guide = GUIDE.replace("/1000000001", "/{vehicle_id}")
    assert [path for path in paths if path.replace("/versions/{version}", "") not in guide] == []
