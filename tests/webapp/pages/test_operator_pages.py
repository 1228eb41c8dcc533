"""The pages of models and of the feature stores: what flows wrote, and what is in the stores."""

import re
from datetime import UTC, date, datetime
from pathlib import Path

from flask.testing import FlaskClient

from tests.promises.system import wait_until
from tests.snapshots import SAMPLE
from tests.webapp.conftest import OPERATOR, Models, add_record, csrf_token, save, sign_in
from tests.webapp.pages.test_pages import page
from vroom_features.ingest.seed import seed
from vroom_features.materialize import materialize
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.online.store import Synced
from vroom_features.online.sync import AuditReport, record_audit
from vroom_model.manifest import SnapshotRef
from vroom_model.records import Decision, FeatureDrift, Matured, MonitorReport, Outcomes
from vroom_model.registry.matured import keep_matured
from webapp.security.sign_in import secret_in
from webapp.services import Services, now
from webapp.serving.store_state import online_state

AS_OF = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
NO_EARLIER = "There is no earlier champion to go back to."
DRIFT = (
    FeatureDrift(feature="price_diff", psi=0.3141, verdict="large drift"),
    FeatureDrift(feature="num_images", psi=0.0271, verdict="steady"),
    FeatureDrift(feature="description", psi=None, verdict="too few"),
)
OUTCOMES = Outcomes(num_vehicles=41, mean_forecast=6.26, mean_outcome=7.74, mae=3.2, held=0.829)
LOST = "booked 260 times"


def test_a_check_for_drift_is_shown(champion: int, models: Models, client: FlaskClient) -> None:
    def shown_with(report: str) -> str:
        models.client.set_model_version_tag(models.name, str(champion), "monitor", report)
        return page(client, "/models")

    assert "Not checked yet" in page(client, "/models")
    values = {"version": champion, "as_of": AS_OF, "num_arrivals": 1_234, "features": DRIFT}
    report = MonitorReport(**values, outcomes=OUTCOMES, num_left_out=1_025, lost_bookings=LOST)
    shown = shown_with(report.model_dump_json())
    for text in (
        *(found.verdict for found in DRIFT),
        "0.31<",
        "0.03<",
        "1,234 saved cars",
        "For 41 cars of the fleet, forecast out of fold",
        "forecast was 6.3 and the mean of bookings 7.7",
        "within their range; 1,025 cars under watch left out.",
        "Booked 260 times.",
    ):
        assert text in shown
    of_a_release_before = shown_with(report.model_dump_json(exclude={"num_left_out", "lost_bookings"}))
    assert "For 41 cars of the fleet" in of_a_release_before
    assert not re.search("left out|Bookings fell", of_a_release_before)
    assert "cars of the fleet" not in shown_with(MonitorReport(**values, outcomes=None).model_dump_json())


def test_the_real_errors_are_charted_beside_that_of_the_training(
    champion: int, models: Models, client: FlaskClient, services: Services
) -> None:
    assert 'id="matured"' not in page(client, "/models")
    registry, day = services.promotions.registry, date(2025, 3, 31)
    few = Matured(complete_through=day, num_vehicles=29)
    enough = few.model_copy(update={"num_vehicles": 41, "mae": 1.57, "bias": -1.25, "coverage": 0.615})
    keep_matured(registry, registry.version(champion), enough, at=AS_OF)
    for matured, text in (
        (few, "29 matured since the training, too few"),
        (enough.model_copy(update={"is_worse": True}), "Worse than in training"),
    ):
        values = {"version": champion, "as_of": AS_OF, "num_arrivals": 0, "features": ()}
        report = MonitorReport(**values, outcomes=None, matured=matured)
        registry.set_tags(champion, {"monitor": report.model_dump_json()})
        shown = page(client, "/models")
        assert text in shown
        assert re.search("2025-03-31<.*1.57<.*1.00<.*−1.2<.*61.5%<.*41<", shown)  # noqa: RUF001 - a minus


def test_promotions_are_listed_and_what_was_moved_by_hand_can_be_rolled_back(
    champion: int, models: Models, client: FlaskClient, services: Services
) -> None:
    add_record(services, version=champion)
    assert NO_EARLIER in page(client, "/models")
    models.crown(models.register(6.0))
    shown = page(client, "/models")
    assert "moved by hand" in shown
    assert NO_EARLIER not in shown
    assert len(services.promotions.history()) == 1  # reading writes nothing
    models.crown(champion)
    add_record(services, version=9, reason="it is better")
    add_record(services, version=champion, reason="a drill", forced=True)
    shown = page(client, "/models")
    assert NO_EARLIER not in shown
    assert "moved by hand" not in shown
    promotions = shown.partition('id="promotions"')[2]
    assert re.findall(r'<th scope="row">(\d+)<', promotions) == [str(champion), "9", str(champion)]
    assert "promoted by force" in promotions
    assert "A drill" in promotions


def test_a_refused_candidate_is_shown_and_why(champion: int, models: Models, client: FlaskClient) -> None:
    candidate = models.register(6.0)
    decision = Decision(
        promote=False,
        reason="version 2 is not significantly better than champion 1: it is a drill",
        candidate_version=candidate,
        champion_version=champion,
        candidate_mae=3.4567,
        champion_mae=3.4568,
        gain=0.0001,
        gain_low=-0.02,
        num_vehicles=800,
        num_left_out=1,
    ).model_dump_json(exclude_none=True)
    models.client.set_registered_model_alias(models.name, "candidate", str(candidate))
    models.client.set_model_version_tag(models.name, str(candidate), "decision", decision)
    shown = page(client, "/models")
    assert f"Candidate: model {candidate}" in shown
    assert "Not promoted" in shown
    assert "Version 2 is not significantly better than champion 1: it is a drill" in shown
    assert "3.46" in shown
    assert "cars, out of fold for both; 1 car under watch left out<" in shown


