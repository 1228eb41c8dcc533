"""The Prefect worker of `make run`, which first tells Prefect of runs that a killed worker left behind.

A worker reports how its runs end.  When worker and run are killed together nobody does: Prefect would show
the run as running for ever, hold the deployment's one place for it, and the web app would wait for its end.
"""

import os
from uuid import UUID

from prefect import State
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Crashed

POOL = "vroom"
UNDER_WAY = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]


async def report_lost_runs() -> list[UUID]:
    """Set every run of ours whose process is gone to Crashed; it can be started again.

    Returns
    -------
    list of UUID
        The runs that were lost.  Steps of a run go with it.
    """
    async with get_client() as client:
        under_way = await _under_way(client)
        if any(run.infrastructure_pid and _is_alive(run.infrastructure_pid) for run in under_way):
            under_way = [run for run in under_way if run.parent_task_run_id is None]
        lost = [
            run for run in under_way if not (run.infrastructure_pid and _is_alive(run.infrastructure_pid))
        ]
        for run in lost:
            state: State[None] = Crashed(message="its process and its worker were gone; start it again")
            await client.set_flow_run_state(run.id, state, force=True)
    return [run.id for run in lost]


async def _under_way(client: PrefectClient) -> list[FlowRun]:
    """Return our flows' runs that Prefect takes to be under way."""
    return await client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(like_="vroom_forecast_")),
        flow_run_filter=FlowRunFilter.model_validate({"state": {"type": {"any_": UNDER_WAY}}}),
    )


def _is_alive(pid: str) -> bool:
    """Tell whether a process of this machine runs."""
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:  # it runs, and belongs to somebody else
        return True
    return True
