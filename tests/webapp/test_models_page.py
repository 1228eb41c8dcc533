"""The models page: what flows write on a version in the registry, and the promotions of the database."""

import re
from datetime import UTC, datetime

import pytest
from flask.testing import FlaskClient

from tests.webapp.conftest import Models, add_record
from tests.webapp.test_pages import page
from tests.webapp.waiting import wait_until
from vroom_model.manifest import SnapshotRef
from vroom_model.records import Decision, FeatureDrift, MonitorReport, Outcomes
from webapp.services import Services

AS_OF = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
NO_EARLIER = "There is no earlier champion to go back to."
DRIFT = (
    FeatureDrift(feature="price_diff", psi=0.3141, verdict="large drift"),
    FeatureDrift(feature="num_images", psi=0.0271, verdict="steady"),
    FeatureDrift(feature="description", psi=None, verdict="too few"),
)
OUTCOMES = Outcomes(num_vehicles=41, mean_forecast=6.26, mean_outcome=7.74, mae=3.2, held=0.829)


def test_a_check_for_drift_is_shown(champion: int, models: Models, client: FlaskClient) -> None:
    def shown_with(report: str) -> str:
        models.client.set_model_version_tag(models.name, str(champion), "monitor", report)
        return page(client, "/models")

    assert "Not checked yet" in page(client, "/models")
    values = {"version": champion, "as_of": AS_OF, "num_arrivals": 1_234, "features": DRIFT}
    report = MonitorReport(**values, outcomes=OUTCOMES, num_left_out=1_025)
    shown = shown_with(report.model_dump_json())
    for text in (
        *(found.verdict for found in DRIFT),
        "0.31<",
        "0.03<",
        "1,234 new arrivals",
        "For 41 cars of the fleet, forecast out of fold",
        "forecast was 6.3 and the mean of bookings 7.7",
        "within their range; 1,025 cars under watch left out.",
    ):
        assert text in shown
    of_a_release_before = shown_with(report.model_dump_json(exclude={"num_left_out"}))
    assert "For 41 cars of the fleet" in of_a_release_before
    assert "left out" not in of_a_release_before
    assert "cars of the fleet" not in shown_with(MonitorReport(**values, outcomes=None).model_dump_json())


def test_the_promotions_are_listed_and_a_rollback_needs_an_earlier_one(
    champion: int, models: Models, client: FlaskClient, services: Services
) -> None:
    assert NO_EARLIER in page(client, "/models")
    add_record(services, version=9, reason="it is better")
    add_record(services, version=champion, reason="a drill", forced=True)
    shown = page(client, "/models")
    assert NO_EARLIER not in shown
    assert "moved by hand" not in shown
    promotions = shown.partition('id="promotions"')[2]
    assert re.findall(r"versions/(\d+)\"", promotions) == [str(champion), "9"]
    assert "promoted by force" in promotions
    assert "A drill" in promotions


def test_an_alias_moved_by_hand_is_shown_and_can_be_rolled_back(
    champion: int, models: Models, client: FlaskClient, services: Services
) -> None:
    add_record(services, version=champion)
    models.crown(models.register(6.0))
    shown = page(client, "/models")
    assert "moved by hand" in shown
    assert NO_EARLIER not in shown
    assert len(services.promotions.history()) == 1  # reading writes nothing


def test_a_refused_candidate_is_shown_and_why(champion: int, models: Models, client: FlaskClient) -> None:
    candidate = models.register(6.0)
    decision = Decision(
        promote=False,
        reason="version 2 is not surely better than champion 1: it is a drill",
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
    assert f"Model {candidate} is the candidate" in shown
    assert "Not promoted" in shown
    assert "Version 2 is not surely better than champion 1: it is a drill" in shown
    assert "3.46" in shown
    assert "cars, out of fold for both; 1 car under watch left out<" in shown


def test_vehicles_left_out_of_training_are_shown(
    models: Models, client: FlaskClient, services: Services
) -> None:
    learned = SnapshotRef(id="s", digest="0" * 64, num_rows=1_000, num_left_out=25, created_at=AS_OF)
    models.crown(models.register(5.0, snapshot=learned))
    services.listener.refresh()
    shown = page(client, "/models")
    assert "1,000</dd>" in shown
    assert "cars; 25 cars under watch left out<" in shown
    described = client.get("/model").json
    assert (described["num_vehicles"], described["num_left_out"]) == (1_000, 25)


@pytest.mark.usefixtures("champion")
def test_workers_are_listed_with_moments_written_for_people(client: FlaskClient, services: Services) -> None:
    wait_until(lambda: services.heartbeat.is_redis_up and any(services.heartbeat.workers()))
    roster = page(client, "/models").partition('id="roster"')[2]
    assert services.worker in roster
    written = re.findall(r"<time[^>]*>([^<]*)</time>", roster)
    assert len(written) >= 2
    assert all(text.endswith(" UTC") for text in written)
