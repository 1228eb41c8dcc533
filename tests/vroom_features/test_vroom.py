"""The command ``vroom``: which words it knows, and what each of them starts."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.promises.system import ROOT
from vroom_features.commands.vroom import COMMANDS

VROOM = str(Path(sys.executable).with_name("vroom"))
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def run(*command: str, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


def test_help_names_every_command_and_an_unknown_word_is_refused_with_all_of_them() -> None:
    told, refused = run(VROOM, "--help").stdout, run(VROOM, "frobnicate")
    assert run(VROOM).stdout == told
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "got 'frobnicate'" in refused.stderr
    for name in COMMANDS:
        assert f"\n  {name} " in told
        assert name in refused.stderr


@pytest.mark.parametrize("command", [(VROOM,), (sys.executable, "-m", "vroom_features")])
def test_the_version_is_that_of_the_package(command: tuple[str, ...]) -> None:
    assert run(*command, "--version").stdout == f"{VERSION}\n"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("seed", "--allow-removals"),
        ("web", "{app,events}"),
        pytest.param("up", "serve until Ctrl-C", marks=pytest.mark.packaging),
        pytest.param("worker", "--pool", marks=pytest.mark.packaging),
    ],
)
def test_a_word_starts_its_module_whatever_this_folder_holds(tmp_path: Path, name: str, told: str) -> None:
    for package in ("flows", "vroom_features", "webapp"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise SystemExit('another package')")
    done = run(VROOM, name, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert told in done.stdout