def test_vehicles_left_out_are_shown(models: Models, client: FlaskClient, services: Services) -> None:
    learned = SnapshotRef(id="s", digest="0" * 64, num_rows=1_000, num_left_out=25, created_at=AS_OF)
    models.crown(models.register(5.0, snapshot=learned))
    services.listener.refresh()
    shown = page(client, "/models")
    assert "1,000</dd>" in shown
    assert "cars; 25 cars under watch left out<" in shown
    described = client.get("/model").json
    assert (described["num_vehicles"], described["num_left_out"]) == (1_000, 25)


def test_snapshots_and_last_audit_are_shown(client: FlaskClient, services: Services) -> None:
    shown = page(client, "/feature-stores")
    assert "No snapshot yet" in shown
    assert "Materialize runs one" in shown
    seed(services.source, SAMPLE)
    offline = OfflineStore(services.settings.offline_store.url)
    materialize(services.source, offline, services.online, now=now())
    materialize(services.source, offline, None, now=now(), as_of=datetime(2023, 7, 1, tzinfo=UTC))
    record_audit(services.online, AuditReport(5, missing=2, stale=0, wrong=1, orphaned=0), as_of=now())
    shown = page(client, "/feature-stores")
    row = shown.partition(f"{offline.current().id}</th>")[2].partition("</tr>")[0]
    assert "current" in row
    assert row.count("1,000<") == 2  # cars, all of them with an outcome
    assert "<td>2023-12-30</td>" in row
    assert "what was known at 1 Jul 2023" in shown
    watch = {"days": 364, "first_day": "2023-01-01", "last_day": "2023-12-30"}
    assert client.get("/stores").json["watch"] == watch
    assert "3 rows differ" in shown
    assert "2 missing, 0 stale, 1 wrong, 0 orphaned" in shown


def test_a_pointer_that_names_no_snapshot_is_shown(client: FlaskClient, services: Services) -> None:
    folder = Path(services.settings.offline_store.url)
    (folder / "snapshots").mkdir(parents=True, exist_ok=True)
    (folder / "snapshots" / "a.json").write_text("{}")
    for content in ("[]", "{}", "{"):
        (folder / "current.json").write_text(content)
        assert client.get("/stores").json["offline_store"]["status"] == "down"
        shown = page(client, "/feature-stores")
        assert "ValidationError" in shown
        assert shown.rstrip().endswith("</html>")


def test_rows_of_another_database_are_replaced(client: FlaskClient, services: Services) -> None:
    services.online.mark_synced(Synced("another", 1))
    services.heartbeat.beat_soon()
    wait_until(lambda: services.online.synced() != Synced("another", 1))
    assert online_state(services).is_in_sync
    assert "in sync" in page(client, "/feature-stores")


def test_hosts_have_three_pages_and_no_address_of_this_machine_and_operators_all(
    champion: int, client: FlaskClient, services: Services
) -> None:
    add_record(services, version=champion)
    names = ("Models", "Data", "Runs", "System")
    tools = (str(services.settings.mlflow), str(services.settings.prefect))
    for path in ("/", "/models", "/feature-stores", "/runs", "/system"):
        shown = page(client, path)
        assert not any(f">{name}</a>" in shown for name in names), path
        assert not any(f'href="{tool}' in shown for tool in tools), path
    sign_in(client)
    assert all(f">{name}</a>" in page(client, "/") for name in names)
    assert tools[0] in page(client, "/models")
    assert tools[1] in page(client, "/runs")


def test_the_audit_log_says_in_words_what_was_done_and_why_and_is_filtered(
    client: FlaskClient, services: Services
) -> None:
    assert client.get("/system/audit").status_code == 401
    token = secret_in(services.settings.sign_in_token).value
    assert client.get(f"/sign-in?token={token}").status_code == 302
    assert "You are signed in as the operator." in page(client, "/")
    form = {"csrf_token": csrf_token(client), "confirmed": "yes", "reason": "it <b>errs</b> on vans"}
    client.post("/operations/rollback", data=form)
    vehicle_id = save(client)
    client.delete(f"/vehicles/{vehicle_id}", headers=OPERATOR)
    rows = audit_rows(client)
    assert [row[1:4] for row in rows[:3]] == [
        [f"Deleted car {vehicle_id}", "", "by API token"],
        ["Roll back", "it &lt;b&gt;errs&lt;/b&gt; on vans", "in the browser"],
        ["Signed in", "", "by link"],
    ]
    assert [row[1] for row in audit_rows(client, "/system/audit?done=Started+a+run")] == ["Roll back"]
    assert audit_rows(client, "/system/audit?client=nowhere") == []
    services.audit_log.record(now(), actor="token", action="a" * 64, subject="", client="many", request_id="")
    for _ in range(50):
        services.audit_log.record(now(), actor="token", action="x", subject="", client="many", request_id="")
    assert len(audit_rows(client, "/system/audit?client=many")) == 50
    (older,) = re.findall(r'rel="next" href="([^"]+)"', page(client, "/system/audit?client=many"))
    assert [row[1] for row in audit_rows(client, older.replace("&amp;", "&"))] == ["a" * 64]
    assert client.get(f"/system/audit?before={10**30}").status_code == 200


def audit_rows(client: FlaskClient, path: str = "/system/audit") -> list[list[str]]:
    """Return the cells of each line that the page shows."""
    shown = client.get(path, headers={"Accept": "text/html"}).text
    rows = re.findall(r"<tr>\s*(<td.*?)</tr>", shown, re.DOTALL)
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL) for row in rows]
