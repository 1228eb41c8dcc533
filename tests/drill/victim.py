"""Every step of every flow, done in a fork that is stopped at its n-th operation.

The process that forks imports this module once, so that a kill costs no imports.  The settings come from the
environment, as in a flow run.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

from prefect.logging import disable_run_logger

from flows.materialize import seed_source, write_stores
from flows.monitor import check_drift
from flows.promotion import compare_and_promote
from flows.rollback import roll_back
from flows.training import train_and_register
from tests import operations
from vroom_features.errors import VroomFeaturesError
from vroom_features.settings import Settings
from vroom_model.errors import VroomModelError


def _materialize(settings: Settings, as_of: datetime) -> None:
    asyncio.run(seed_source.fn(settings, settings.data_dir, now=as_of))
    asyncio.run(write_stores.fn(settings, as_of))


def _train(settings: Settings, as_of: datetime, seed: int, model_name: str = "") -> None:
    named = settings.model_copy(update={"model_name": model_name or settings.model_name})
    asyncio.run(train_and_register.fn(named, seed, as_of))


STEPS: dict[str, Callable[..., object]] = {
    "materialize": _materialize,
    "training": _train,
    "promotion": lambda settings, as_of, version: asyncio.run(
        compare_and_promote.fn(settings, version, "the drill promotes", as_of)
    ),
    "rollback": lambda settings, as_of: asyncio.run(roll_back.fn(settings, "the drill goes back", as_of)),
    "monitor": lambda settings, as_of: asyncio.run(check_drift.fn(settings, as_of)),
}


def run_step(
    name: str,
    as_of: datetime,
    *,
    stop_at: int = 0,
    error: int | None = None,
    only: frozenset[str] | None = None,
    **more: Any,  # what the step takes
) -> operations.Ended:
    """Run a step in a fork, stopped at an operation; see `operations.run`."""
    logging.disable(logging.WARNING)

    def succeeds() -> bool:
        try:
            with disable_run_logger():
                STEPS[name](Settings(_env_file=None), as_of, **more)
        except (VroomFeaturesError, VroomModelError):  # any other error shows its trace
            return False
        return True

    return operations.run(succeeds, at=stop_at, error=error, only=only)
