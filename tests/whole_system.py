"""Settings of a system that tests start, for tests that reach inside."""

import os
from collections.abc import Mapping
from pathlib import Path
from unittest.mock import patch

from tests.ports import free_ports
from tests.promises.system import PORTS, ROOT
from vroom_features.settings import Settings


def settings_in(environment: Mapping[str, str]) -> Settings:
    """Return the settings of a program with this environment."""
    with patch.dict(os.environ, environment, clear=True):
        return Settings(_env_file=None)


def system_settings(home: Path, data_dir: Path = ROOT / "data") -> Settings:
    """Return settings with free ports."""
    ports = {name: str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)}
    return settings_in(ports | {"VROOM_HOME": str(home), "VROOM_DATA_DIR": str(data_dir)})
