"""The locks pin what pyproject.toml asks for, and a wheel holds all that the program needs."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest
from packaging.requirements import Requirement

from tests.conftest import CERTIFICATES
from tests.promises.system import ROOT, VEHICLE, System, command_environment, running, wait_until, web_server

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT, GROUPS = PYPROJECT["project"], PYPROJECT["dependency-groups"]
PACKAGES = ("vroom_features", "vroom_model", "webapp", "flows")
NOT_IN_A_WEB_CONTAINER = {
    "matplotlib",
    "mlflow",
    "mlflow-skinny",
    "onnx",
    "pandas",
    "prefect",
    "pyarrow",
    "scipy",
}
NOT_IN_THE_ORCHESTRATOR = {
    "matplotlib",
    "mlflow",
    "mlflow-skinny",
    "numpy",
    "onnxruntime",
    "pandas",
    "pyarrow",
}
PAGES = ("/", "/arrivals", "/fleet", "/fleet.csv", "/models", "/feature-stores", "/runs", "/docs", "/sign-in")
LISTS = ("/health", "/model", "/stores", "/vehicles", "/vehicles/features", "/openapi.json", "/metrics")

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(500)]


def pins(name: str) -> set[tuple[str, str]]:
    """Return each package of a lock with its version; each has hashes."""
    lock = (ROOT / name).read_text()
    pinned = re.findall(r"^([\w.-]+)==(\S+)(?: ;.*)? \\\n +--hash=sha256:", lock, flags=re.MULTILINE)
    assert len(pinned) == len(re.findall(r"^[\w.-]+==", lock, flags=re.MULTILINE))
    assert "://" not in lock
    return set(pinned)


def asked(*extras: str) -> Iterator[Requirement]:
    """Yield what extras ask for, and the extras in them."""
    for line in (line for extra in extras for line in PROJECT["optional-dependencies"][extra]):
        requirement = Requirement(line)
        if requirement.name == PROJECT["name"]:
            yield from asked(*requirement.extras)
        else:
            yield requirement


@pytest.mark.parametrize(
    ("lock", "extras", "groups"),
    [
        ("requirements.lock", ["local"], ["build"]),
        ("requirements-dev.lock", ["all"], ["build", "dev", "docs"]),
        ("deploy/web.lock", ["web"], []),
        ("deploy/flows.lock", ["flows"], []),
        ("deploy/orchestrator.lock", ["orchestrator"], []),
        ("deploy/mlflow.lock", [], ["mlflow"]),
    ],
)
def test_a_lock_pins_what_is_asked_for(lock: str, extras: list[str], groups: list[str]) -> None:
    pinned = pins(lock)
    assert pinned <= pins("requirements-dev.lock")
    for requirement in [*asked(*extras), *(Requirement(line) for name in groups for line in GROUPS[name])]:
        versions = [version for name, version in pinned if name == requirement.name.lower()]
        assert any(map(requirement.specifier.contains, versions)), requirement


def test_every_extra_installs_from_wheels_on_linux_and_macs() -> None:
    made = subprocess.run(["make", "lock-check"], cwd=ROOT, env=online(), capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert made.stdout.count("wheels alone") == 12


def online() -> dict[str, str]:
    """Return the environment with the certificates that other tests do without."""
    environment = {name: value for name, value in command_environment().items() if name not in CERTIFICATES}
    return environment | {name: os.environ[kept] for name, kept in CERTIFICATES.items() if kept in os.environ}


def uv(*arguments: object) -> str:
    """Run uv, and return what it prints."""
    command = [Path(sys.executable).with_name("uv"), *map(str, arguments)]
    return subprocess.run(command, env=online(), check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    uv("build", "--wheel", "--no-build-isolation", "--python", sys.executable, "--out-dir", folder, ROOT)
    (built,) = folder.glob("*.whl")
    return built


@dataclass(frozen=True)
class Environment:
    """A virtual environment with the wheel and what a lock pins, or nothing else."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, wheel: Path, lock: str = "") -> Self:
        uv("venv", "--python", sys.executable, folder)
        environment = cls(folder)
        install = ("pip", "install", "--python", environment.program("python"))
        if lock:
            uv(*install, "--require-hashes", "--requirements", ROOT / lock)
        uv(*install, "--no-deps", wheel)
        return environment

    def program(self, name: str) -> str:
        return str(self.folder / "bin" / name)

    def packages(self) -> set[str]:
        lines = uv("pip", "list", "--format", "freeze", "--python", self.program("python")).splitlines()
        return {line.partition("==")[0] for line in lines}

    def megabytes(self) -> float:
        return sum(path.lstat().st_size for path in (self.folder / "lib").rglob("*")) / 1e6

    def run(self, *command: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
        words = [self.program(command[0]), *command[1:]]
        return subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def started(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Install the wheel, and type `vroom up` in an empty folder."""
    installed = Environment.make(tmp_path_factory.mktemp("installed") / "env", wheel, "requirements.lock")
    folder = tmp_path_factory.mktemp("empty")
    defaults = [word for name in ("VROOM_HOME", "VROOM_DATA_DIR", "PREFECT_HOME") for word in ("-u", name)]
    command = ["env", *defaults, installed.program("vroom"), "up"]
    with running(folder / "var", ROOT / "data", command=command, cwd=folder) as system:
        yield system


def test_a_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    command = ["git", "ls-files", *PACKAGES]
    files = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    with zipfile.ZipFile(wheel) as content:
        held = {name for name in content.namelist() if not name.startswith("vroom_forecast-")}
        assert content.read("vroom_features/sample/vehicles.csv") == (ROOT / "data/vehicles.csv").read_bytes()
    assert {name for name in files if (ROOT / name).exists()} == held


def test_the_wheel_alone_has_the_feature_functions_and_says_what_else_needs(
    wheel: Path, tmp_path: Path
) -> None:
    alone = Environment.make(tmp_path / "env", wheel)
    assert alone.packages() == {"vroom-forecast"}
    price_diff = "import vroom_features; print(vroom_features.price_diff(45.0, 50.0))"
    assert alone.run("python", "-c", price_diff, cwd=tmp_path).stdout == "-5.0\n"
    for command in (["vroom"], ["python", "-m", "vroom_features"]):
        assert alone.run(*command, "--version", cwd=tmp_path).stdout == f"{PROJECT['version']}\n"
    for word, extra in (("seed", "stores"), ("up", "local"), ("web", "web"), ("worker", "orchestrator")):
        refused = alone.run("vroom", word, cwd=tmp_path)
        assert refused.returncode == 1
        assert re.fullmatch(
            rf"\w+ is not installed; run: pip install 'vroom-forecast\[{extra}\]'\n", refused.stderr
        )


def test_vroom_up_in_an_empty_folder_does_the_main_job_and_serves(started: System) -> None:
    folder = started.home.parent
    assert {path.name for path in folder.iterdir()} == {"prefect.toml", "var"}
    assert len(started.sql("SELECT vehicle_id FROM vehicles")) == 1000
    assert started.get("/").status_code == 200
    predicted, version = started.forecast()
    assert predicted > 0
    wait_until(lambda: started.serves(version), timeout_s=60)
    assert "no watch has ended" not in started.run("vroom_forecast_monitor")  # a run from here, too


def test_a_web_container_serves_without_the_libraries_that_train(
    started: System, wheel: Path, tmp_path: Path
) -> None:
    container = Environment.make(tmp_path / "env", wheel, "deploy/web.lock")
    assert container.packages() & NOT_IN_A_WEB_CONTAINER == set()
    assert not [name for name in container.packages() if name.startswith(("xgboost", "scikit"))]
    assert len(container.packages()) <= 60
    assert container.megabytes() <= 300
    services = {
        "VROOM_HOME": tmp_path / "var",
        "VROOM_DATABASE_URL": f"sqlite:///{started.home / 'vroom.db'}",
        "VROOM_OFFLINE_URL": started.home / "offline",
    }
    environment = {
        name: value for name, value in started.environment.items() if not name.startswith("PYTHON")
    }
    command = [container.program("vroom"), "web"]
    with web_server(environment, program=tmp_path, command=command, **services) as web:
        wait_until(lambda: web.health()["status"] == "ok", timeout_s=60)  # after the first heartbeat
        assert web.forecast() == started.forecast()
        assert web.post("/predict/batch", [VEHICLE, VEHICLE]).is_success
        assert web.post("/predict/id", {"vehicle_id": web.save()}).is_success
        failed = [
            path for path in (*PAGES, *LISTS) if web.get(path, follow_redirects=True).status_code != 200
        ]
        assert failed == []


def test_the_orchestrator_holds_no_library_that_computes(wheel: Path, tmp_path: Path) -> None:
    container = Environment.make(tmp_path / "env", wheel, "deploy/orchestrator.lock")
    assert container.packages() & NOT_IN_THE_ORCHESTRATOR == set()
    assert not [name for name in container.packages() if name.startswith(("xgboost", "scikit"))]
    server = "from flows.local.prefect_server import create_app; create_app()"
    assert container.run("python", "-c", server, cwd=tmp_path).returncode == 0
    assert container.run("vroom", "worker", "--help", cwd=tmp_path).returncode == 0
