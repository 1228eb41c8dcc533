"""Commands: `python -m flows up` starts the whole system; `first-run` does the main job on a running one."""

import asyncio
import sys

from cyclopts import App
from rich.console import Console

from flows.up import up
from vroom_features.settings import Settings

app = App(name="python -m flows", help="Start the system, and run its main job.")


@app.command(name="up")
def start() -> int:
    """Start every service, run the main job once, and serve until Ctrl-C."""
    return up(Settings(), Console())


@app.command
def first_run() -> int:
    """Run materialize and the pipeline through their deployments."""
    from flows.first_run import first_run as run  # noqa: PLC0415  # Prefect takes two seconds, which `up` need not wait

    return 0 if asyncio.run(run(Console())) else 1


if __name__ == "__main__":
    sys.exit(app())
