"""What flows write on a version in the registry, read back on the models page."""

import html
from datetime import UTC, datetime

import pytest
from flask.testing import FlaskClient

from tests.webapp.records import add_record
from tests.webapp.registry import Models
from vroom_model.manifest import SnapshotRef
from vroom_model.records import Decision, FeatureDrift, MonitorReport, Outcomes
from vroom_model.registry.registry import Registry
from webapp.services import Services

AS_OF = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
DRIFT = (
    FeatureDrift(feature="price_diff", psi=0.3141, verdict="large drift"),
    FeatureDrift(feature="num_images", psi=0.0271, verdict="steady"),
    FeatureDrift(feature="description", psi=None, verdict="too few"),
)
OUTCOMES = Outcomes(num_vehicles=41, mean_forecast=6.26, mean_outcome=7.74, mae=3.2, held=0.829)


def page(client: FlaskClient) -> str:
    """Return the models page as text."""
    answer = client.get("/models")
    assert answer.status_code == 200
    return html.unescape(answer.text)


@pytest.mark.parametrize("outcomes", [None, OUTCOMES])
def test_the_models_page_tells_what_the_monitor_found(
    champion: int, models: Models, client: FlaskClient, outcomes: Outcomes | None
) -> None:
    report = MonitorReport(
        version=champion,
        as_of=AS_OF,
        num_arrivals=1_234,
        features=DRIFT,
        outcomes=outcomes,
        num_left_out=1_025,
    )
    assert "Nobody has looked yet" in page(client)
    with Registry(models.url, models.name) as registry:
        registry.set_tags(champion, {"monitor": report.model_dump_json()})
    shown = page(client)
    for found in DRIFT:
        assert found.verdict in shown
    assert "0.31<" in shown
    assert "0.03<" in shown
    assert "1,234 new arrivals" in shown
    if outcomes:
        assert "Of 41 cars of the fleet, each forecast by a model that had not seen it" in shown
        assert "6.3 were expected and 7.7 booked" in shown
        assert "lay within their range; 1,025 booked cars from the web form left out." in shown
    else:
        assert "were expected" not in shown


def test_the_models_page_tells_that_the_alias_was_moved_by_hand(
    champion: int, models: Models, client: FlaskClient, services: Services
) -> None:
    add_record(services, version=champion)
    assert "moved by hand" not in page(client)
    models.crown(models.register(6.0))
    shown = page(client)
    assert "moved by hand" in shown
    assert "There is no earlier champion to go back to." not in shown
    assert len(services.promotions.history()) == 1  # seeing it writes nothing


def test_the_models_page_tells_why_the_candidate_was_refused(
    champion: int, models: Models, client: FlaskClient
) -> None:
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
    )
    with Registry(models.url, models.name) as registry:
        registry.set_alias("candidate", candidate)
        registry.set_tags(candidate, {"decision": decision.model_dump_json(exclude_none=True)})
    shown = page(client)
    assert decision.reason.removeprefix("v") in shown  # a sentence there: its first letter is a capital
    assert "3.46" in shown
    assert "cars, each unseen by both; 1 booked car from the web form left out<" in shown


def test_the_models_page_tells_how_many_vehicles_the_model_did_not_learn_from(
    models: Models, client: FlaskClient, services: Services
) -> None:
    learned = SnapshotRef(id="s", digest="0" * 64, num_rows=1_000, num_left_out=25, created_at=AS_OF)
    models.crown(models.register(5.0, snapshot=learned))
    services.listener.refresh()
    assert "1,000</dd>" in page(client)
    assert "cars; 25 booked cars from the web form left out<" in page(client)
    described = client.get("/model").json
    assert (described["num_vehicles"], described["num_left_out"]) == (1_000, 25)


def test_what_was_written_before_vehicles_were_left_out_is_shown_as_it_was(
    champion: int, models: Models, client: FlaskClient
) -> None:
    report = MonitorReport(version=champion, as_of=AS_OF, num_arrivals=7, features=DRIFT, outcomes=OUTCOMES)
    with Registry(models.url, models.name) as registry:
        registry.set_tags(champion, {"monitor": report.model_dump_json(exclude={"num_left_out"})})
    assert "Of 41 cars of the fleet" in page(client)
    assert "left out" not in page(client)
