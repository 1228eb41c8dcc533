"""Pages while a service that they tell of takes its time."""

import pytest
from flask.testing import FlaskClient

from tests.webapp.faults import FaultyProxy

pytestmark = pytest.mark.shared_app


def test_the_head_of_the_models_page_does_not_wait_for_the_registry(
    client: FlaskClient, proxy: FaultyProxy
) -> None:
    proxy.is_hanging = True
    parts = client.get("/models", headers={"Accept": "text/html"}).iter_encoded()
    head = next(parts).decode()
    assert "</nav>" in head
    assert "<h1>Models</h1>" in head
    proxy.heal()
    rest = b"".join(parts).decode()
    assert "serves</h2>" in rest
    assert "The registry cannot be read" not in rest
    assert rest.rstrip().endswith("</html>")


def test_a_page_in_parts_tells_once_what_was_done(client: FlaskClient) -> None:
    with client.session_transaction() as session:
        session["_flashes"] = [("good", "Read again.")]
    assert "Read again." in client.get("/models", headers={"Accept": "text/html"}).text
    assert "Read again." not in client.get("/models", headers={"Accept": "text/html"}).text
