"""What attackers type: each payload in every place that takes text, and every number at the edge."""

import json
import logging
import re
from typing import Literal
from urllib.parse import quote

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from werkzeug.datastructures import MultiDict

from tests.factories import VEHICLE
from tests.webapp.conftest import PASSWORD, csrf_token
from tests.webapp.records import add_record
from tests.webapp.registry import Models
from vroom_features.messages import MessageError
from vroom_features.settings import Settings
from vroom_features.vehicle import COLUMNS
from webapp.events import EVENTS, encode
from webapp.observability import configure_logs
from webapp.services import Services

pytestmark = pytest.mark.shared_app

PAYLOADS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' OR 1=1 --",
    "1; DROP TABLE vehicles; --",
    "../../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "/etc/passwd",
    "{{7*7}}{% raw %}",
    "x\r\nSet-Cookie: a=b",
    "x\n2026-01-01 [info] operator signed in",
    "\x1b[31mred\x1b[0m",
    "\x00",
    "\ud7ff\u202e",
    "9" * 400,
    "A" * 5_000,
)
LITERALS = (
    *["2147483648", "-2147483649", "9007199254740993", "9223372036854775807", "9223372036854775808"],
    *["-9223372036854775808", "18446744073709551616", "3.4028235e38", "3.5e38", "1e-46", "5e-324", "-0.0"],
    *["1.7976931348623157e308", "-1.7976931348623157e308", "1e309", "-1e309", "NaN", "Infinity", "-Infinity"],
    *["true", '"1"', "null", "[]", "{}", "0x10", "1_0"],
    "1" + "0" * 400,
)
"""Numbers at the edges of integers and floats, and what is no number, as JSON."""
bounded = hypothesis_settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def as_header(payload: str) -> str:
    return re.sub("[\r\n\0]", "", payload.encode("ascii", "replace").decode())


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: repr(payload[:20]))
def test_no_payload_is_executed_believed_or_reflected(
    client: FlaskClient, services: Services, payload: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    before = services.source.count_vehicles()
    token = csrf_token(client)
    answers = [
        *(
            client.get("/vehicles", query_string={name: payload})
            for name in ("search", "sort", "kind", "page")
        ),
        *(client.get("/fleet", query_string={name: payload}) for name in ("q", "sort", "order", "page")),
        client.get("/fleet.csv", query_string={"q": payload, "sort": payload}),
        client.get("/", query_string={"vehicle_id": payload}),
        client.get("/arrivals", query_string={"saved": payload}),
        client.get("/sign-in", query_string={"next": payload}),
        client.get("/health", headers={"X-Request-ID": as_header(payload)[:200]}),
        client.get("/static/" + payload.replace("\0", "")),
        client.get("/runs/" + payload.replace("\0", "").replace("/", "%2F")),
        client.get("/v2/models/" + payload.replace("\0", "").replace("/", "%2F")),
        client.post("/predict", json=VEHICLE | {payload: payload}),
        *(client.post("/predict", json=VEHICLE | {name: payload}) for name in VEHICLE),
        client.post("/predict/id", json={"vehicle_id": payload}),
        client.post("/vehicles", json=VEHICLE | {"description": payload}),
        client.post("/", data={"csrf_token": token, "action": "save", **dict.fromkeys(VEHICLE, payload)}),
        client.post("/details", data={"csrf_token": token, **dict.fromkeys(VEHICLE, payload)}),
        client.post("/sign-in", data={"csrf_token": token, "password": payload, "next": payload}),
    ]
    for answer in answers:
        where = (answer.request.path, answer.status_code)
        assert answer.status_code < 500, (where, answer.text)
        assert "Set-Cookie: a=b" not in str(answer.headers), where
        assert "root:" not in answer.text, where
        if answer.mimetype == "text/html":
            assert "<script>alert" not in answer.text, where
            assert "<img src=x" not in answer.text, where
        assert "Traceback" not in answer.text, where
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert services.source.count_vehicles() == before


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: repr(payload[:20]))
def test_a_save_by_a_hostile_key_is_made_once_or_refused(
    client: FlaskClient, services: Services, payload: str
) -> None:
    key = as_header(payload)
    before = services.source.count_vehicles().new_arrivals
    answers = [
        client.post("/vehicles", json=VEHICLE, headers={"Idempotency-Key": key or " "}) for _ in range(2)
    ]
    codes = {answer.status_code for answer in answers}
    assert codes in ({201}, {422}), answers[0].text
    assert len({answer.json.get("vehicle_id") for answer in answers}) == 1
    made = services.source.count_vehicles().new_arrivals - before
    assert made == (1 if codes == {201} else 0)
    form = {"csrf_token": csrf_token(client), "action": "save", "form_key": payload, **VEHICLE}
    pages = [client.post("/", data=form) for _ in range(2)]
    assert {page.status_code for page in pages} <= {302, 303, 422}, pages[0].text
    assert services.source.count_vehicles().new_arrivals - before - made in {0, 1}
    for page in pages:
        assert "<script>alert" not in page.text
        assert "Set-Cookie: a=b" not in str(page.headers)


