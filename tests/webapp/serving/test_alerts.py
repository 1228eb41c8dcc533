"""What an operator is alerted to: on each page, in /health and in the metrics."""

from datetime import UTC, date, datetime

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr

from tests.flows.receiver import receiving
from tests.promises.system import wait_until
from tests.webapp.conftest import Models, running_app, save, sign_in
from tests.webapp.pages.test_pages import page
from vroom_features.settings import Settings
from vroom_model.records import Decision, FeatureDrift, Matured, MonitorReport, Outcomes
from webapp.services import Services, now
from webapp.serving.worker_heartbeat import WorkerState

STEADY = {"num_arrivals": 500, "features": (), "outcomes": None, "as_of": datetime(2026, 1, 1, tzinfo=UTC)}
OUTCOMES = Outcomes(num_vehicles=800, mean_forecast=6.3, mean_outcome=6.2, mae=3.2, held=0.7)
MATURED = Matured(complete_through=date(2025, 3, 31), num_vehicles=400, mae=3.4, bias=0.1, coverage=0.8)
DRIFTED = FeatureDrift(feature="price_diff", psi=0.31, verdict="large drift")


def raised(services: Services, client: FlaskClient) -> list[str]:
    services.alerts.check(services)
    health = client.get("/health").json
    assert health["status"] == "ok"
    found: list[str] = health["alerts"]
    return found


@pytest.mark.parametrize(
    ("kind", "found", "texts"),
    [
        ("drift", {"features": (DRIFTED,)}, ["Large drift: Price against the market"]),
        ("bookings", {"lost_bookings": "booked 260 times"}, ["Bookings fell: booked 260 times"]),
        (
            "error",
            {"matured": MATURED.model_copy(update={"is_worse": True})},
            ["The champion's real error is worse than in training"],
        ),
        ("coverage", {"outcomes": OUTCOMES}, ["70% of outcomes are in their range, not 80%"]),
        ("coverage", {"outcomes": OUTCOMES.model_copy(update={"num_vehicles": 40})}, []),  # it may be chance
        ("coverage", {"outcomes": OUTCOMES, "matured": MATURED}, []),  # forecasts as served count for more
    ],
)
def test_what_the_monitor_found_is_shown_to_operators_alone_and_in_health_and_metrics(
    champion: int,
    client: FlaskClient,
    services: Services,
    kind: str,
    found: dict[str, object],
    texts: list[str],
) -> None:
    report = MonitorReport(**(STEADY | {"version": champion} | found))
    services.registry.set_tags(champion, {"monitor": report.model_dump_json()})
    assert raised(services, client) == texts
    assert 'id="alerts"' not in page(client, "/fleet")
    sign_in(client)
    shown = page(client, "/fleet")
    assert all(text in shown for text in texts)
    assert ("An alert" in shown) == bool(texts)
    assert f'vroom_alert{{kind="{kind}"}} {1.0 if texts else 0.0}' in client.get("/metrics").text


def test_a_refused_candidate_is_an_alert_until_it_is_champion(
    champion: int, models: Models, client: FlaskClient, services: Services
) -> None:
    services.registry.set_tags(champion, {"monitor": ""})
    candidate = models.register(6.0)
    decision = Decision(promote=False, reason="worse", candidate_version=candidate, champion_version=champion)
    services.registry.set_alias("candidate", candidate)
    services.registry.set_tags(candidate, {"decision": decision.model_dump_json()})
    assert raised(services, client) == [f"Model {candidate} was not promoted"]
    services.registry.set_alias("candidate", champion)
    assert raised(services, client) == []


def test_workers_that_serve_different_models_and_a_store_behind_are_alerts_when_it_lasts(
    champion: int, client: FlaskClient, services: Services
) -> None:
    services.registry.set_tags(champion, {"monitor": ""})
    other = WorkerState(worker="elsewhere:1", model_version=99, since=now(), problem=None, seen_at=now())
    services.redis.set(f"vroom-forecast:worker:{other.worker}", other.model_dump_json(), ex=60)
    save(client)
    services.online.clear()
    lasting = [f"The web workers serve different models: {champion} and 99"]
    lasting.append("The online store is behind the database")
    assert raised(services, client) == []
    assert raised(services, client) == lasting
    services.redis.delete(f"vroom-forecast:worker:{other.worker}")
    services.heartbeat.mark_stale()


def test_one_worker_posts_an_alert_to_the_webhook_once(champion: int, settings: Settings) -> None:
    with receiving() as receiver:
        changes = {"webhook_url": SecretStr(receiver.url), "webhook_allow_private": True}
        with running_app(settings, **changes) as app, running_app(settings, **changes) as other:
            workers = [each.extensions["vroom"] for each in (app, other)]
            wait_until(lambda: all(services.heartbeat.is_redis_up for services in workers))
            services = workers[0]
            state = WorkerState(
                worker="elsewhere:1", model_version=99, since=now(), problem=None, seen_at=now()
            )
            key = f"{services.online.prefix}:worker:{state.worker}"
            services.redis.set(key, state.model_dump_json(), ex=60)
            for _ in range(3):
                for each in workers:
                    each.alerts.check(each)
            services.redis.delete(key)
    (document,) = receiver.documents
    assert document["event"] == "alert"
    assert document["text"].startswith("The web workers serve different models")
