"""What docs/api.md shows is what the app answers."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.factories import VEHICLE
from tests.webapp.conftest import PASSWORD
from tests.webapp.waiting import wait_until
from vroom_features.vehicle import COLUMNS, UI_VEHICLE_ID_START
from webapp.services import Services

pytestmark = pytest.mark.shared_app
DOCUMENT = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
EXAMPLE = re.compile(r"```console\n\$ (curl .+?)\n```\n(?:```json\n(.+?)\n```)?", re.DOTALL)


def ask(client: FlaskClient, command: str) -> Any:
    """Do what a curl command does."""
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
    """Return what a document has for fields, and of which kinds; null may stand for anything."""
    if isinstance(document, dict):
        known = {key: value for key, value in document.items() if key not in COLUMNS or key in DOCUMENT}
        keys = {key if not key.isdigit() else "N": shape(value) for key, value in known.items()}
        return dict(sorted(keys.items()))
    if isinstance(document, list):
        return [shape(item) for item in document]
    if isinstance(document, int | float):
        return "number"
    return type(document).__name__


def test_the_examples_give_what_the_document_shows(client: FlaskClient, services: Services) -> None:
    wait_until(lambda: services.heartbeat.is_redis_up and services.listener.is_subscribed)
    first = client.post("/vehicles", json=VEHICLE).json["vehicle_id"]
    assert first == UI_VEHICLE_ID_START
    examples = EXAMPLE.findall(DOCUMENT)
    assert len(examples) == DOCUMENT.count("$ curl") > 8
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


def test_every_path_of_the_document_exists_and_every_path_is_in_it(client: FlaskClient) -> None:
    paths = client.get("/openapi.json").json["paths"]
    named = {
        (path.partition("?")[0], method.lower())
        for method, path in re.findall(r"`(GET|POST|DELETE) (/[^`\s]+)`", DOCUMENT)
    }
    assert named <= {
        *((path, method) for path, operations in paths.items() for method in operations),
        ("/openapi.json", "get"),
    }
    told = DOCUMENT.replace("/1000000001", "/{vehicle_id}")
    assert [path for path in paths if path.replace("/versions/{version}", "") not in told] == []
