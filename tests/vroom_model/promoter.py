"""A process that promotes or rolls back once: `python -m tests.vroom_model.promoter '{...}'`.

It says `ready`, waits for a line, acts, and prints the outcome.
"""

import sys
from datetime import datetime

import redis
from pydantic import BaseModel

from tests.snapshots import read_fleet
from vroom_features.database.vehicles import SourceStore
from vroom_model.messages import ModelPromoted
from vroom_model.registry.promotion import PromotionService
from vroom_model.registry.registry import Registry


class Task(BaseModel):
    """What to do, and where."""

    mlflow: str
    model_name: str
    database: str
    redis: str
    as_of: datetime
    version: int | None = None
    rollback: bool = False


def main(task: Task) -> None:
    def publish(message: ModelPromoted) -> None:
        with redis.Redis.from_url(task.redis) as client:
            client.publish(message.channel, message.encode())

    snapshot = read_fleet()
    with Registry(task.mlflow, task.model_name) as registry:
        promotions = PromotionService(registry, SourceStore.open(task.database), publish=publish)
        print("ready", flush=True)
        sys.stdin.readline()
        if task.rollback:
            outcome = promotions.rollback(as_of=task.as_of)
        else:
            outcome = promotions.promote(snapshot, as_of=task.as_of, version=task.version)
    print(outcome.model_dump_json(), flush=True)


if __name__ == "__main__":
    main(Task.model_validate_json(sys.argv[1]))
