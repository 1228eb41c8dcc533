"""What attackers type: each payload in every place that takes text, and every number at the edge."""

import json
import logging
import re
from html import escape
from itertools import product
from typing import Literal
from urllib.parse import quote

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from tests.factories import VEHICLE
from tests.webapp.conftest import Models, Visitor, add_record, running_app
from vroom_features.messages import MessageError
from vroom_features.settings import Settings
from webapp.events import EVENTS, encode
from webapp.observability import configure_logs
from webapp.services import Services

HTML = "<script>alert(1)</script>"
PAYLOADS = (
    HTML,
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
NEVER = (
    *["9223372036854775808", "-9223372036854775808", "1.7976931348623157e308", "1e309", "-1e309"],
    *["NaN", "Infinity", "-Infinity", "true", '"1"', "null", "[]", "{}", "0x10", "1_0", "1" + "0" * 400],
)
"""As JSON, what no field takes."""


def as_header(payload: str) -> str:
    return re.sub("[\r\n\0]", "", payload.encode("ascii", "replace").decode())


hostile = pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: repr(payload[:20]))


def assert_harmless(answer: TestResponse) -> None:
    where = (answer.request.path, answer.status_code)
    assert answer.status_code < 500, (where, answer.text)
    assert "Set-Cookie: a=b" not in str(answer.headers), where
    found = {"root:", "Traceback"} | ({HTML, "<img src=x"} if answer.mimetype == "text/html" else set())
    assert [text for text in found if text in answer.text] == [], where


@hostile
def test_no_payload_is_executed_believed_or_reflected(
    client: Visitor, services: Services, payload: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    before = services.source.count_vehicles()
    token = client.token()
    path, segment = payload.replace("\0", ""), payload.replace("\0", "").replace("/", "%2F")
    form = {"csrf_token": token, "action": "save", **dict.fromkeys(VEHICLE, payload)}
    queries = {
        "/vehicles": ("search", "sort", "kind", "page"),
        "/fleet": ("q", "sort", "order", "page"),
        "/fleet.csv": ("q", "sort"),
        "/": ("vehicle_id",),
        "/arrivals": ("saved", "q"),
        "/my-cars": ("saved", "q", "page"),
        "/sign-in": ("next",),
    }
    answers = [
        *(client.get(path, query_string={n: payload}) for path, names in queries.items() for n in names),
        client.get("/health", headers={"X-Request-ID": as_header(payload)[:200]}),
        *(client.get(f"{parent}/{segment}") for parent in ("/runs", "/v2/models", "/my-cars/link")),
        client.get(f"/static/{path}"),
        client.post("/predict", json=VEHICLE | {payload: payload}),
        *(client.post("/predict", json=VEHICLE | {name: payload}) for name in VEHICLE),
        client.post("/predict/id", json={"vehicle_id": payload}),
        client.post("/vehicles", json=VEHICLE | {"description": payload}),
        *(client.post(path, data=form) for path in ("/", "/details")),
        client.post("/sign-in", data={"csrf_token": token, "password": payload, "next": payload}),
    ]
    for answer in answers:
        assert_harmless(answer)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert services.source.count_vehicles() == before


@hostile
def test_a_hostile_key_saves_once_or_never(client: Visitor, services: Services, payload: str) -> None:
    def saved() -> int:
        return services.source.count_vehicles().new_arrivals

    before, key = saved(), as_header(payload) or " "
    answers = [client.post("/vehicles", json=VEHICLE, headers={"Idempotency-Key": key}) for _ in range(2)]
    assert len({(answer.status_code, answer.json.get("vehicle_id")) for answer in answers}) == 1
    assert (answers[0].status_code, saved() - before) in {(201, 1), (422, 0)}, answers[0].text
    before = saved()
    form = {"csrf_token": client.token(), "action": "save", "form_key": payload, **VEHICLE}
    for page in [client.post("/", data=form) for _ in range(2)]:
        assert page.status_code in {302, 303, 422}
        assert_harmless(page)
    assert saved() - before in {0, 1}


def test_a_nul_which_postgresql_keeps_in_no_text_is_refused(settings: Settings, postgres_url: str) -> None:
    own = {"database_url": postgres_url, "redis_prefix": "of-postgresql"}
    searches = (
        "/vehicles?search",
        "/arrivals?q",
        "/my-cars?q",
        "/fleet?q",
        "/fleet.csv?q",
        "/system/audit?client",
    )
    with running_app(settings, **own) as client:
        client.sign_in()
        assert {path: client.get(f"{path}=1%00").status_code for path in searches} == dict.fromkeys(
            searches, 422
        )
        saved = client.send("/", **VEHICLE, action="save", form_key="1\0")
        assert saved.status_code == 303
        assert client.get(saved.location).status_code == 200


def test_a_hostile_reason_is_text_on_every_page(
    client: Visitor, services: Services, models: Models, champion: int
) -> None:
    for payload in PAYLOADS[:8]:
        models.client.set_model_version_tag(models.name, str(champion), "decision", payload)
        add_record(services, version=champion, reason=payload, forced=True)
    for path in ("/models", "/", "/stores", "/model"):
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert_harmless(answer)
    page = client.get("/models").text
    assert escape(HTML) in page
    assert "{{7*7}}" in page


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_path_forges_no_log_line_and_sends_a_terminal_no_code(
    client: Visitor,
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


@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/vehicles"])
def test_a_number_beyond_an_edge_is_refused_by_its_field(client: Visitor, path: str) -> None:
    def send(field: str, literal: str) -> TestResponse:
        body = json.dumps(VEHICLE | {field: "EDGE"}).replace('"EDGE"', literal)
        data = f"[{body}]" if "batch" in path else body
        return client.post(path, data=data, content_type="application/json")

    for field, literal in product(VEHICLE, NEVER):
        answer = send(field, literal)
        if answer.status_code == 400:
            assert answer.json["title"] == "Not JSON", literal
        else:
            assert answer.status_code == 422, (field, literal)
            assert field in answer.json["errors"][0]["field"], literal
    for literal in ("5e-324", "1e-46"):  # less than a float of 32 bits holds
        assert send("actual_price", literal).status_code in {200, 201}


@given(
    form=st.dictionaries(
        st.sampled_from([*VEHICLE, "action", "form_key", "csrf_token"]) | st.text(max_size=5),
        st.text(max_size=40) | st.integers().map(str) | st.floats().map(str),
        max_size=9,
    )
)
@hypothesis_settings(max_examples=25, deadline=None)
def test_no_form_breaks_the_page(app: Flask, form: dict[str, str]) -> None:
    client = app.test_client()
    for path in ("/", "/details"):
        answer = client.send(path, **form | {"action": "forecast"})
        assert answer.status_code in {200, 303, 422}, answer.text


@given(st.sampled_from(sorted(EVENTS)), st.binary(max_size=200) | st.text(max_size=80).map(str.encode))
@hypothesis_settings(max_examples=100, deadline=None)
def test_no_message_breaks_its_reader(channel: str, payload: bytes) -> None:
    try:
        event = encode(channel, payload)
    except MessageError:
        return
    assert event.count(b"\n\n") == 1  # what came in starts no event of its own


def test_bodies_that_are_packed_or_too_deep_are_refused(client: Visitor) -> None:
    packed = {"Content-Encoding": "gzip"}
    for body, headers in ((b"\x1f\x8b\x08\x00rest", packed), (b"[" * 100_000, {})):
        answer = client.post("/predict", data=body, content_type="application/json", headers=headers)
        assert answer.status_code in {400, 415, 422}
