"""The champion opened by MLflow itself, in a process of its own."""

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

from tests.factories import VEHICLE
from tests.ports import free_port
from tests.promises.system import wait_until
from vroom_features.settings import Settings
from vroom_model.registry.registry import Registry
from vroom_model.serving.predictor import FORECAST_COLUMNS
from vroom_model.training.register import register_candidate
from vroom_model.training.train import TrainedModel
from webapp.app import create_app

pytestmark = pytest.mark.packaging
VEHICLES = [VEHICLE, VEHICLE | {"actual_price": 70.5, "num_images": 1}, VEHICLE | {"description": 0}]


def answers_of_the_web_app(registry: Registry, home: Path) -> pd.DataFrame:
    settings = Settings(
        _env_file=None, home=home, mlflow_uri=str(registry.address), model_name=registry.model_name
    )
    app = create_app(settings)
    with closing(app.extensions["vroom"]):
        client = app.test_client()
        wait_until(lambda: client.get("/health").json["model_version"] == 1, timeout_s=60)
        made = [client.post("/predict", json=vehicle).json for vehicle in VEHICLES]
    rows = [
        (each["predicted_reservations"], each["interval"]["low"], each["interval"]["high"]) for each in made
    ]
    return pd.DataFrame(rows, columns=FORECAST_COLUMNS)


def test_mlflow_serves_the_champion_with_the_answers_of_the_web_app(
    registry: Registry, trained: TrainedModel, tmp_path: Path
) -> None:
    registry.set_alias("champion", register_candidate(registry, trained).version.version)
    port = str(free_port())
    command = ["mlflow", "models", "serve", "--env-manager", "local", "--host", "127.0.0.1", "--port", port]
    command += ["--model-uri", f"models:/{registry.model_name}@champion"]
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": str(registry.address),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }

    def answer(rows: list[dict[str, Any]]) -> httpx.Response:
        url = f"http://127.0.0.1:{port}/invocations"
        return httpx.post(url, json={"dataframe_records": rows}, timeout=30)

    broken = [
        ("num_images", {name: value for name, value in VEHICLE.items() if name != "num_images"}),
        ("num_images", VEHICLE | {"num_images": "four"}),
        ("description", VEHICLE | {"description": None}),
        ("actual_price", VEHICLE | {"actual_price": None}),
        ("recommended_price", VEHICLE | {"recommended_price": "cheap"}),
    ]
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as server,
    ):
        try:
            wait_until(lambda: answer(VEHICLES).is_success, timeout_s=120)
            found = pd.DataFrame(answer(VEHICLES).json()["predictions"])
            refused = [(name, answer([row])) for name, row in broken]
        finally:
            server.terminate()
    pd.testing.assert_frame_equal(found, answers_of_the_web_app(registry, tmp_path), rtol=1e-12)
    for name, response in refused:
        assert response.status_code == 400
        assert name in response.text
