"""The Prefect worker of `make run`, which tells Prefect of runs that a killed worker left behind.

A worker reports how its runs end.  When it is killed nobody does, for those it had begun: Prefect would show
them as under way for ever, hold their deployment's one place for them, and the web app would wait for their
end.  Their processes may outlive the worker, so the next one looks again until all have ended.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Set
from pathlib import Path
from uuid import UUID

import httpx
from prefect import State
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Crashed
from prefect.utilities.processutils import setup_signal_handlers_worker
from prefect.workers.process import ProcessWorker

POOL = "vroom"
UNDER_WAY = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
LOOK_INTERVAL_S = 2.0

logger = logging.getLogger(__name__)


async def work() -> None:
    """Run what is scheduled until told to stop, and meanwhile report what the worker before left behind."""
    setup_signal_handlers_worker(os.getpid(), "the worker", logger.info)
    inherited = await runs_under_way()  # none of them is this worker's, which has taken none yet
    reporting = asyncio.create_task(report_until_ended(inherited, pause))
    try:
        await ProcessWorker(work_pool_name=POOL, create_pool_if_not_found=False).start()
    finally:
        reporting.cancel()


async def pause() -> None:
    """Let some time go by between two looks."""
    await asyncio.sleep(LOOK_INTERVAL_S)


async def runs_under_way() -> set[UUID]:
    """Return our flows' runs that Prefect takes to be under way."""
    async with get_client() as client:
        return {run.id for run in await _under_way(client)}


async def report_until_ended(inherited: Set[UUID], pause: Callable[[], Awaitable[None]]) -> None:
    """Report those of these runs whose processes are gone, until every one has an end.

    Parameters
    ----------
    inherited : set of UUID
        Runs that another worker began.  Those that this one takes are its own to report: it makes them
        pending before they have a process.
    pause : callable
        What to wait for between two looks.
    """
    while inherited:
        try:
            inherited, lost = await report_lost(inherited)
        except httpx.HTTPError as exc:
            logger.warning("runs that a killed worker left cannot be looked at yet: %r", exc)
        else:
            for run_id in sorted(lost):
                logger.warning("run %s had no process any more and is reported as crashed", run_id)
        await pause()


async def report_lost(inherited: Set[UUID]) -> tuple[Set[UUID], Set[UUID]]:
    """Set every one of these runs whose process is gone to Crashed; it can be started again.

    Returns
    -------
    set of UUID
        Those that live.
    set of UUID
        Those that were lost.  Steps of a run go with it.
    """
    async with get_client() as client:
        under_way = [run for run in await _under_way(client) if run.id in inherited]
        living = {run.id for run in under_way if _is_alive(run.infrastructure_pid)}
        if living:  # and a step of theirs has no process of its own
            living |= {run.id for run in under_way if run.parent_task_run_id is not None}
        lost = {run.id for run in under_way} - living
        for run_id in lost:
            state: State[None] = Crashed(message="its process and its worker were gone; start it again")
            await client.set_flow_run_state(run_id, state, force=True)
    return living, lost


async def _under_way(client: PrefectClient) -> list[FlowRun]:
    return await client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(like_="vroom_forecast_")),
        flow_run_filter=FlowRunFilter.model_validate({"state": {"type": {"any_": UNDER_WAY}}}),
    )


def _is_alive(pid: str | None) -> bool:
    """Tell whether a process of Prefect's with this id runs on this machine."""
    try:
        os.kill(int(pid or ""), 0)
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:  # it runs, and belongs to somebody else
        return True
    except FileNotFoundError:  # ended just now; or no Linux, where the id has to do
        return not Path("/proc/self").exists()
    return b"prefect" in command  # neither a zombie nor, after a restart of the machine, another's process
