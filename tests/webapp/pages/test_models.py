"""The models page, its comparison and its diagnostics: what flows wrote, in words and figures."""

import re
from datetime import date

import pytest

from tests.faults import FaultyProxy
from tests.snapshots import SAMPLE
from tests.webapp.conftest import HTML, Models, Visitor, add_record, keep_decision, keep_report
from tests.webapp.registry import AS_OF
from vroom_features.ingest.seed import seed
from vroom_features.materialize import materialize
from vroom_features.offline.snapshots import OfflineStore
from vroom_model.manifest import Diagnostics, Histogram, ResidualBin, SnapshotRef
from vroom_model.records import FeatureDrift, Matured, Outcomes, SegmentGain
from vroom_model.segments import SEGMENTS
from webapp.services import Services, now

NO_EARLIER = "There is no earlier champion to go back to."
DRIFT = (
    FeatureDrift(feature="price_diff", psi=0.3141, verdict="large drift"),
    FeatureDrift(feature="num_images", psi=0.0271, verdict="steady"),
    FeatureDrift(feature="description", psi=None, verdict="too few"),
)
OUTCOMES = Outcomes(num_vehicles=41, mean_forecast=6.26, mean_outcome=7.74, mae=3.2, held=0.829)


@pytest.fixture(autouse=True)
def champion(models: Models, services: Services) -> int:
    """Serve a version that nothing was written about."""
    models.crown(version := models.register(5.0))
    services.listener.refresh()
    return version


def test_a_check_for_drift_is_shown(champion: int, client: Visitor, services: Services) -> None:
    assert "Not checked yet" in client.page("/models")
    known = {"num_arrivals": 1_234, "features": DRIFT, "outcomes": OUTCOMES}
    keep_report(services, champion, **known, num_left_out=1_025, lost_bookings="booked 260 times")
    shown = client.page("/models")
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
    keep_report(services, champion, **known)  # as a release before did
    shown = client.page("/models")
    assert "For 41 cars of the fleet" in shown
    assert not re.search("left out|Bookings fell", shown)
    keep_report(services, champion)
    assert "cars of the fleet" not in client.page("/models")


def test_the_real_errors_are_charted_beside_that_of_the_training(
    champion: int, client: Visitor, services: Services
) -> None:
    assert 'id="matured"' not in client.page("/models")
    registry, few = services.registry, Matured(complete_through=date(2025, 3, 31), num_vehicles=29)
    enough = few.model_copy(update={"num_vehicles": 41, "mae": 1.57, "bias": -1.25, "coverage": 0.615})
    registry.keep_matured(registry.version(champion), enough, at=AS_OF)
    for matured, text in (
        (few, "29 matured since the training, too few"),
        (enough.model_copy(update={"is_worse": True}), "Worse than in training"),
    ):
        keep_report(services, champion, matured=matured)
        shown = client.page("/models")
        assert text in shown
        assert re.search("2025-03-31<.*1.57<.*1.00<.*−1.2<.*61.5%<.*41<", shown)  # noqa: RUF001 - a minus


def test_promotions_are_listed_and_what_was_moved_by_hand_can_be_rolled_back(
    champion: int, models: Models, client: Visitor, services: Services
) -> None:
    add_record(services, version=champion)
    assert NO_EARLIER in client.page("/models")
    models.crown(models.register(6.0))
    shown = client.page("/models")
    assert "moved by hand" in shown
    assert NO_EARLIER not in shown
    assert len(services.promotions.history()) == 1  # reading writes nothing
    models.crown(champion)
    add_record(services, version=9, reason="it is better")
    add_record(services, version=champion, reason="a drill", forced=True)
    shown = client.page("/models")
    assert not re.search(f"moved by hand|{NO_EARLIER}", shown)
    promotions = shown.partition('id="promotions"')[2]
    assert re.findall(r'<th scope="row">(\d+)<', promotions) == [str(champion), "9", str(champion)]
    assert "promoted by force" in promotions
    assert "A drill" in promotions


