"""What the stores page says of the online store."""

from pathlib import Path

import pytest
from flask.testing import FlaskClient

from tests.factories import VEHICLE, make_vehicle
from tests.webapp.conftest import on_both_databases
from tests.webapp.waiting import wait_until
from vroom_features.online.store import Synced
from vroom_features.online.sync import AuditReport, record_audit
from webapp.services import Services, now
from webapp.serving.store_state import online_state

pytestmark = on_both_databases


def test_a_saved_vehicle_is_in_step(client: FlaskClient, services: Services) -> None:
    wait_until(lambda: services.heartbeat.is_redis_up)
    assert client.post("/vehicles", json=VEHICLE).status_code == 201
    state = online_state(services)
    assert (state.num_rows, state.num_missing, state.num_fresh, state.num_checked) == (1, 0, 1, 1)
    assert state.is_in_step


def test_a_missing_row_is_counted_and_written_by_the_next_beat(services: Services) -> None:
    wait_until(lambda: services.heartbeat.is_redis_up)
    services.source.save_vehicle(make_vehicle(), saved_at=now())
    assert online_state(services).num_missing == 1
    services.heartbeat.beat_soon()
    wait_until(lambda: online_state(services).is_in_step)


def test_rows_of_another_database_are_named_as_such(client: FlaskClient, services: Services) -> None:
    wait_until(lambda: services.heartbeat.is_redis_up)
    services.online.mark_synced(Synced("another", 1))
    assert not online_state(services).is_in_step
    page = client.get("/feature-stores", headers={"Accept": "text/html"}).text
    assert "This Redis holds the rows of another database." in page


@pytest.mark.parametrize("content", ["[]", "5", "null", "{}", "{"])
def test_a_pointer_that_names_no_snapshot_is_told(
    client: FlaskClient, services: Services, content: str
) -> None:
    folder = Path(services.settings.offline_store.url)
    (folder / "snapshots").mkdir(parents=True)
    (folder / "snapshots" / "a.json").write_text("{}")
    (folder / "current.json").write_text(content)
    assert client.get("/stores").json["offline_store"]["status"] == "down"
    page = client.get("/feature-stores", headers={"Accept": "text/html"}).text
    assert "ValidationError" in page
    assert page.rstrip().endswith("</html>")


def test_the_last_audit_is_told_with_its_differences(client: FlaskClient, services: Services) -> None:
    wait_until(lambda: services.heartbeat.is_redis_up)
    page = client.get("/feature-stores", headers={"Accept": "text/html"}).text
    assert "Materialize ends with one" in page
    record_audit(services.online, AuditReport(5, missing=2, stale=0, wrong=1, orphaned=0), as_of=now())
    page = client.get("/feature-stores", headers={"Accept": "text/html"}).text
    assert "3 rows differ" in page
    assert "2 missing, 0 out of date, 1 wrong, 0 left over" in page
