"""Forms, cookies and links where a proxy, HTTPS or a second instance stands beside the app."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx
import pytest
from flask import Flask

from tests.factories import VEHICLE
from tests.webapp.conftest import OPERATOR, PASSWORD, form_value, running_app
from vroom_features.settings import Settings
from webapp.rendering.forms import DEFAULTS

HTTPS = "https://forecast.example:8443"


@pytest.fixture(scope="module")
def own_settings() -> dict[str, object]:
    return {"web_proxies": 1, "web_trusted_hosts": "forecast.example", "web_host": "0.0.0.0"}


@pytest.mark.parametrize(
    ("base_url", "headers", "answer"),
    [
        (HTTPS, {"Origin": HTTPS}, 302),
        (HTTPS, {"Referer": f"{HTTPS}/sign-in"}, 302),
        (HTTPS, {"Origin": "https://FORECAST.example:8443"}, 302),
        ("https://forecast.example:443", {"Origin": "https://forecast.example"}, 302),
        ("https://forecast.example", {"Origin": "https://forecast.example:443"}, 302),
        ("http://forecast.example", {"Origin": "https://forecast.example"}, 302),  # HTTPS ends at a proxy
        (HTTPS, {"Origin": "https://evil.example"}, "a page of another site"),
        (HTTPS, {"Origin": "null", "Referer": HTTPS}, "a page of another site"),
        (HTTPS, {"Referer": "https://evil.example/x"}, "a page of another site"),
        ("https://forecast.example", {"Origin": HTTPS}, r"forecast.example:8443 .* \$http_host"),
    ],
)
def test_a_form_is_taken_from_its_own_page_alone(
    app: Flask, base_url: str, headers: dict[str, str], answer: int | str
) -> None:
    client = app.test_client()
    token = form_value(client.get("/sign-in", base_url=base_url).text, "csrf_token")
    form = {"csrf_token": token, "password": PASSWORD}
    response = client.post("/sign-in", data=form, base_url=base_url, headers=headers)
    if isinstance(answer, int):
        assert response.status_code == answer, response.text
    else:
        assert response.status_code == 403
        assert re.search(answer, response.json["detail"])


def test_two_instances_on_one_host_keep_their_own_cookies(
    app: Flask, settings: Settings, tmp_path: Path
) -> None:
    with running_app(settings, home=tmp_path) as other:
        urls = {"http://localhost:8000": app, "http://localhost:9000": other.application}
        mounts = {url: httpx.WSGITransport(app=each) for url, each in urls.items()}
        with httpx.Client(mounts=mounts) as browser:  # which keeps cookies by host, whatever the port is

            def post(url: str, path: str, **form: str) -> int:
                page = browser.get(f"{url}/fleet" if path == "/sign-out" else f"{url}/sign-in").text
                form["csrf_token"] = form_value(page, "csrf_token")
                return browser.post(f"{url}{path}", data=form).status_code

            assert [post(url, "/sign-in", password=PASSWORD) for url in urls] == [302, 302]
            assert [browser.get(f"{url}/audit").status_code for url in urls] == [200, 200]
            assert post("http://localhost:8000", "/sign-out") == 302
            assert [browser.get(f"{url}/audit").status_code for url in urls] == [401, 200]


LINK = re.compile(r"""(?:href|src|action|data-(?:predict|details|points|root|events))="([^"]*)\"""")


def links(app: Flask, prefix: str) -> Iterator[tuple[str, str]]:
    """Walk through the pages as behind a proxy that removes a prefix; yield each link with its page."""
    client = app.test_client()
    headers = {"X-Forwarded-Prefix": prefix, "Accept": "text/html"}
    client.sign_in()
    seen, waiting = set(), ["/", "/nothing"]
    while waiting:
        path = waiting.pop()
        page = client.get(path, headers=headers).text
        for link in LINK.findall(page):
            yield path, link
            inside = link.partition("#")[0].removeprefix(prefix).replace("&amp;", "&") or "/"
            if inside.startswith("/") and inside not in seen and not inside.startswith("/static/"):
                seen.add(inside)
                waiting.append(inside)


def test_every_link_of_every_page_has_the_prefix_of_the_proxy(app: Flask) -> None:
    app.test_client().post("/vehicles", json=VEHICLE, headers=OPERATOR)
    found = list(links(app, "/vroom"))
    pages = {"/", "/nothing", "/fleet", "/arrivals", "/models", "/runs", "/docs", "/system"}
    assert pages <= {page for page, _ in found}
    wrong = [
        (page, link) for page, link in found if link.startswith("/") and not f"{link}/".startswith("/vroom/")
    ]
    assert wrong == []


def test_answers_of_the_api_have_the_prefix_and_unproxied_requests_have_none(
    app: Flask, settings: Settings
) -> None:
    headers = {**OPERATOR, "X-Forwarded-Prefix": "/vroom"}
    client = app.test_client()
    assert client.post("/predict", json=VEHICLE, headers=headers).status_code == 200
    saved = client.post("/vehicles", json=VEHICLE, headers=headers)
    assert saved.headers["Location"].startswith("/vroom/vehicles/")
    assert client.get("/openapi.json", headers=headers).json["servers"] == [{"url": "/vroom"}]
    form = {"password": PASSWORD, "next": "/fleet?sort=price", "csrf_token": client.token()}
    signed_in = client.post("/sign-in", data=form, headers={"X-Forwarded-Prefix": "/vroom"})
    assert signed_in.headers["Location"] == "/vroom/fleet?sort=price"
    with running_app(settings, web_proxies=0) as alone:
        assert 'href="/docs"' in alone.get("/", headers=headers).text


def test_who_signs_in_to_save_comes_back_to_the_car_that_was_typed(app: Flask) -> None:
    headers = {"X-Forwarded-Prefix": "/vroom", "Accept": "text/html"}
    page = app.test_client().get("/?actual_price=77&num_images=2", headers=headers).text
    (link,) = re.findall(r'href="/vroom/sign-in\?next=([^"]+)">Sign in</a> to save cars', page)
    target = urlsplit(unquote(link))
    assert target.path == "/"
    assert dict(parse_qsl(target.query)) == DEFAULTS | {"actual_price": "77", "num_images": "2"}
