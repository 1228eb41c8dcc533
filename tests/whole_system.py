"""Servers of the web app, and settings of a system that tests start, for tests that reach inside."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import httpx

from tests.ports import free_ports
from tests.promises.system import PORTS, ROOT, started
from vroom_features.settings import Settings


def settings_in(environment: Mapping[str, str]) -> Settings:
    """Return the settings of a program with this environment."""
    with patch.dict(os.environ, environment, clear=True):
        return Settings(_env_file=None)


def system_settings(home: Path, data_dir: Path = ROOT / "data") -> Settings:
    """Return settings with free ports."""
    ports = {name: str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)}
    return settings_in(ports | {"VROOM_HOME": str(home), "VROOM_DATA_DIR": str(data_dir)})


@contextmanager
def serving(what: str, port: int, environment: Mapping[str, str]) -> Iterator[str]:
    """Run a server of the web app for the time of the block; yield its address once it answers."""
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "webapp", what]
    with started(command, lambda: httpx.get(f"{url}/health").is_success, environment=environment):
        yield url
