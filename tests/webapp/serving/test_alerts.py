"""What an operator is alerted to: on each page, in /health and in the metrics."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

import pytest
from pydantic import SecretStr

from tests.flows.receiver import receiving
from tests.webapp.conftest import Models, Visitor, keep_decision, keep_report, running_app, wait_for_redis
from vroom_features.settings import Settings
from vroom_model.records import FeatureDrift, Matured, Outcomes
from webapp.services import Services, now
from webapp.serving.worker_heartbeat import WorkerState

OUTCOMES = Outcomes(num_vehicles=800, mean_forecast=6.3, mean_outcome=6.2, mae=3.2, held=0.7)
MATURED = Matured(complete_through=date(2025, 3, 31), num_vehicles=400, mae=3.4, bias=0.1, coverage=0.8)
DRIFTED = FeatureDrift(feature="price_diff", psi=0.31, verdict="large drift")


@contextmanager
def worker_elsewhere(services: Services, *, version: int = 99, problem: str | None = None) -> Iterator[None]:
    """Have another worker say that it serves model 99."""
    state = WorkerState(
        worker="elsewhere:1", model_version=version, since=now(), problem=problem, seen_at=now()
    )
    key = f"{services.online.prefix}:worker:{state.worker}"
    services.redis.set(key, state.model_dump_json(), ex=60)
    yield
    services.redis.delete(key)


def raised(services: Services, client: Visitor) -> list[str]:
    services.alerts.check(services)
    health = client.health()
    assert health["status"] == "ok"
    return list(health["alerts"])


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
    client: Visitor,
    services: Services,
    kind: str,
    found: dict[str, object],
    texts: list[str],
) -> None:
    keep_report(services, champion, **found)
    assert raised(services, client) == texts
    assert 'id="alerts"' not in client.page("/fleet")
    client.sign_in()
    shown = client.page("/fleet")
    assert all(text in shown for text in texts)
    assert ("An alert" in shown) == bool(texts)
    assert f'vroom_alert{{kind="{kind}"}} {1.0 if texts else 0.0}' in client.get("/metrics").text


def test_a_refused_candidate_is_an_alert_until_it_is_champion(
    champion: int, models: Models, client: Visitor, services: Services
) -> None:
    services.registry.set_tags(champion, {"monitor": ""})
    candidate = models.register(6.0)
    keep_decision(services, candidate, champion)
    assert raised(services, client) == [f"Model {candidate} was not promoted"]
    services.registry.set_alias("candidate", champion)
    assert raised(services, client) == []


def test_workers_that_serve_different_models_and_a_store_behind_are_alerts_when_it_lasts(
    champion: int, client: Visitor, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.registry.set_tags(champion, {"monitor": ""})
    client.save()
    monkeypatch.setattr(services.heartbeat, "_sync_store", lambda: None)  # it stays behind
    services.online.clear()
    with worker_elsewhere(services):
        assert raised(services, client) == []
        assert raised(services, client) == [
            f"The web workers serve different models: {champion} and 99",
            "The online store is behind the database",
        ]
    with worker_elsewhere(services, version=champion, problem="checksums differ"):
        assert "A web worker cannot load the champion" in raised(services, client)
    monkeypatch.undo()
    services.heartbeat.mark_stale()


def test_one_worker_posts_an_alert_to_the_webhook_once(champion: int, settings: Settings) -> None:
    with receiving() as receiver:
        changes = {"webhook_url": SecretStr(receiver.url), "webhook_allow_private": True}
        with running_app(settings, **changes) as one, running_app(settings, **changes) as other:
            for client in (one, other):
                wait_for_redis(client.services)
            with worker_elsewhere(one.services):
                for client in (one, other) * 3:
                    client.services.alerts.check(client.services)
    (document,) = receiver.documents
    assert document["event"] == "alert"
    assert document["text"].startswith("The web workers serve different models")
