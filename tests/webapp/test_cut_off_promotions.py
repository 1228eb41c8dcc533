"""A promotion whose process is killed half-way: the running web workers finish it by themselves."""

import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from tests.factories import VEHICLE
from tests.snapshots import read_fleet
from tests.vroom_model.champions import AS_OF, Champions
from tests.vroom_model.killing import SteppingProxy, go, start
from tests.vroom_model.promoter import Task
from tests.webapp.waiting import wait_until
from vroom_features.addresses import ServiceAddress
from vroom_features.database.vehicles import SourceStore
from vroom_features.settings import Settings
from vroom_model.registry.registry import Registry
from vroom_model.training.boosting import TrainingParams
from webapp.app import create_app


@pytest.fixture
def champions(settings: Settings, mlflow_server: str, tmp_path: Path) -> Iterator[Champions]:
    """Return a champion's and a better candidate's registry, and their history."""
    with (
        closing(SourceStore.open(settings.source_database)) as source,
        Registry(mlflow_server, settings.model_name) as registry,
    ):
        yield Champions(registry, source, tmp_path)


@pytest.fixture
def killer(mlflow_server: str) -> Iterator[SteppingProxy]:
    """Return a proxy before MLflow that kills who wants to move an alias."""
    proxy = SteppingProxy(mlflow_server)
    yield proxy
    proxy.close()


def version_of(client: FlaskClient) -> int:
    """Return which version answers now."""
    return int(client.post("/predict", json=VEHICLE).json["model_version"])


def test_a_promotion_killed_before_its_alias_moved_is_finished_by_the_running_workers(
    champions: Champions, killer: SteppingProxy, settings: Settings, mlflow_server: str, redis_url: str
) -> None:
    fleet = read_fleet()
    old = champions.register(fleet, params=TrainingParams(num_rounds=2))
    assert champions.promote(fleet).promoted
    new = champions.register(fleet, params=TrainingParams(num_rounds=8))
    apps = [
        create_app(settings.model_copy(update={"mlflow_uri": ServiceAddress(mlflow_server)}))
        for _ in range(2)
    ]
    clients = [app.test_client() for app in apps]
    assert [version_of(client) for client in clients] == [old, old]

    process = start(
        Task(
            mlflow=killer.url,
            model_name=settings.model_name,
            database=settings.source_database.url,
            redis=redis_url,
            as_of=AS_OF,
        )
    )
    killer.victim = process
    go(process)
    assert process.returncode == -signal.SIGKILL
    assert champions.champion() == old
    cut_off, _ = champions.service.history()
    assert (cut_off.version, cut_off.is_closed) == (new, False)

    wait_until(lambda: [version_of(client) for client in clients] == [new, new], timeout_s=60)
    wait_until(lambda: champions.service.history()[0].is_closed, timeout_s=60)
    assert champions.champion() == new
    assert len(champions.service.history()) == 2
    assert champions.registry.version(new).tags["decision"] == cut_off.decision
    for app in apps:
        app.extensions["vroom"].close()
