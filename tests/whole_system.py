"""The whole system as `make run` starts it, with its settings: for tests that reach inside."""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.ports import free_ports
from tests.promises.system import ROOT, STOP_TIMEOUT_S, System, running, wait_until
from vroom_features.settings import Settings

__all__ = ["STOP_TIMEOUT_S", "WholeSystem", "system_settings", "whole_system"]


@dataclass(frozen=True)
class WholeSystem:
    """A running system, and the settings it runs with."""

    settings: Settings
    system: System

    @property
    def url(self) -> str:
        return self.system.url

    @property
    def process(self) -> "subprocess.Popen[str]":
        return self.system.process

    @property
    def password(self) -> str:
        return (self.settings.home / "operator-password").read_text().strip()

    def wait_for_version(self, version: int) -> None:
        """Wait until every web worker answers with a version."""
        wait_until(lambda: self.system.serves(version))


def system_settings(home: Path, data_dir: Path = ROOT / "data") -> Settings:
    """Return settings with free ports."""
    web, events, redis, mlflow, prefect = free_ports(5)
    return Settings(
        _env_file=None,
        home=home,
        data_dir=data_dir,
        web_port=web,
        web_events_port=events,
        redis_port=redis,
        mlflow_port=mlflow,
        prefect_port=prefect,
    )


@contextmanager
def whole_system(
    home: Path, data_dir: Path = ROOT / "data", more: Mapping[str, str] | None = None
) -> Iterator[WholeSystem]:
    """Run everything, with more variables, until it has done the main job; stop it at the end."""
    with running(home, data_dir, more) as system:
        variables = {name: system.environment.get(f"VROOM_{name.upper()}") for name in Settings.model_fields}
        given = {name: value for name, value in variables.items() if value is not None}
        yield WholeSystem(Settings(_env_file=None, **given), system)