def test_a_refused_candidate_is_shown_and_why(
    champion: int, models: Models, client: Visitor, services: Services
) -> None:
    candidate, reason = models.register(6.0), "version 2 is not significantly better than champion 1: a drill"
    figures = {"candidate_mae": 3.4567, "champion_mae": 3.4568, "gain": 0.0001, "gain_low": -0.02}
    keep_decision(services, candidate, champion, reason=reason, num_vehicles=800, num_left_out=1, **figures)
    shown = client.page("/models")
    for text in (
        f"Candidate: model {candidate}",
        "Not promoted",
        "Version 2 is not significantly better than champion 1: a drill",
        "3.46",
        "cars, out of fold for both; 1 car under watch left out<",
    ):
        assert text in shown


def test_vehicles_left_out_are_shown(models: Models, client: Visitor, services: Services) -> None:
    learned = SnapshotRef(id="s", digest="0" * 64, num_rows=1_000, num_left_out=25, created_at=AS_OF)
    models.crown(models.register(5.0, snapshot=learned))
    services.listener.refresh()
    shown = client.page("/models")
    assert "1,000</dd>" in shown
    assert "cars; 25 cars under watch left out<" in shown
    described = client.get("/model").json
    assert (described["num_vehicles"], described["num_left_out"]) == (1_000, 25)


def test_versions_are_listed_and_two_compared_on_the_same_cars(
    champion: int, models: Models, client: Visitor, services: Services
) -> None:
    candidate = models.register(6.5, params={"num_trees": 9})
    shown = client.page("/models/compare", a=champion, b=candidate)
    assert "The two were not compared on the same cars" in shown
    assert re.search(r"num_trees</th><td[^>]*>1</td><td[^>]*>9<", shown)
    gain = SegmentGain(
        segment=SEGMENTS[0], num_vehicles=321, candidate_mae=3.1, champion_mae=3.4, low=-0.5, high=-0.1
    )
    compared = {"promote": True, "reason": "it is better", "num_vehicles": 800, "segments": (gain,)}
    keep_decision(services, candidate, champion, **compared)
    services.registry.set_tags(candidate, {"coverage": "0.8123"})
    listed = client.page("/models").partition('id="versions"')[2]
    assert re.search(
        rf'<th scope="row">{candidate}.*>promoted</span> It is better<.*81.2%<', listed, re.DOTALL
    )
    shown = client.page("/models/compare", a=candidate, b=champion)
    assert "On the same 800 cars" in shown
    assert re.search(r"321<.*3.10<.*3.40<.*-0.300<.*-0.500 to -0.100<", shown)
    for query, code in (({"a": 1}, 422), ({"a": "x", "b": 1}, 422), ({"a": champion, "b": 10**6}, 404)):
        assert client.get("/models/compare", query_string=query).status_code == code


def test_diagnostics_show_residuals_and_drift_and_what_an_earlier_release_lacks(
    models: Models, client: Visitor, services: Services
) -> None:
    assert "trained by an earlier release, which kept no residuals" in client.page("/models/diagnostics")
    bins = (ResidualBin(value=4.0, residual=-1.25, standard_error=0.1, coverage=0.75, num_rows=60),)
    choice = ResidualBin(value=0.0, residual=0.5, standard_error=0.1, coverage=0.8, num_rows=30)
    found = Diagnostics(
        residuals={"forecast": bins, "num_images": bins, "technology": (choice,)},
        errors=Histogram(edges=(-1.0, 0.0, 1.0), counts=(10, 20, 25, 5)),
    )
    reference = {
        "num_images": Histogram(edges=(2.0, 3.0), counts=(30, 30, 0)),
        "technology": Histogram(edges=(0.0, 1.0), counts=(20, 40, 0)),
        "street_parked": Histogram(edges=(-5e-324, 0.0), counts=(0, 57, 3)),
        "description": Histogram(edges=(299.9999999999999, 300.0), counts=(0, 60, 0)),
    }
    version = models.register(5.0, diagnostics=found, reference=reference)
    drift = FeatureDrift(feature="num_images", psi=0.31, verdict="large drift", counts=(150, 50, 0))
    booking = FeatureDrift(feature="technology", psi=0.01, verdict="steady", counts=(50, 150, 0))
    parking = FeatureDrift(feature="street_parked", psi=0.5, verdict="large drift", counts=(0, 160, 40))
    written = FeatureDrift(feature="description", psi=0.5, verdict="large drift", counts=(40, 160, 0))
    keep_report(services, version, features=(drift, booking, parking, written))
    models.crown(version)
    services.listener.refresh()
    shown = client.page("/models/diagnostics")
    for text in ("Residuals by photos", ">−1.2<", ">75.0%<", "0 to 1<", "Photos: PSI 0.31, large drift"):  # noqa: RUF001
        assert text in shown
    assert re.search("up to 2<.*75.0%<.*50.0%<.*150<.*\n?.*>3<.*25.0%<", shown)
    assert re.search("In person</th><td[^>]*>\\+0.5<", shown)
    assert re.search(">In person<.*25.0%<.*33.3%<.*>Instant, by phone<.*75.0%<", shown, re.DOTALL)
    assert re.search('data-v="0">Own space<.*80.0%<.*95.0%<.*data-v="1">Street<.*20.0%<', shown)
    assert re.search('data-v="0">below 300<.*20.0%<.*data-v="1">300<.*80.0%<.*100.0%<', shown)


