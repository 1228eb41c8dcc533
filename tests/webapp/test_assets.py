"""Styles and scripts: kept for good under an address that changes with them."""

import re

from flask.testing import FlaskClient


def test_a_page_asks_for_one_style_sheet_that_browsers_keep(client: FlaskClient) -> None:
    sheets = re.findall(r'<link rel="stylesheet" href="([^"]+)"', client.get("/runs").text)
    assert len(sheets) == 1
    answer = client.get(sheets[0])
    assert answer.content_type.startswith("text/css")
    assert answer.cache_control.immutable
    for rule in (".skip", ".sheet", ".desk", ".chart", ".u-over"):  # one of each part
        assert rule in answer.text


def test_the_address_of_another_release_answers_and_is_not_kept(client: FlaskClient) -> None:
    answer = client.get("/static/0123456789abcdef/js/app.js")
    assert answer.status_code == 200
    assert answer.cache_control.no_cache
    assert answer.cache_control.max_age is None


def test_what_is_no_asset_is_not_found(client: FlaskClient) -> None:
    for name in ("js/none.js", "css/base.css", "../app.py", "js/"):
        assert client.get(f"/static/0123456789abcdef/{name}").status_code == 404
