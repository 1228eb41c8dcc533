"""The page of the feature stores."""

from pathlib import Path

from flask.testing import FlaskClient

from tests.factories import VEHICLE, make_vehicle
from tests.webapp.conftest import on_both_databases
from tests.webapp.test_pages import page
from tests.webapp.waiting import wait_until
from vroom_features.ingest.seed import seed
from vroom_features.materialize import materialize
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.online.store import Synced
from vroom_features.online.sync import AuditReport, record_audit
from webapp.services import Services, now
from webapp.serving.store_state import online_state

DATA = Path(__file__).parents[2] / "data"


@on_both_databases
def test_a_missing_row_is_written_by_the_next_beat(client: FlaskClient, services: Services) -> None:
    wait_until(lambda: services.heartbeat.is_redis_up)
    assert client.post("/vehicles", json=VEHICLE).status_code == 201
    state = online_state(services)
    assert (state.num_rows, state.num_missing, state.num_fresh, state.num_checked) == (1, 0, 1, 1)
    assert state.is_in_sync
    services.source.save_vehicle(make_vehicle(), saved_at=now())
    assert online_state(services).num_missing == 1
    services.heartbeat.beat_soon()
    wait_until(lambda: online_state(services).is_in_sync)


def test_rows_of_another_database_are_named_as_such(client: FlaskClient, services: Services) -> None:
    wait_until(lambda: services.heartbeat.is_redis_up)
    services.online.mark_synced(Synced("another", 1))
    assert not online_state(services).is_in_sync
    assert "This Redis has the rows of another database." in page(client, "/feature-stores")


def test_a_pointer_that_names_no_snapshot_is_shown(client: FlaskClient, services: Services) -> None:
    folder = Path(services.settings.offline_store.url)
    (folder / "snapshots").mkdir(parents=True)
    (folder / "snapshots" / "a.json").write_text("{}")
    for content in ("[]", "{}", "{"):
        (folder / "current.json").write_text(content)
        assert client.get("/stores").json["offline_store"]["status"] == "down"
        shown = page(client, "/feature-stores")
        assert "ValidationError" in shown
        assert shown.rstrip().endswith("</html>")


def test_snapshots_and_last_audit_are_shown(client: FlaskClient, services: Services, tmp_path: Path) -> None:
    assert "No snapshot yet" in page(client, "/feature-stores")
    wait_until(lambda: services.heartbeat.is_redis_up)
    assert "Materialize runs one" in page(client, "/feature-stores")
    seed(services.source, DATA, quarantine_dir=tmp_path / "quarantine")
    offline = OfflineStore(services.settings.offline_store.url)
    materialize(services.source, offline, services.online, now=now())
    record_audit(services.online, AuditReport(5, missing=2, stale=0, wrong=1, orphaned=0), as_of=now())
    shown = page(client, "/feature-stores")
    row = shown.partition(f"{offline.current().id}</th>")[2].partition("</tr>")[0]
    assert "current" in row
    assert "1,000" in row
    assert "3 rows differ" in shown
    assert "2 missing, 0 stale, 1 wrong, 0 orphaned" in shown
