"""Every step of every flow, done in a child that is stopped at its n-th operation.

``python -m tests.drill.victim`` imports everything once and then takes orders, one line of JSON each: what to
do, the operation to stop at, how.  It answers with one line.  Each order runs in a fork, so a kill costs
no imports.  The settings come from the environment, as in a flow run.
"""

import asyncio
import hashlib
import json
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flows.materialize import seed_source, write_stores
from flows.monitor import check_drift
from flows.promotion import compare_and_promote
from flows.rollback import go_back
from flows.training import train_and_register
from tests import operations
from tests.drill.clock import now
from vroom_features.errors import VroomFeaturesError
from vroom_features.settings import Settings
from vroom_model.errors import VroomModelError
from vroom_model.manifest import MANIFEST_NAME, ModelManifest
from vroom_model.registry.registry import Registry
from vroom_model.training.register import register_candidate
from vroom_model.training.train import TrainedModel, train

Work = Callable[[Settings, dict[str, Any]], object]


def _materialize(settings: Settings, _: dict[str, Any]) -> None:
    asyncio.run(seed_source.fn(settings, settings.data_dir))
    asyncio.run(write_stores.fn(settings, now()))


def _train(settings: Settings, order: dict[str, Any]) -> None:
    """Train into a folder, for `_register`."""
    from vroom_features.offline.snapshots import OfflineStore  # noqa: PLC0415 - of this order alone

    folder = Path(order["folder"])
    folder.mkdir()
    train(OfflineStore(settings.offline_store).current(), directory=folder, as_of=now(), seed=order["seed"])


def _register(settings: Settings, order: dict[str, Any]) -> None:
    """Register what was trained: the part of training that leaves the process."""
    folder = Path(order["folder"])
    manifest = ModelManifest.read(folder)
    digest = hashlib.sha256((folder / MANIFEST_NAME).read_bytes()).hexdigest()
    with Registry(settings.mlflow, order["model_name"]) as registry:
        register_candidate(registry, TrainedModel(folder, manifest, digest))


WORKS: dict[str, Work] = {
    "materialize": _materialize,
    "train": _train,
    "register": _register,
    "training": lambda settings, order: asyncio.run(train_and_register.fn(settings, order["seed"], now())),
    "promotion": lambda settings, order: asyncio.run(
        compare_and_promote.fn(settings, order["version"], "the drill wants it", now())
    ),
    "rollback": lambda settings, _: asyncio.run(go_back.fn(settings, "the drill goes back", now())),
    "monitor": lambda settings, _: asyncio.run(check_drift.fn(settings, now())),
}
"""What can be ordered."""


def main() -> None:
    """Take orders until the input ends."""
    logging.disable(logging.WARNING)
    settings = Settings(_env_file=None)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints is no answer
    answers.write('{"ready": true}\n')
    for line in sys.stdin:
        order = json.loads(line)
        only = frozenset(order["only"]) if order.get("only") else None
        ended = operations.run(
            lambda order=order: _succeeds(settings, order),  # type: ignore[misc]  # bound at once
            at=order.get("at", 0),
            error=order.get("error"),
            only=only,
        )
        answers.write(f"{json.dumps(asdict(ended))}\n")


def _succeeds(settings: Settings, order: dict[str, Any]) -> bool:
    """Do it; an error on purpose is a failure, any other shows its trace and is one too."""
    try:
        WORKS[order["work"]](settings, order)
    except (VroomFeaturesError, VroomModelError):
        return False
    return True


if __name__ == "__main__":
    main()
