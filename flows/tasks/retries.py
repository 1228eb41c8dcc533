"""Which failures are worth another try: a service that was away is, a refusal is not."""

from typing import Any

from prefect import State, Task
from prefect.client.schemas.objects import TaskRun

from vroom_features.errors import DataContractError, NoSnapshotError
from vroom_model.errors import (
    BaselineError,
    BrokenModelError,
    ForceReasonError,
    LongReasonError,
    ModelNotFoundError,
    TrainingDataError,
)

REFUSALS = (
    BaselineError,
    BrokenModelError,
    DataContractError,
    ForceReasonError,
    LongReasonError,
    ModelNotFoundError,
    NoSnapshotError,
    TrainingDataError,
)
"""Repeating changes nothing about these."""


def is_worth_repeating(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Tell Prefect whether a failed task may come out otherwise when it is run again."""
    return not isinstance(state.data, REFUSALS)