def test_a_hostile_reason_is_text_on_every_page(
    client: FlaskClient, services: Services, models: Models, champion: int
) -> None:
    for payload in PAYLOADS[:8]:
        models.client.set_model_version_tag(models.name, str(champion), "decision", payload)
        add_record(services, version=champion, reason=payload, forced=True)
    for path in ("/models", "/", "/stores", "/model"):
        answer = client.get(path)
        assert answer.status_code == 200, path
        if answer.mimetype == "text/html":
            assert "<script>alert" not in answer.text, path
            assert "<img src=x" not in answer.text, path
    page = client.get("/models").text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "{{7*7}}" in page


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_path_forges_no_log_line_and_sends_a_terminal_no_code(
    client: FlaskClient,
    log_format: Literal["json", "console"],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    configure_logs(Settings(_env_file=None, log_format=log_format))
    for character in ("\n", "\r", "\x1b[2J", "\x9b2J", "\u2028", "\u202e"):
        client.get(f"/x{quote(character)}forged")
        (line,) = capsys.readouterr().err.splitlines()
        assert character not in line
        assert "/x\\" in line
        assert "forged" in line


def is_valid(field: str, literal: str) -> bool:
    try:
        value = json.loads(literal)
    except ValueError:
        return False
    column = COLUMNS[field]
    kinds = {int} if column.is_whole else {int, float}
    if type(value) not in kinds or (column.is_low_excluded and value == column.low):
        return False
    return bool(column.low <= value <= column.high)


@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/vehicles"])
def test_a_number_at_an_edge_is_refused_by_the_name_of_its_field(client: FlaskClient, path: str) -> None:
    for field in VEHICLE:
        for literal in LITERALS:
            body = json.dumps(VEHICLE | {field: "EDGE"}).replace('"EDGE"', literal)
            wrapped = f"[{body}]" if path.endswith("batch") else body
            answer = client.post(path, data=wrapped, content_type="application/json")
            case = (field, literal[:40], answer.status_code, answer.text[:300])
            if is_valid(field, literal):
                assert answer.status_code in {200, 201}, case
            elif answer.status_code == 400:
                assert answer.json["title"] == "Not JSON", case
            else:
                assert answer.status_code == 422, case
                assert field in answer.json["errors"][0]["field"], case


@given(
    form=st.dictionaries(
        st.sampled_from([*VEHICLE, "action", "form_key", "csrf_token"]) | st.text(max_size=5),
        st.text(max_size=40) | st.integers().map(str) | st.floats().map(str),
        max_size=9,
    )
)
@bounded
def test_no_form_breaks_the_page(app: Flask, form: dict[str, str]) -> None:
    client = app.test_client()
    token = csrf_token(client)
    for path in ("/", "/details"):
        answer = client.post(path, data=MultiDict(form | {"csrf_token": token, "action": "forecast"}))
        assert answer.status_code in {200, 422}, answer.text


@given(st.sampled_from(sorted(EVENTS)), st.binary(max_size=200) | st.text(max_size=80).map(str.encode))
@hypothesis_settings(max_examples=100, deadline=None)
def test_no_message_breaks_its_reader(channel: str, payload: bytes) -> None:
    try:
        event = encode(channel, payload)
    except MessageError:
        return
    assert event.count(b"\n\n") == 1  # what came in starts no event of its own


def test_bodies_that_are_too_large_or_packed_are_refused(client: FlaskClient) -> None:
    huge = client.post("/predict", data=b" " * (5 * 1024 * 1024), content_type="application/json")
    assert huge.status_code == 413
    packed = client.post(
        "/predict",
        data=b"\x1f\x8b\x08\x00rest",
        content_type="application/json",
        headers={"Content-Encoding": "gzip"},
    )
    assert packed.status_code in {400, 415}
    deep = client.post("/predict", data=b"[" * 100_000, content_type="application/json")
    assert deep.status_code in {400, 422}
    assert client.post("/sign-in", data={"password": PASSWORD * 10_000}).status_code in {403, 413}
