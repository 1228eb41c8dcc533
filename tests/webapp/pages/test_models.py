"""Every version on the models page: compared, diagnosed, promoted by hand."""

import re
from datetime import UTC, datetime

from flask.testing import FlaskClient

from tests.snapshots import SAMPLE
from tests.webapp.conftest import Models, csrf_token, sign_in
from tests.webapp.pages.test_pages import page
from vroom_features.ingest.seed import seed
from vroom_features.materialize import materialize
from vroom_features.offline.snapshots import OfflineStore
from vroom_model.manifest import Diagnostics, Histogram, ResidualBin
from vroom_model.records import Decision, FeatureDrift, MonitorReport, SegmentGain
from vroom_model.segments import SEGMENTS
from webapp.services import Services, now

AS_OF = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)


def test_versions_are_listed_and_two_compared_on_the_same_cars(
    champion: int, models: Models, client: FlaskClient, services: Services
) -> None:
    candidate = models.register(6.5, params={"num_trees": 9})
    gain = SegmentGain(
        segment=SEGMENTS[0], num_vehicles=321, candidate_mae=3.1, champion_mae=3.4, low=-0.5, high=-0.1
    )
    decision = Decision(
        promote=True,
        reason="it is better",
        candidate_version=candidate,
        champion_version=champion,
        num_vehicles=800,
        segments=(gain,),
    )
    shown = page(client, "/models/compare", a=champion, b=candidate)
    assert "The two were not compared on the same cars" in shown
    assert re.search(r"num_trees</th><td[^>]*>1</td><td[^>]*>9<", shown)
    services.registry.set_tags(candidate, {"decision": decision.model_dump_json(), "coverage": "0.8123"})
    listed = page(client, "/models").partition('id="versions"')[2]
    assert re.search(rf'<th scope="row">{candidate}.*It is better<.*81.2%<', listed, re.DOTALL)
    shown = page(client, "/models/compare", a=candidate, b=champion)
    assert "On the same 800 cars" in shown
    assert re.search(r"321<.*3.10<.*3.40<.*-0.30<.*-0.50 to -0.10<", shown)
    for query, code in (({"a": 1}, 422), ({"a": "x", "b": 1}, 422), ({"a": champion, "b": 10**6}, 404)):
        assert client.get("/models/compare", query_string=query).status_code == code


def test_diagnostics_show_residuals_and_drift_and_what_an_earlier_release_lacks(
    models: Models, client: FlaskClient, services: Services
) -> None:
    assert "trained by an earlier release, which kept no residuals" in page(client, "/models/diagnostics")
    bins = (ResidualBin(value=4.0, residual=-1.25, standard_error=0.1, coverage=0.75, num_rows=60),)
    found = Diagnostics(
        residuals={"forecast": bins, "num_images": bins},
        errors=Histogram(edges=(-1.0, 0.0, 1.0), counts=(10, 20, 25, 5)),
    )
    reference = {"num_images": Histogram(edges=(2.0,), counts=(30, 30))}
    version = models.register(5.0, diagnostics=found, reference=reference)
    drift = FeatureDrift(feature="num_images", psi=0.31, verdict="large drift", counts=(150, 50))
    report = MonitorReport(version=version, as_of=AS_OF, num_arrivals=200, features=(drift,), outcomes=None)
    services.registry.set_tags(version, {"monitor": report.model_dump_json()})
    models.crown(version)
    services.listener.refresh()
    shown = page(client, "/models/diagnostics")
    for text in ("Residuals by photos", ">−1.2<", ">75.0%<", "0 to 1<", "Photos: PSI 0.31, large drift"):  # noqa: RUF001
        assert text in shown
    assert re.search("up to 2<.*75.0%<.*50.0%<.*150<", shown)


def test_unchanged_data_is_said_at_the_button(
    champion: int, models: Models, client: FlaskClient, services: Services
) -> None:
    offline = OfflineStore(services.settings.offline_store)
    seed(services.source, SAMPLE)
    materialize(services.source, offline, services.online, now=now())
    assert "The data has not changed" not in page(client, "/models")
    digest = offline.current().digest
    services.registry.set_tags(champion, {"snapshot_digest": digest})
    assert f"The data has not changed since model {champion} was trained on it." in page(client, "/models")
    candidate = models.register(6.0)
    decision = Decision(
        promote=False,
        reason="worse",
        candidate_version=candidate,
        champion_version=champion,
        snapshot_digest=digest,
    )
    services.registry.set_alias("candidate", candidate)
    services.registry.set_tags(candidate, {"decision": decision.model_dump_json()})
    assert "The two were compared on this data already" in page(client, "/models")


def test_a_rollback_and_a_promotion_by_hand_need_a_reason(client: FlaskClient, services: Services) -> None:
    sign_in(client)
    form = {"csrf_token": csrf_token(client), "confirmed": "yes"}
    before = services.audit_log.entries()
    for path in ("/operations/rollback", "/operations/promote/1"):
        for reason in ({}, {"reason": "  "}):
            answer = client.post(path, data=form | reason)
            assert answer.status_code == 200
            assert 'name="reason" required' in answer.text
    assert services.audit_log.entries() == before
    assert client.post("/operations/promote/1", data=form | {"reason": "vans"}).status_code == 303
    assert services.audit_log.entries()[0].reason == "vans"
