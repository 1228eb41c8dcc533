"""What operators see beside models: the stores, the audit log, and who sees which page."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.snapshots import SAMPLE
from tests.webapp.conftest import OPERATOR, Visitor, add_record
from vroom_features.ingest.seed import seed
from vroom_features.materialize import materialize
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.online.sync import AuditReport, record_audit
from webapp.security.sign_in import secret_in
from webapp.services import Services, now


def test_snapshots_and_last_audit_are_shown(client: Visitor, services: Services) -> None:
    shown = client.page("/feature-stores")
    assert "No snapshot yet" in shown
    assert "Materialize runs one" in shown
    seed(services.source, SAMPLE)
    offline = OfflineStore(services.settings.offline_store.url)
    materialize(services.source, offline, services.online, now=now())
    materialize(services.source, offline, None, now=now(), as_of=datetime(2023, 7, 1, tzinfo=UTC))
    offline.files.write("snapshots/of-an-earlier-release.json", b'{"format": 1}')
    record_audit(services.online, AuditReport(5, missing=2, stale=0, wrong=1, orphaned=0), as_of=now())
    shown = client.page("/feature-stores")
    row = shown.partition(f"{offline.current().id}</th>")[2].partition("</tr>")[0]
    assert "current" in row
    assert row.count("1,000<") == 2  # cars, all of them with an outcome
    assert "<td>2023-12-30</td>" in row
    assert "what was known at 1 Jul 2023" in shown
    watch = {"days": 364, "first_day": "2023-01-01", "last_day": "2023-12-30"}
    assert client.get("/stores").json["watch"] == watch
    assert "3 rows differ" in shown
    assert "2 missing, 0 stale, 1 wrong, 0 orphaned" in shown


@pytest.mark.parametrize("path", ["/feature-stores", "/fleet.csv"])
def test_a_database_that_cannot_be_read_gives_an_error_and_no_half_page(
    client: Visitor, services: Services, path: str
) -> None:
    def rename(old: str, new: str) -> None:
        with services.source.engine.begin() as connection:
            connection.exec_driver_sql(f"ALTER TABLE {old} RENAME TO {new}")

    rename("reservations", "moved")
    code = client.get(path).status_code
    rename("moved", "reservations")
    assert code == 503


def test_a_pointer_that_names_no_snapshot_is_shown(client: Visitor, services: Services) -> None:
    folder = Path(services.settings.offline_store.url)
    (folder / "snapshots").mkdir(parents=True, exist_ok=True)
    (folder / "snapshots" / "a.json").write_text("{}")
    for content in ("[]", "{}", "{"):
        (folder / "current.json").write_text(content)
        assert client.get("/stores").json["offline_store"]["status"] == "down"
        shown = client.page("/feature-stores")
        assert "The offline store cannot be read" in shown
        assert shown.rstrip().endswith("</html>")


def test_hosts_have_three_pages_and_no_address_of_this_machine_and_operators_all(
    champion: int, client: Visitor, services: Services
) -> None:
    add_record(services, version=champion)
    names = ("Models", "Data", "Runs", "System")
    tools = (str(services.settings.mlflow), str(services.settings.prefect))
    for path in ("/", "/models", "/feature-stores", "/runs", "/system"):
        shown = client.page(path)
        assert not any(f">{name}</a>" in shown for name in names), path
        assert not any(tool in shown for tool in tools), path
    client.sign_in()
    assert all(f">{name}</a>" in client.page("/") for name in names)
    assert tools[0] in client.page("/models")
    assert tools[1] in client.page("/runs")


def test_the_audit_log_says_in_words_what_was_done_and_why_and_is_filtered(
    client: Visitor, services: Services
) -> None:
    def rows(path: str = "/system/audit") -> list[list[str]]:
        """Return the cells of each line that the page shows."""
        found = re.findall(r"<tr>\s*(<td.*?)</tr>", client.get(path).text, re.DOTALL)
        return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL) for row in found]

    assert client.get("/system/audit").status_code == 401
    token = secret_in(services.settings.sign_in_token).value
    assert client.get(f"/sign-in?token={token}").status_code == 302
    assert "You are signed in as the operator." in client.page("/")
    client.send("/operations/rollback", confirmed="yes", reason="it <b>errs</b> on vans")
    vehicle_id = client.save()
    client.delete(f"/vehicles/{vehicle_id}", headers=OPERATOR)
    assert [row[1:4] for row in rows()[:3]] == [
        [f"Deleted car {vehicle_id}", "", "by API token"],
        ["Roll back", "it &lt;b&gt;errs&lt;/b&gt; on vans", "in the browser"],
        ["Signed in", "", "by link"],
    ]
    assert [row[1] for row in rows("/system/audit?done=Started+a+run")] == ["Roll back"]
    assert rows("/system/audit?client=nowhere") == []
    for action in ("a" * 64, *"x" * 50):
        services.audit_log.record(
            now(), actor="token", action=action, subject="", client="many", request_id=""
        )
    assert len(rows("/system/audit?client=many")) == 50
    (older,) = re.findall(r'rel="next" href="([^"]+)"', client.page("/system/audit?client=many"))
    assert [row[1] for row in rows(older)] == ["a" * 64]
    for before in (10**30, -(10**30)):
        assert len(rows(f"/system/audit?client=many&before={before}")) == 50
