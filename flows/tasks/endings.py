"""How every flow ends: in a state whose message is one sentence; open pages and the webhook are sent it."""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from prefect import Flow, State
from prefect.client.schemas.objects import FlowRun
from prefect.states import Failed

from flows.tasks.partitions import ClusterError
from flows.tasks.reports import publish
from vroom_features.errors import SettingsError, VroomFeaturesError
from vroom_features.messages import RunFinished
from vroom_features.settings import read_settings
from vroom_model.errors import VroomModelError
from vroom_model.webhook import post

P = ParamSpec("P")
T = TypeVar("T")


def fails_in_a_sentence(
    body: Callable[P, Coroutine[Any, Any, State[T]]],
) -> Callable[P, Coroutine[Any, Any, State[T]]]:
    """Decorate a flow so that an error raised on purpose is its state's message, without a traceback."""

    @wraps(body)
    async def ending(*args: P.args, **kwargs: P.kwargs) -> State[T]:
        try:
            return await body(*args, **kwargs)
        except (VroomFeaturesError, VroomModelError, ClusterError) as exc:
            return Failed(message=str(exc), data=exc)

    return ending


async def send_end(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Send the end of a run: a hook of every flow, called when Prefect has its state."""
    try:
        settings = read_settings()
    except SettingsError:  # which is what the run failed of
        return
    run_id, message = str(flow_run.id), state.message or ""
    publish(settings, RunFinished(flow=flow.name, run_id=run_id, state=state.name or "", message=message))
    if (
        not state.is_completed() and flow_run.parent_task_run_id is None
    ):  # a subflow's failure is its parent's
        text = f"{flow.name} failed: {message}"
        await post(settings, {"event": "run-failed", "text": text, "flow": flow.name, "run_id": run_id})


ENDS: dict[str, Any] = {when: [send_end] for when in ("on_completion", "on_failure", "on_crashed")}
"""Hooks of every flow; the worker calls the last for a run whose process was killed."""
