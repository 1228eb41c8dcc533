"""What `make run` does once the services are up: the automation of lost runs, and the main job."""

import asyncio
from contextlib import closing

from prefect.deployments import arun_deployment
from prefect.exceptions import ObjectNotFound
from rich.console import Console

from flows.local.lost_runs import create_automation
from flows.local.waiting import waiting_for
from flows.materialize import holds_sample
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import VroomFeaturesError
from vroom_features.settings import Settings, read_settings

STEPS = {
    "vroom_forecast_materialize": "Reading the CSV files and computing features",
    "vroom_forecast_pipeline": "Training a model and comparing it",
}
STEP_TIMEOUT_S: float | None = None
"""Each flow has a time limit of its own, and a lost run is set to Crashed."""


def start_first_run() -> int:
    """Return the exit code of the main job."""
    return 0 if asyncio.run(first_run(read_settings(), Console())) else 1


async def first_run(settings: Settings, console: Console) -> bool:
    """Create the automation, run the steps up to one that fails, and return whether all completed.

    If the database has the sample and another folder of CSVs is set, its files replace the whole sample.
    """

    def fail(reason: str) -> bool:
        console.print(reason, style="red", highlight=False, soft_wrap=True)
        return False

    try:
        with closing(SourceStore.open(settings.source_database)) as source:
            replaces_sample = settings.is_data_dir_set and holds_sample(source)
    except VroomFeaturesError as exc:
        return fail(f"the main job failed: {exc}")
    await create_automation()
    parameters = {"vroom_forecast_materialize": {"allow_removals": True}} if replaces_sample else {}
    for step, text in STEPS.items():
        with waiting_for(settings, console, text):
            try:
                run = await arun_deployment(
                    f"{step}/{step}",
                    parameters=parameters.get(step),
                    timeout=STEP_TIMEOUT_S,
                    poll_interval=0.5,
                )
            except ObjectNotFound:
                return fail(f"{step} is not deployed; run: prefect deploy --all")
        state = run.state
        if state is None or not state.is_completed():
            return fail(f"{step} failed: {(state and state.message) or 'it did not end in time'}")
        console.print(f"{step}: {state.message or 'completed'}", highlight=False, soft_wrap=True)
    return True
