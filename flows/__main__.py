"""Commands: `python -m flows up` starts the whole system; the others are parts of it."""

import sys

from cyclopts import App

from vroom_features.errors import SettingsError

app = App(name="python -m flows", help="Start the system, and run its main job.")
# By name: `automation` runs where Redis and the supervisor are not installed, and `up` need not wait two
# seconds for Prefect to be imported.
app.command(
    "flows.local.up:start",
    name="up",
    help="Start every service, run the main job once, and serve until Ctrl-C.",
)
app.command(
    "flows.local.first_run:start_first_run",
    name="first-run",
    help="Run materialize and the pipeline through their deployments.",
)
app.command(
    "flows.local.lost_runs:start_automation",
    name="automation",
    help="Have Prefect report runs whose process is gone.",
)


if __name__ == "__main__":
    try:
        sys.exit(app())
    except SettingsError as exc:
        sys.stderr.write(f"{exc}\n")
        sys.exit(2)
