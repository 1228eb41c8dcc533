"""Styles stand in each page; scripts are kept for good under an address that changes with them."""

import base64
import re
from hashlib import sha256

from flask.testing import FlaskClient


def test_a_page_holds_its_styles_and_its_policy_allows_no_others(client: FlaskClient) -> None:
    page = client.get("/runs")
    (styles,) = re.findall(r"<style>(.*?)</style>", page.text, re.DOTALL)
    digest = base64.b64encode(sha256(styles.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}';" in page.headers["Content-Security-Policy"]
    for rule in (".skip", ".sheet", ".desk", ".chart", ".u-over"):  # one of each part
        assert rule in styles


def test_browsers_keep_a_script(client: FlaskClient) -> None:
    (address,) = re.findall(r'<script type="module" src="([^"]+)"', client.get("/runs").text)
    answer = client.get(address)
    assert answer.content_type.startswith("text/javascript")
    assert answer.cache_control.immutable


def test_the_address_of_another_release_answers_and_is_not_kept(client: FlaskClient) -> None:
    answer = client.get("/static/0123456789abcdef/js/app.js")
    assert answer.status_code == 200
    assert answer.cache_control.no_cache
    assert answer.cache_control.max_age is None


def test_what_is_no_asset_is_not_found(client: FlaskClient) -> None:
    for name in ("js/none.js", "css/base.css", "../app.py", "js/"):
        assert client.get(f"/static/0123456789abcdef/{name}").status_code == 404
