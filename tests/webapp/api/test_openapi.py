"""The API is described in full: by its OpenAPI document, by the page made from it, and by docs/api.md."""

import json
import re
import shlex
from argparse import ArgumentParser
from contextlib import suppress
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis.errors import Unsatisfiable
from jsonschema import Draft202012Validator
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from tests.factories import VEHICLE
from tests.promises.system import ROOT
from tests.vroom_features.files import write_csvs
from tests.webapp.conftest import OPERATOR, PASSWORD, Visitor
from vroom_features.ingest.seed import seed
from vroom_features.settings import Settings
from vroom_features.vehicle import COLUMNS, UI_VEHICLE_ID_START
from webapp.pages import BLUEPRINTS
from webapp.services import Services

PAGES = {blueprint.name for blueprint in BLUEPRINTS}
NOT_CALLED = {"static", "openapi"}
GUIDE = (ROOT / "docs" / "api.md").read_text()
EXAMPLE = re.compile(r"```console\n\$ (curl .+?)\n```\n(?:```json\n(.+?)\n```)?", re.DOTALL)
CURL = ArgumentParser()
CURL.add_argument("-s", action="store_true")
CURL.add_argument("-X", dest="method")
CURL.add_argument("-d", dest="data")
CURL.add_argument("-H", dest="headers", action="append", default=[])
CURL.add_argument("path")
CHECKS = [content_type_conformance, response_schema_conformance]
few = hypothesis_settings(
    max_examples=3,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def document(client: Visitor) -> dict[str, Any]:
    answer = client.get("/openapi.json")
    known = {"If-None-Match": answer.headers["ETag"]}
    assert client.get("/openapi.json", headers=known).status_code == 304
    found: dict[str, Any] = answer.json
    return found


def operations_of(document: dict[str, Any]) -> dict[tuple[str, str], Any]:
    """Return what is described, by path and method."""
    found = document["paths"].items()
    return {(path, method): described for path, methods in found for method, described in methods.items()}


def test_every_route_that_is_no_page_is_described(app: Flask, document: dict[str, Any]) -> None:
    called = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.endpoint not in NOT_CALLED
        and (rule.endpoint == "metrics" or rule.endpoint.rpartition(".")[0] not in {*PAGES, ""})
    }
    assert called == operations_of(document).keys()
    assert ("/predict", "post") in called


def test_the_document_is_valid_and_says_what_is_refused_and_how(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    references = set(re.findall(r"#/components/schemas/(\w+)", str(document)))
    assert references <= set(document["components"]["schemas"])
    operations = operations_of(document)
    assert len({operation["operationId"] for operation in operations.values()}) == len(operations)
    for path, operation in operations.items():
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert list(response["content"]) == ["application/problem+json"], (path, status)
        refuses = "401" in operation["responses"]
        assert refuses == ({"operator": []} in operation.get("security", [])), path


def test_the_page_names_every_operation_and_document(client: Visitor, document: dict[str, Any]) -> None:
    page = client.get("/docs").text
    shown = re.findall(r'<span class="mono"><b>(\w+)</b> ([^<]+)</span>', page)
    assert sorted((path, method.lower()) for method, path in shown) == sorted(operations_of(document))
    targets = set(re.findall(r'id="([^"]+)"', page))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= targets
    assert set(document["components"]["schemas"]) <= targets


def ask(client: Visitor, command: str) -> Any:
    """Send what a curl command sends."""
    asked = CURL.parse_args(shlex.split(command.replace("$TOKEN", PASSWORD).replace("$VROOM", ""))[1:])
    body = asked.data and asked.data.replace("$CAR", json.dumps(VEHICLE))
    headers = [tuple(header.split(": ", 1)) for header in asked.headers]
    return client.open(
        asked.path, method=asked.method or ("POST" if body else "GET"), data=body, headers=headers
    )


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


def test_the_examples_give_what_the_guide_shows(client: Visitor, services: Services, tmp_path: Path) -> None:
    seed(services.source, write_csvs(tmp_path))
    first = client.post("/vehicles", json=VEHICLE).json["vehicle_id"]
    assert first == UI_VEHICLE_ID_START
    examples = EXAMPLE.findall(GUIDE)
    assert len(examples) == GUIDE.count("$ curl") > 8
    etag = ""
    for command, shown in examples:
        response = ask(client, command.replace("$ETAG", etag.replace('"', '\\"')))
        etag = response.headers.get("ETag", etag)
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


def test_every_path_of_the_guide_exists_and_every_path_is_in_it(document: dict[str, Any]) -> None:
    named = {
        (path.partition("?")[0], method.lower())
        for method, path in re.findall(r"`(GET|POST|PUT|DELETE) (/[^`\s]+)`", GUIDE)
    }
    assert named <= {*operations_of(document), ("/openapi.json", "get")}
    guide = GUIDE.replace("/1000000001", "/{vehicle_id}")
    assert [p for p in document["paths"] if p.replace("/versions/{version}", "") not in guide] == []


@pytest.mark.filterwarnings(  # the app's own threads do: tenacity and redis spread their retries by it
    "ignore:Do not use the `random` module inside strategies"
)
@pytest.mark.parametrize(("mode", "least"), [(GenerationMode.POSITIVE, 20), (GenerationMode.NEGATIVE, 10)])
def test_no_request_breaks_an_operation_and_answers_are_as_described(
    app: Flask, settings: Settings, mode: GenerationMode, least: int
) -> None:
    failures: dict[tuple[str, int, str], str] = {}
    answered: set[str] = set()

    def answers(case: Case) -> None:
        if "name" in case.path_parameters:
            case.path_parameters["name"] = settings.model_name
        for headers in (OPERATOR, {}):
            response = case.call(headers={"Accept-Encoding": "identity"} | headers)
            answered.add(case.operation.label)
            checks = list(CHECKS)
            if response.status_code != 503 or "503" not in case.operation.responses.status_codes:
                checks.append(not_a_server_error)  # Prefect is not reachable here, which is a 503
            try:
                case.validate_response(response, checks=checks)
            except* AssertionError as exc:
                key = (case.operation.label, response.status_code, type(exc.exceptions[0]).__name__)
                failures.setdefault(key, str(exc.exceptions[0])[:600])

    for found in schemathesis.openapi.from_wsgi("/openapi.json", app).get_all_operations():
        with suppress(Unsatisfiable):  # nothing that it takes could be wrong
            few(given(found.ok().as_strategy(generation_mode=mode))(answers))()
    assert failures == {}
    assert len(answered) > least


def test_the_commands_of_the_page_are_answered(client: Visitor, services: Services, tmp_path: Path) -> None:
    seed(services.source, write_csvs(tmp_path))
    commands = re.findall(r"<pre[^>]*><code>(curl .+?)</code></pre>", client.get("/docs").text)
    codes = {command: ask(client, command).status_code for command in map(unescape, commands)}
    # Prefect and such a run are not there, and a car of a CSV is not deleted.
    unexpected = {
        command: code for command, code in codes.items() if code not in {200, 201, 307, 404, 409, 503}
    }
    assert not unexpected
    assert all(code == 200 for command, code in codes.items() if "/predict" in command or "/infer" in command)
