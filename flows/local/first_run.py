"""The main job, once, through the deployments: what `make run` does after the services are up."""

from contextlib import closing

from prefect.deployments import arun_deployment
from prefect.exceptions import ObjectNotFound
from rich.console import Console

from flows.local.automation import create_automation
from flows.local.sample import holds_sample
from vroom_features.database.vehicles import SourceStore
from vroom_features.errors import VroomFeaturesError
from vroom_features.settings import Settings

STEPS = ("vroom_forecast_materialize", "vroom_forecast_pipeline")
STEP_TIMEOUT_S = 3600


async def first_run(settings: Settings, console: Console) -> bool:
    """Run materialize and the pipeline by their deployments, and print what each did.

    First have Prefect report runs that get lost.

    A folder of CSVs that somebody named takes the place of the whole sample, which can be made again.

    Returns
    -------
    bool
        Whether every step completed; a step after a failed one is not started.
    """
    try:
        with closing(SourceStore.open(settings.source_database)) as source:
            replaces_sample = settings.is_data_dir_set and holds_sample(source)
    except VroomFeaturesError as exc:
        console.print(f"the main job failed: {exc}", style="red", highlight=False, soft_wrap=True)
        return False
    await create_automation()
    parameters = {STEPS[0]: {"allow_removals": True}} if replaces_sample else {}
    for step in STEPS:
        with console.status(f"{step} is running"):
            try:
                run = await arun_deployment(
                    f"{step}/{step}",
                    parameters=parameters.get(step),
                    timeout=STEP_TIMEOUT_S,
                    poll_interval=0.5,
                )
            except ObjectNotFound:
                console.print(
                    f"{step} is not deployed; run: prefect deploy --all", style="red", highlight=False
                )
                return False
        state = run.state
        if state is None or not state.is_completed():
            reason = "it did not end in time" if state is None or not state.is_final() else state.message
            console.print(f"{step} failed: {reason}", style="red", highlight=False, soft_wrap=True)
            return False
        console.print(f"{step}: {state.message or 'completed'}", highlight=False, soft_wrap=True)
    return True
