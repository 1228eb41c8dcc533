"""What an operator should know of: checked every few seconds, beside the requests."""

import asyncio
import logging
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from vroom_features.errors import VroomFeaturesError
from vroom_features.online.store import translated
from vroom_model.errors import VroomModelError
from vroom_model.records import Decision, MonitorReport
from vroom_model.webhook import post
from webapp.observability import ALERTS
from webapp.prefect_client import WorkflowError
from webapp.services import Services
from webapp.serving.store_state import feature_name, online_state

logger = logging.getLogger(__name__)
INTERVAL_S = 15.0
COVERAGE_MARGIN = 0.05
Kind = Literal[
    "drift", "bookings", "error", "coverage", "candidate", "run", "workers", "online_store", "redis"
]
TRANSIENT = frozenset({"workers", "online_store"})
"""A swap or a save explains these for a moment, so they are raised when two checks in a row found them."""

SEEN_HERE_ALONE = TRANSIENT | {"redis", "coverage"}
"""Posted to the webhook from here; flows post what they find."""
POSTED_FOR_S = 3600
"""One worker posts, and none again for this long."""


@dataclass(frozen=True, slots=True)
class Alert:
    """Something to look into, and the endpoint of the page that shows it."""

    kind: Kind
    text: str
    page: str = "models.show"


class AlertWatch:
    """Keep the alerts of this moment, in a thread of its own."""

    def __init__(self) -> None:
        self.current: tuple[Alert, ...] = ()
        self._found_before: set[Kind] = set()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, app: Services) -> None:
        self._thread = threading.Thread(target=self._run, args=(app,), name="alerts", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread:
            self._thread.join(timeout=10)

    def check(self, app: Services) -> None:
        """Read everything once; a service that cannot be read raises no alert here, its page says so."""
        found: list[Alert] = []
        for read in (_of_models, _of_runs, _of_workers, _of_online_store):
            try:
                found += read(app)
            except (VroomModelError, VroomFeaturesError, WorkflowError) as exc:
                logger.debug("not checked: %s", exc)
        before = {alert.kind for alert in self.current}
        self.current = tuple(
            alert for alert in found if alert.kind not in TRANSIENT or alert.kind in self._found_before
        )
        for alert in self.current:
            if alert.kind in SEEN_HERE_ALONE and alert.kind not in before:
                _post(app, alert)
        self._found_before = {alert.kind for alert in found}
        raised = {alert.kind for alert in self.current}
        for kind in get_args(Kind):
            ALERTS.labels(kind).set(kind in raised)

    def _run(self, app: Services) -> None:
        while not self._stopping.is_set():
            self.check(app)
            self._stopping.wait(INTERVAL_S)


def _post(app: Services, alert: Alert) -> None:
    def claim() -> bool:
        key = f"{app.online.prefix}:alert:{alert.kind}"
        with translated():
            return bool(app.redis.set(key, alert.text, nx=True, ex=POSTED_FOR_S))

    # Without Redis each worker posts.
    if app.settings.webhook_url and app.heartbeat.try_redis(claim) is not False:
        asyncio.run(post(app.settings, {"event": "alert", "text": alert.text, "kind": alert.kind}))


def _of_models(app: Services) -> Iterator[Alert]:
    champion, candidate = app.registry.champion(), app.registry.candidate()
    if champion and (report := MonitorReport.from_tag(champion, "monitor")):
        if report.drifted:
            yield Alert(
                "drift", f"Large drift: {', '.join(map(feature_name, report.drifted))}", "models.diagnose"
            )
        if report.lost_bookings:
            yield Alert("bookings", f"Bookings fell: {report.lost_bookings}")
        if report.matured and report.matured.is_worse:
            yield Alert("error", "The champion's real error is worse than in training")
        yield from _of_coverage(app, report)
    if candidate and candidate != champion:
        decision = Decision.from_tag(candidate, "decision")
        if decision and not decision.promote:
            yield Alert("candidate", f"Model {candidate.version} was not promoted")


def _of_coverage(app: Services, report: MonitorReport) -> Iterator[Alert]:
    """Compare the share of outcomes in their range with the target, where it is more than chance."""
    model = app.slot.current
    if model is None or model.version != report.version:
        return
    target, matured, known = model.predictor.manifest.coverage, report.matured, report.outcomes
    seen, num = (known.held, known.num_vehicles) if known else (target, 1)
    if matured and matured.coverage is not None:
        seen, num = matured.coverage, matured.num_vehicles
    chance = 2 * math.sqrt(target * (1 - target) / num)
    if abs(seen - target) >= max(COVERAGE_MARGIN, chance):
        yield Alert("coverage", f"{seen:.0%} of outcomes are in their range, not {target:.0%}")


def _of_runs(app: Services) -> Iterator[Alert]:
    last = {run.flow: run for run in reversed(app.prefect.recent())}
    for flow, run in sorted(last.items()):
        if run.state_type in {"FAILED", "CRASHED"}:
            yield Alert("run", f"The last run of {flow.removeprefix('vroom_forecast_')} failed", "runs.show")


def _of_workers(app: Services) -> Iterator[Alert]:
    workers = app.heartbeat.workers() or []
    if len(versions := {worker.model_version for worker in workers}) > 1:
        served = " and ".join(sorted(str(version or "none") for version in versions))
        yield Alert("workers", f"The web workers serve different models: {served}", "system.show")
    elif any(worker.problem for worker in workers):
        yield Alert("workers", "A web worker cannot load the champion", "system.show")


def _of_online_store(app: Services) -> Iterator[Alert]:
    state = online_state(app)
    if state.problem:
        yield Alert("online_store", "The online store is not in use", "feature_stores.show")
    elif not state.is_in_sync:
        yield Alert("online_store", "The online store is behind the database", "feature_stores.show")
    if state.warning:
        yield Alert("redis", state.warning, "feature_stores.show")
