"""A revision of this repository that is installed and run beside another one.

It is used only as people and Prefect use it: make, the commands, settings, HTTP, the deployments named in
its prefect.yaml, MLflow's REST API and the Redis channel of promotions.  Nothing of its inside is imported
here, so that the inside may differ between the two.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from benchmarks.processes import ROOT, Cost, cost, running, wait_for
from tests.ports import free_port

NOT_INHERITED = ("VROOM_", "PREFECT_", "MLFLOW_", "PYTHON", "VIRTUAL_ENV", "MAKE", "MFLAGS")
MODEL = "vroom-forecast"
TIMEOUT_S = 240
PROMOTED_CHANNEL = "vroom-forecast:model-promoted"
RUN_FLOW = """
import asyncio, json, sys
import yaml
from prefect.flows import load_flow_from_entrypoint
with open("prefect.yaml") as file:
    deployments = {one["name"]: one["entrypoint"] for one in yaml.safe_load(file)["deployments"]}
state = load_flow_from_entrypoint(deployments[sys.argv[1]])(**json.loads(sys.argv[2]), return_state=True)
if asyncio.iscoroutine(state):
    state = asyncio.run(state)
print(state.message)
sys.exit(not state.is_completed())
"""


@dataclass(frozen=True)
class Figure:
    """A measured value, and the bound that it should keep to."""

    name: str
    value: float
    keep: str = ""


@dataclass
class Revision:
    """A worktree with its environment, a folder for what it writes, and where its services are.

    Parameters
    ----------
    name : str
        What the results call it.
    tree : Path
        The worktree.
    home : Path
        Folder that it may write to.
    services : dict
        Environment variables that lead to the servers started for it.
    """

    name: str
    tree: Path
    home: Path
    services: dict[str, str] = field(default_factory=dict)

    @property
    def python(self) -> str:
        """The Python of its environment."""
        return str(self.tree / ".venv" / "bin" / "python")

    def environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of its programs: the caller's without anything that configures them."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)},
            "PATH": f"{Path(self.python).parent}{os.pathsep}{os.environ['PATH']}",
            "PREFECT_HOME": str(self.home / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            **self.services,
            **settings,
        }

    def run(self, *arguments: str, settings: Mapping[str, str] | None = None) -> Cost:
        """Run its Python to the end."""
        return cost([self.python, *arguments], cwd=self.tree, environment=self.environment(settings or {}))

    def run_flow(self, deployment: str, settings: Mapping[str, str], **parameters: object) -> Cost:
        """Run the flow of a deployment in a fresh process."""
        return self.run("-c", RUN_FLOW, deployment, json.dumps(parameters), settings=settings)

    def fill_stores(self, data: Path, settings: Mapping[str, str]) -> None:
        """Seed from a folder of CSVs and write the offline store."""
        self.run("-m", "vroom_features", "seed", "--data-dir", str(data), settings=settings)
        self.run("-m", "vroom_features", "materialize", "--redis-url=", settings=settings)

    def version(self, model: str, alias: str) -> int:
        """Return the version that an alias of a registered model stands for."""
        answer = httpx.get(self._alias_url, params={"name": model, "alias": alias}, timeout=TIMEOUT_S)
        return int(answer.raise_for_status().json()["model_version"]["version"])

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Let an alias of a registered model stand for a version."""
        body = {"name": model, "alias": alias, "version": str(version)}
        httpx.post(self._alias_url, json=body, timeout=TIMEOUT_S).raise_for_status()

    @property
    def _alias_url(self) -> str:
        return f"{self.services['VROOM_MLFLOW_URI']}/api/2.0/mlflow/registered-models/alias"

    @contextmanager
    def prefect(self) -> Iterator[None]:
        """Serve Prefect for the time of the block."""
        port = free_port()
        command = [self.python, "-m", "prefect", "server", "start", "--port", str(port)]
        with running(command, self.environment({}), self.home / "prefect.log", cwd=self.tree):
            wait_for(f"http://127.0.0.1:{port}/api/health", timeout_s=TIMEOUT_S)
            self.services["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
            yield

    @contextmanager
    def web_app(self, settings: Mapping[str, str]) -> Iterator[tuple[str, psutil.Process]]:
        """Serve the web app for the time of the block; give its address and its process."""
        port = free_port()
        Path(settings["VROOM_HOME"]).mkdir(exist_ok=True)
        environment = self.environment({**settings, "VROOM_WEB_PORT": str(port)})
        log = self.home / "web.log"
        with running([self.python, "-m", "webapp"], environment, log, cwd=self.tree) as process:
            try:
                wait_for(f"http://127.0.0.1:{port}/health", status="ok", timeout_s=TIMEOUT_S)
            except TimeoutError as exc:
                raise RuntimeError(f"{self.name}: {exc}:\n{log.read_text()[-3000:]}") from exc
            yield f"http://127.0.0.1:{port}", process


@contextmanager
def installed(name: str, revision: str, folder: Path) -> Iterator[Revision]:
    """Check a revision out and install it as its own Makefile does; remove the worktree at the end."""
    made = Revision(name, folder / f"tree-{name}", folder / f"home-{name}")
    made.home.mkdir()
    git("worktree", "add", "--quiet", "--detach", str(made.tree), revision)
    try:
        make = ["make", "--silent", "install-dev", f"PYTHON={sys.base_prefix}/bin/python3"]
        cost(make, cwd=made.tree, environment=made.environment({}))
        yield made
    finally:
        git("worktree", "remove", "--force", str(made.tree))


def commit_of(revision: str) -> str:
    """Return the commit that a name stands for.

    Raises
    ------
    SystemExit
        If there is none.
    """
    try:
        return git("rev-parse", "--verify", "--quiet", "--short", f"{revision}^{{commit}}")
    except subprocess.CalledProcessError:
        raise SystemExit(
            f"{revision!r} is no revision of this repository; give a branch, a tag or a commit"
        ) from None


def git(*arguments: str) -> str:
    """Run git in the caller's repository and return what it printed."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()