def test_unchanged_data_is_said_at_the_button(
    champion: int, models: Models, client: Visitor, services: Services
) -> None:
    offline = OfflineStore(services.settings.offline_store)
    seed(services.source, SAMPLE)
    assert "Nothing was saved" not in client.page("/feature-stores")
    materialize(services.source, offline, services.online, now=now())
    assert "Nothing was saved, changed or booked" in client.page("/feature-stores")
    assert "The data has not changed" not in client.page("/models")
    digest = offline.current().digest
    services.registry.set_tags(champion, {"snapshot_digest": digest})
    assert f"The data has not changed since model {champion} was trained on it." in client.page("/models")
    keep_decision(services, models.register(6.0), champion, snapshot_digest=digest)
    assert "The two were compared on this data already" in client.page("/models")
    client.save()
    assert "Nothing was saved" not in client.page("/feature-stores")


def test_a_rollback_and_a_promotion_by_hand_need_a_reason(client: Visitor, services: Services) -> None:
    client.sign_in()
    before = services.audit_log.entries()
    for path in ("/operations/rollback", "/operations/promote/1"):
        for reason in ({}, {"reason": "  "}):
            answer = client.send(path, confirmed="yes", **reason)
            assert answer.status_code == 200
            assert 'name="reason" required' in answer.text
    assert services.audit_log.entries() == before
    assert client.send("/operations/promote/1", confirmed="yes", reason="vans").status_code == 303
    assert services.audit_log.entries()[0].reason == "vans"


def test_an_operation_is_offered_to_the_operator_alone_and_confirmed_first(client: Visitor) -> None:
    assert 'id="start-train"' not in client.page("/models")
    client.sign_in()
    shown = client.page("/models")
    assert 'id="start-train" disabled>Train a model<' in shown  # nothing listens where Prefect should
    assert "Prefect is not reachable, so nothing can be started here." in shown
    assert "Prefect is not reachable." in client.page("/runs")
    asked = client.send("/operations/train").text
    assert "Train a model on the latest snapshot?" in asked
    assert 'name="confirmed" value="yes"' in asked


def test_the_page_does_not_wait_for_the_registry(client: Visitor, proxy: FaultyProxy) -> None:
    with client.session_transaction() as session:
        session["_flashes"] = [("good", "Read again.")]
    proxy.fault = "hang"
    parts = client.get("/models", headers=HTML).iter_encoded()
    head = next(parts).decode()
    assert "</nav>" in head
    assert "<h1>Models</h1>" in head
    proxy.heal()
    rest = b"".join(parts).decode()
    assert "Champion: model" in rest
    assert "The registry cannot be read" not in rest
    assert rest.rstrip().endswith("</html>")
    assert "Read again." in head + rest
    assert "Read again." not in client.page("/models")
