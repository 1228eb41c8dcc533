"""The champion opened with MLflow's stock client, in a process of its own, beside the web app."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

from tests.ports import free_port
from tests.promises.system import wait_until
from tests.snapshots import SAMPLE
from vroom_features.settings import Settings
from vroom_model.registry.registry import Registry
from vroom_model.serving.predictor import FORECAST_COLUMNS
from vroom_model.training.register import register_candidate
from vroom_model.training.train import TrainedModel
from webapp.app import create_app

pytestmark = pytest.mark.packaging

CLIENT = """
import mlflow, pandas as pd, sys
model = mlflow.pyfunc.load_model(sys.argv[1])
frame = pd.read_csv(sys.argv[2], index_col="vehicle_id").loc[[700, 5, 3]]
model.predict(frame).to_json(sys.stdout, orient="split", double_precision=15)
for refused in (
    frame.drop(columns="num_images"),
    frame.assign(num_images="four"),
    frame.assign(description=None),
    frame.assign(actual_price=float("nan")),
    frame.assign(recommended_price="cheap"),
):
    try:
        model.predict(refused)
    except Exception as exc:
        print(str(exc).replace("\\n", " ")[-400:], file=sys.stderr)
"""


@pytest.fixture(scope="module")
def champion(mlflow_server: str, trained: TrainedModel) -> Iterator[Registry]:
    with Registry(mlflow_server, f"vroom-{uuid.uuid4().hex[:8]}") as registry:
        registry.set_alias("champion", register_candidate(registry, trained).version.version)
        yield registry


def environment(registry: Registry) -> dict[str, str]:
    return os.environ | {
        "MLFLOW_TRACKING_URI": str(registry.address),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


@pytest.fixture(scope="module")
def expected(champion: Registry, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Return what `POST /predict` answers."""
    vehicles = pd.read_csv(SAMPLE / "vehicles.csv", index_col="vehicle_id").loc[[700, 5, 3]]
    settings = Settings(
        _env_file=None,
        home=tmp_path_factory.mktemp("web"),
        mlflow_uri=str(champion.address),
        model_name=champion.model_name,
    )
    app = create_app(settings)
    try:
        client = app.test_client()
        wait_until(lambda: client.get("/health").json["model_version"] == 1, timeout_s=60)
        rows = [
            client.post("/predict", json=row).json for row in json.loads(vehicles.to_json(orient="records"))
        ]
    finally:
        app.extensions["vroom"].close()
    values = [
        (row["predicted_reservations"], row["interval"]["low"], row["interval"]["high"]) for row in rows
    ]
    return pd.DataFrame(values, columns=FORECAST_COLUMNS, index=vehicles.index)


def test_mlflows_client_forecasts_a_frame_of_raw_columns_as_the_web_app_does(
    champion: Registry, expected: pd.DataFrame, tmp_path: Path
) -> None:
    uri = f"models:/{champion.model_name}@champion"
    command = [sys.executable, "-c", CLIENT, uri, str(SAMPLE / "vehicles.csv")]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(champion), check=True, capture_output=True, text=True
    )
    found = pd.read_json(StringIO(done.stdout), orient="split")
    pd.testing.assert_frame_equal(found, expected, check_names=False, rtol=1e-12)
    refusals = done.stderr.splitlines()[-5:]
    for column, refusal in zip(
        ("num_images", "num_images", "description", "actual_price", "recommended_price"),
        refusals,
        strict=True,
    ):
        assert column in refusal


def test_mlflow_serves_the_champion_with_the_answers_of_the_web_app(
    champion: Registry, expected: pd.DataFrame, tmp_path: Path
) -> None:
    port = str(free_port())
    command = ["mlflow", "models", "serve", "--env-manager", "local", "--host", "127.0.0.1", "--port", port]
    command += ["--model-uri", f"models:/{champion.model_name}@champion"]
    vehicles = pd.read_csv(SAMPLE / "vehicles.csv", index_col="vehicle_id").loc[expected.index]
    body = {"dataframe_split": json.loads(vehicles.to_json(orient="split"))}

    def answer(body: Any) -> httpx.Response:
        return httpx.post(f"http://127.0.0.1:{port}/invocations", json=body, timeout=30)

    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(command, env=environment(champion), stdout=log, stderr=log) as server,
    ):
        try:
            wait_until(lambda: answer(body).is_success, timeout_s=120)
            found = pd.DataFrame(answer(body).json()["predictions"], index=expected.index)
            row = vehicles.iloc[0].to_dict() | {"actual_price": None}
            refused = answer({"dataframe_records": [row]})
        finally:
            server.terminate()
    pd.testing.assert_frame_equal(found, expected, rtol=1e-12)
    assert refused.status_code == 400
    assert "nan in actual_price" in refused.text
