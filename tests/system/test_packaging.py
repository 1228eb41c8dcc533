"""The locks pin what pyproject.toml asks for, and a wheel holds all that the program needs."""

import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.promises.system import ROOT, command_environment

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT, GROUPS = PYPROJECT["project"], PYPROJECT["dependency-groups"]
PACKAGES = ("vroom_features", "vroom_model", "webapp", "flows")
PAGE = """
import os, webapp
from vroom_features.settings import Settings
from webapp.app import create_app

print(webapp.__file__, create_app(Settings(_env_file=None)).test_client().get("/").status_code, flush=True)
os._exit(0)
"""

pytestmark = pytest.mark.packaging


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


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--wheel", "--no-build-isolation", "--python", sys.executable, "--out-dir", str(folder)]
    subprocess.run([uv(), "build", "--quiet", *options, str(ROOT)], check=True)
    (built,) = folder.glob("*.whl")
    return built


def uv() -> str:
    return str(Path(sys.executable).with_name("uv"))


def test_a_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    command = ["git", "ls-files", *PACKAGES]
    files = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    with zipfile.ZipFile(wheel) as content:
        held = {name for name in content.namelist() if not name.startswith("vroom_forecast-")}
    assert {name for name in files if (ROOT / name).exists()} == held


def test_an_installed_wheel_seeds_a_database_and_shows_a_page(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    options = ["--quiet", "--offline", "--no-deps", "--python", sys.executable, "--target", str(site)]
    subprocess.run([uv(), "pip", "install", *options, str(wheel)], check=True)
    environment = command_environment(
        PYTHONPATH=site, VROOM_HOME=tmp_path / "var", VROOM_DATA_DIR=ROOT / "data", VROOM_WEB_HOST="127.0.0.1"
    )
    (tmp_path / "var").mkdir()

    def run(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
        )
        return done.stdout

    assert '"vehicles_added":1000' in run("-m", "vroom_features", "seed", "--json").replace(" ", "")
    assert run("-c", PAGE).split()[-2:] == [str(site / "webapp" / "__init__.py"), "200"]
